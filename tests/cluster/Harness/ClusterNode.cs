using System.Text.Json.Nodes;

namespace OverlayNet.ClusterTests.Harness;

/// <summary>A node: a namespace on the underlay and the daemon in it.</summary>
public sealed class ClusterNode
{
    private readonly Cluster _cluster;

    internal ClusterNode(Cluster cluster, int index)
    {
        _cluster = cluster;
        Index = index;
    }

    /// <summary>From 1.</summary>
    public int Index { get; }

    public string Name => $"node{Cluster.Number(Index)}";

    public string Netns => $"{_cluster.Prefix}n{Cluster.Number(Index)}";

    public string Address => $"192.0.2.{Cluster.Number(Index)}";

    public string Address6 => $"2001:db8:2::{Cluster.Number(Index)}";

    public string Directory => $"{_cluster.Directory}/nodes/{Cluster.Number(Index)}";

    public string Socket => $"{Directory}/api.sock";

    public string State => $"{Directory}/state";

    public string LogFile => $"{Directory}/daemon.log";

    public string Log => File.ReadAllText(LogFile);

    public int Pid => int.Parse(File.ReadAllText($"{Directory}/daemon.pid"), System.Globalization.CultureInfo.InvariantCulture);

    /// <summary>Names of the namespaces that this node's daemon has made.</summary>
    public IReadOnlyList<string> NetworkNamespaces
    {
        get
        {
            var prefix = $"on-{Id[..6]}-";
            return [.. System.IO.Directory.EnumerateFiles("/run/netns").Select(Path.GetFileName).OfType<string>().Where(name => name.StartsWith(prefix, StringComparison.Ordinal)).Order(StringComparer.Ordinal)];
        }
    }

    private string Id => field ??= (string)CliJson("status")["nodeId"]!;

    public string NetworkNamespace(string network) => $"on-{Id[..6]}-{network}";

    /// <summary>Adds lines to the configuration of its daemon, which takes them when it starts.</summary>
    public void Configure(params IEnumerable<string> settings) => File.AppendAllLines($"{Directory}/config.yaml", settings);

    /// <summary>Where its daemon and its command line are: another release than the one under test, or that one again (null). Taken when it starts.</summary>
    public string? Programs
    {
        get => File.Exists(ProgramsFile) ? File.ReadAllText(ProgramsFile) : null;
        set
        {
            if (value is null)
                File.Delete(ProgramsFile);
            else
                File.WriteAllText(ProgramsFile, value);
        }
    }

    private string ProgramsFile => $"{Directory}/programs";

    public void Start() => Cluster.Script("start", _cluster.Directory, Cluster.Number(Index));

    /// <summary>SIGTERM, and waits for its end.</summary>
    public void Stop() => Cluster.Script("stop", _cluster.Directory, Cluster.Number(Index));

    /// <summary>SIGKILL, and waits for its end.</summary>
    public void Kill() => Cluster.Script("kill", _cluster.Directory, Cluster.Number(Index));

    /// <summary>The program against this node's daemon, whatever comes of it.</summary>
    public CommandResult TryCli(params IEnumerable<string> arguments) => Commands.Run(Path.Combine(Programs ?? Tree.Out, "overlaynet"), ["--socket", Socket, .. arguments]);

    public CommandResult Cli(params IEnumerable<string> arguments) => TryCli(arguments).Succeeded();

    public JsonNode CliJson(params IEnumerable<string> arguments) => JsonNode.Parse(Cli([.. arguments, "--json"]).Output)!;

    /// <summary>Everything of this node and its networks that a restart must not change. Counters and timers are left out.</summary>
    public string KernelDump() => Dump.Of([Netns, .. NetworkNamespaces]);
}
