using System.Text.RegularExpressions;
using OverlayNet.ClusterTests.Harness;

namespace OverlayNet.ClusterTests.MainJob;

/// <summary>What somebody else takes away from the kernel comes back within five seconds, and is said.</summary>
[Collection(WebClusterTests.Name)]
public sealed partial class DamageTests(WebCluster web)
{
    private static readonly TimeSpan Limit = TimeSpan.FromSeconds(5);

    [Fact]
    public void Fdb_entries_come_back() => Mended(netns =>
    {
        var remote = Commands.In(netns, "bridge", "fdb", "show").Succeeded().Lines.Where(line => line.Contains(" dst ", StringComparison.Ordinal)).ToList();
        Assert.NotEmpty(remote);
        foreach (var line in remote)
        {
            var words = line.Split(' ');
            Commands.In(netns, "bridge", "fdb", "del", words[0], "dev", words[Array.IndexOf(words, "dev") + 1], "dst", words[Array.IndexOf(words, "dst") + 1]).Succeeded();
        }
    });

    [Fact]
    public void Neighbours_come_back() => Mended(netns =>
    {
        var permanent = Commands.In(netns, "ip", "neigh", "show", "nud", "permanent").Succeeded().Lines.Where(line => line.Contains("lladdr", StringComparison.Ordinal)).ToList();
        Assert.NotEmpty(permanent);
        foreach (var words in permanent.Select(line => line.Split(' ')))
            Commands.In(netns, "ip", "neigh", "del", words[0], "dev", words[Array.IndexOf(words, "dev") + 1]).Succeeded();
    });

    [Fact]
    public void The_vxlan_device_comes_back() => Mended(netns => DeleteLinks(netns, "vxlan"));

    [Fact]
    public void The_bridge_comes_back() => Mended(netns => DeleteLinks(netns, "bridge"));

    [Fact]
    public void The_networks_tables_come_back() => Mended(DeleteTables);

    [Fact]
    public void A_clients_tables_come_back() => Mended(_ => DeleteTables(web.Clients[0].Netns), web.Clients[0].Netns);

    [Fact]
    public void The_nodes_own_tables_come_back() => Mended(_ => DeleteTables(web.Cluster.Nodes[0].Netns), web.Cluster.Nodes[0].Netns);

    private static void DeleteLinks(string netns, string kind)
    {
        var links = Commands.In(netns, "ip", "-o", "link", "show", "type", kind).Succeeded().Lines;
        Assert.NotEmpty(links);
        foreach (var name in links.Select(line => line.Split(": ")[1].Split('@')[0]))
            Commands.In(netns, "ip", "link", "del", name).Succeeded();
    }

    private static void DeleteTables(string netns)
    {
        foreach (var table in Commands.In(netns, "nft", "list", "tables").Succeeded().Lines)
            Commands.In(netns, "nft", ["delete", .. table.Split(' ')]).Succeeded();
    }

    private void Mended(Action<string> damage, string? place = null)
    {
        var node = web.Cluster.Nodes[0];
        var netns = node.NetworkNamespace(WebCluster.Network);
        var watched = place ?? netns;
        var before = Shape(watched);
        var mends = Mends(node);

        // The daemon may well be done before another look would show the damage: the events say that there was one.
        var logged = node.Log.Length;
        damage(netns);

        Wait.Until("an event says so", () => Mends(node) > mends, Limit);
        Wait.Until("the kernel is as it was", () => Shape(watched) == before, Limit, () => $"before:\n{before}\nnow:\n{Shape(watched)}");
        Assert.Contains("mended", node.Log[logged..], StringComparison.Ordinal);
        Assert.Equal(30, web.Clients[0].Ask($"http://{web.Vip}/", 30).Count);
        Assert.Equal(30, web.Clients[1].Ask($"http://{web.Vip}/", 30).Count);
    }

    private static int Mends(ClusterNode node) =>
        node.Cli("events", "--json").Lines.Count(line => line.Contains("\"mend\"", StringComparison.Ordinal));

    /// <summary>
    /// Links, static entries, addresses and rules, without what a new object cannot share with the old: indexes, handles,
    /// and the addresses that the kernel makes up for it (the MAC of a device we give none, link-local ones).
    /// </summary>
    private static string Shape(string netns)
    {
        static string Strip(string line) => Unstable().Replace(line, "").TrimEnd();
        var parts = new List<string>();
        foreach (var command in (string[][])[["ip", "-o", "-br", "link"], ["ip", "route"], ["ip", "-6", "route"], ["bridge", "fdb", "show"], ["ip", "neigh", "show", "nud", "permanent"], ["ip", "-o", "-br", "address"], ["nft", "-s", "list", "ruleset"]])
            parts.Add(string.Join('\n', Commands.In(netns, command[0], command[1..]).Succeeded().Lines.Select(Strip).Order(StringComparer.Ordinal)));
        return string.Join("\n\n", parts);
    }

    [GeneratedRegex(@"@\w+|# handle \d+|(?<=^vx\S* .*)([0-9a-f]{2}:){5}[0-9a-f]{2}|fe80::\S+|([0-9a-f]{2}:){5}[0-9a-f]{2} dev \S+ (vlan \d+ )?(master \S+ )?permanent$")]
    private static partial Regex Unstable();
}
