using System.Globalization;
using System.Runtime.InteropServices;

namespace OverlayNet.ClusterTests.Harness;

/// <summary>
/// A cluster of nodes that are namespaces on one underlay, as <c>tools/lib/cluster.sh</c> lays it out: the same that
/// the quick start and the benchmarks use. Gone when disposed, when the process ends, or at the next run's sweep.
/// </summary>
public sealed class Cluster : IDisposable
{
    private const string Runs = "/run/overlaynet-clusters";
    private static int _count;
    private readonly List<Container> _containers = [];
    private readonly PosixSignalRegistration _onTerm;
    private bool _disposed;

    static Cluster() => Script("sweep");

    private Cluster(string name, int nodes, int underlayFamily)
    {
        Prefix = $"{name}-";
        Directory = $"{Runs}/{name}";
        // A run that is interrupted cleans up; one that is killed hard is swept by the next.
        AppDomain.CurrentDomain.ProcessExit += OnExit;
        _onTerm = PosixSignalRegistration.Create(PosixSignal.SIGTERM, _ => Dispose());
        try
        {
            Script("up", Directory, Prefix, Number(nodes), "--owner", Number(Environment.ProcessId), "--underlay", Number(underlayFamily));
            Nodes = [.. Enumerable.Range(1, nodes).Select(index => new ClusterNode(this, index))];
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    public string Prefix { get; }

    public string Directory { get; }

    public IReadOnlyList<ClusterNode> Nodes { get; }

    public IReadOnlyList<Container> Containers => _containers;

    public string Lan => $"{Prefix}lan";

    /// <summary>A host beyond the nodes' default route that knows nothing of the cluster; it also has <see cref="OutsideAddress"/>.</summary>
    public string Outside => $"{Prefix}out";

    public static string OutsideAddress => "198.51.100.1";

    /// <summary>Nodes whose daemons run and form a cluster (node 1 is its manager).</summary>
    /// <param name="underlayFamily">4 or 6: the VTEPs' family.</param>
    /// <param name="settings">Lines for every node's configuration, such as <c>metrics.listen: 0.0.0.0:7374</c>.</param>
    public static Cluster Start(int nodes = 3, int underlayFamily = 4, params string[] settings)
    {
        var cluster = Lay(nodes, underlayFamily);
        try
        {
            foreach (var node in cluster.Nodes)
                node.Configure(settings);
            foreach (var node in cluster.Nodes)
                node.Start();
            Script("form", cluster.Directory);
            return cluster;
        }
        catch
        {
            cluster.Dispose();
            throw;
        }
    }

    /// <summary>Nodes without daemons.</summary>
    public static Cluster Lay(int nodes, int underlayFamily = 4) =>
        new(string.Create(CultureInfo.InvariantCulture, $"ont{Environment.ProcessId}{(char)('a' + (Interlocked.Increment(ref _count) - 1) % 26)}"), nodes, underlayFamily);

    /// <summary>A namespace that is attached to nothing.</summary>
    public Container AddContainer(string name, ClusterNode node)
    {
        Script("container", Directory, name);
        var container = new Container(this, name, node);
        _containers.Add(container);
        return container;
    }

    /// <summary>A namespace attached to a network, and to a service when one is named.</summary>
    public Container Attach(string name, ClusterNode node, string network, string? service = null, params string[] more)
    {
        var container = AddContainer(name, node);
        container.Attach(network, service, more);
        return container;
    }

    /// <summary>An attached container that answers HTTP on port 80 of its addresses.</summary>
    public Container AddBackend(string name, ClusterNode node, string network, string service)
    {
        var container = Attach(name, node, network, service);
        container.Serve(80);
        return container;
    }

    public void Dispose()
    {
        if (_disposed)
            return;
        _disposed = true;
        AppDomain.CurrentDomain.ProcessExit -= OnExit;
        foreach (var container in _containers)
            container.Dispose();
        KeepLogs();
        Commands.Run("bash", Tree.ClusterScript, "down", Directory);
        _onTerm.Dispose();
    }

    internal static CommandResult Script(params IEnumerable<string> arguments) => Commands.Run("bash", [Tree.ClusterScript, .. arguments]).Succeeded();

    internal void Forget(Container container) => _containers.Remove(container);

    private void OnExit(object? sender, EventArgs e) => Dispose();

    /// <summary>The daemons' logs go where OVERLAYNET_TEST_LOGS says, for a look after a failure.</summary>
    private void KeepLogs()
    {
        if (Environment.GetEnvironmentVariable("OVERLAYNET_TEST_LOGS") is not { Length: > 0 } directory)
            return;
        System.IO.Directory.CreateDirectory(directory);
        foreach (var node in Nodes ?? [])
        {
            if (File.Exists(node.LogFile))
                File.Copy(node.LogFile, Path.Combine(directory, $"{Prefix}{node.Name}.log"), overwrite: true);
        }
    }

    internal static string Number(int value) => value.ToString(CultureInfo.InvariantCulture);
}
