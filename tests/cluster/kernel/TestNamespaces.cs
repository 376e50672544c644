using OverlayNet.Kernel;

namespace OverlayNet.ClusterTests.Kernel;

/// <summary>
/// Namespaces of one test: names start with <c>ovt-</c> and carry the test process's id, so that a later run can
/// sweep what a killed one left.
/// </summary>
public sealed class TestNamespaces : IDisposable
{
    private const string Prefix = "ovt-";
    private static int counter;
    private readonly List<string> names = [];
    private readonly string tag = $"{Prefix}{Environment.ProcessId}-{Interlocked.Increment(ref counter)}-";

    static TestNamespaces()
    {
        if (Environment.UserName != "root")
            throw new InvalidOperationException("these tests make network namespaces: run them as root (sudo ./tools/test cluster)");
        foreach (var name in NamedNamespaces.List().Where(name => name.StartsWith(Prefix, StringComparison.Ordinal)))
        {
            if (!int.TryParse(name.Split('-')[1], out var pid) || !Directory.Exists($"/proc/{pid}"))
                NamedNamespaces.Delete(name);
        }
    }

    /// <summary>Makes a namespace with a loopback that is up.</summary>
    /// <returns>Its name, for <c>ip -n</c>.</returns>
    public string Create(string suffix)
    {
        var name = tag + suffix;
        NamedNamespaces.Create(name);
        names.Add(name);
        Shell.Run($"ip -n {name} link set lo up");
        return name;
    }

    /// <summary>The name a namespace would get, so that one made by the code under test is swept too.</summary>
    public string Reserve(string suffix)
    {
        names.Add(tag + suffix);
        return tag + suffix;
    }

    public void Dispose()
    {
        foreach (var name in names)
            NamedNamespaces.Delete(name);
    }
}
