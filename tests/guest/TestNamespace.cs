using OverlayNet.Kernel;

namespace OverlayNet.GuestTests;

/// <summary>A network namespace for one test.</summary>
internal sealed class TestNamespace : IDisposable
{
    private static int count;

    internal TestNamespace()
    {
        Name = $"onguest-{Interlocked.Increment(ref count)}";
        NamedNamespaces.Create(Name);
        Shell.Run("ip", "-n", Name, "link", "set", "lo", "up");
    }

    internal string Name { get; }

    internal NetworkNamespace Open() => NamedNamespaces.OpenPinned(Name);

    /// <summary>Runs a program inside and gives its standard output.</summary>
    internal string Exec(string program, params string[] arguments) => Shell.Run("ip", ["netns", "exec", Name, program, .. arguments]);

    /// <summary>Runs a program inside with a text as its input.</summary>
    internal string ExecWithInput(string input, string program, params string[] arguments) =>
        Shell.Run("ip", input, ["netns", "exec", Name, program, .. arguments]);

    /// <summary>Commands for ip(8), in one process.</summary>
    internal void Ip(params string[] commands) => Shell.Run("ip", string.Join('\n', commands) + "\n", ["-n", Name, "-batch", "-"]);

    /// <summary>Commands for bridge(8), in one process.</summary>
    internal void Bridge(params string[] commands) => Shell.Run("bridge", string.Join('\n', commands) + "\n", ["-n", Name, "-batch", "-"]);

    /// <summary>Settings as sysctl(8) takes them: name=value.</summary>
    internal void Sysctl(params string[] settings)
    {
        using var opened = Open();
        foreach (var setting in settings)
            opened.SetSysctl(setting[..setting.IndexOf('=')].Replace('.', '/'), setting[(setting.IndexOf('=') + 1)..]);
    }

    public void Dispose() => NamedNamespaces.Delete(Name);
}
