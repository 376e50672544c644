using System.Reflection;

namespace OverlayNet.Daemon;

/// <summary>The version this daemon was built as.</summary>
public static class DaemonVersion
{
    public static string Text { get; } =
        typeof(DaemonVersion).Assembly.GetCustomAttribute<AssemblyInformationalVersionAttribute>()?.InformationalVersion.Split('+')[0] ?? "0";
}
