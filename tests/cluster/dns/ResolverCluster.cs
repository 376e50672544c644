using OverlayNet.ClusterTests.Harness;

namespace OverlayNet.ClusterTests.Dns;

/// <summary>
/// Two nodes with the networks red and blue. Service web is on both, onlyred and onlyblue on one each; red's web has a
/// backend. A container on node 2 is on both networks.
/// </summary>
public sealed class ResolverCluster : IDisposable
{
    public ResolverCluster()
    {
        Cluster = Cluster.Start(2);
        try
        {
            Cluster.Nodes[0].Cli("network", "create", "--subnet", "10.71.0.0/24", "--subnet6", "fd00:71::/64", "red");
            Cluster.Nodes[0].Cli("network", "create", "--subnet", "10.72.0.0/24", "blue");
            Red = Vip("red", "web");
            Blue = Vip("blue", "web");
            OnlyRed = Vip("red", "onlyred");
            OnlyBlue = Vip("blue", "onlyblue");
            Cluster.AddBackend("redweb", Cluster.Nodes[0], "red", "web");
            // The network attached last is the one resolv.conf names first.
            Both = Cluster.Attach("both", Cluster.Nodes[1], "blue");
            Both.Attach("red");
            Wait.Until("node 2 knows every name", () => Dig("10.71.0.1", "web") == Red && Dig("10.72.0.1", "onlyblue") == OnlyBlue);
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    public Cluster Cluster { get; }

    public Container Both { get; }

    /// <summary>The IPv4 VIPs.</summary>
    public string Red { get; }

    public string Blue { get; }

    public string OnlyRed { get; }

    public string OnlyBlue { get; }

    public string Dig(string server, string name) => Both.Exec("dig", "+short", "+tries=1", "+time=2", $"@{server}", name, "A").Text;

    public void Dispose() => Cluster.Dispose();

    private string Vip(string network, string service)
    {
        Cluster.Nodes[0].Cli("service", "create", "--network", network, "--port", "80", service);
        return (string)Cluster.Nodes[0].CliJson("service", "inspect", "--network", network, service)[0]!["vip4"]!;
    }
}
