using OverlayNet.ClusterTests.Harness;

namespace OverlayNet.ClusterTests.MainJob;

/// <summary>What the wire between the nodes carries.</summary>
[Collection(WebClusterTests.Name)]
public sealed class UnderlayTests(WebCluster web)
{
    private const string Unassigned = "10.10.0.222";

    [Fact]
    public void Only_vxlan_between_the_right_vteps_carries_container_traffic()
    {
        using var capture = Capture.Start(web.Cluster.Lan, "br0");
        foreach (var client in web.Clients)
        {
            client.Ask($"http://{web.Vip}/", 30);
            client.Ask($"http://[{web.Vip6}]/", 30);
        }
        var packets = capture.Finish("", "frame.protocols", "ip.src", "ip.dst", "ipv6.src", "ipv6.dst", "udp.dstport", "tcp.port");

        var vtepOf = web.Backends.Concat(web.Clients)
            .SelectMany(container => new[] { (container.Address!, container.Node.Address), (container.Address6!, container.Node.Address) })
            .ToDictionary(entry => entry.Item1, entry => entry.Item2);
        var carried = 0;
        foreach (var packet in packets.Select(line => line.Split('\t')))
        {
            var (protocols, sources4, targets4, sources6, targets6) = (packet[0], Split(packet[1]), Split(packet[2]), Split(packet[3]), Split(packet[4]));
            if (!protocols.Contains("vxlan", StringComparison.Ordinal))
            {
                // Between the daemons, and the wire's own address resolution: never a container's address.
                Assert.DoesNotContain(sources4.Concat(targets4).Concat(sources6).Concat(targets6), vtepOf.ContainsKey);
                continue;
            }
            Assert.Equal("4789", packet[5].Split(',')[0]);
            // The outer address comes first; the inner is of either family.
            var (innerSource, innerTarget) = sources4.Length > 1 ? (sources4[1], targets4[1]) : sources6.Length > 0 ? (sources6[0], targets6[0]) : ("", "");
            if (!vtepOf.TryGetValue(innerSource, out var from) || !vtepOf.TryGetValue(innerTarget, out var to))
                continue;
            Assert.Equal((from, to), (sources4[0], targets4[0]));
            Assert.NotEqual(from, to);
            carried++;
        }
        Assert.True(carried > 500, $"{carried} packets of the requests were seen");
    }

    [Fact]
    public void Unknown_destinations_are_not_flooded()
    {
        var client = web.Clients[0];
        using var capture = Capture.Start(web.Cluster.Lan, "br0", "udp port 4789");
        // An address nobody has: its ARP request must stay where it is. Then a MAC nobody has.
        client.Exec("ping", "-c", "3", "-i", "0.2", "-W", "1", "10.10.0.223");
        client.Exec("ping", "-6", "-c", "3", "-i", "0.2", "-W", "1", "fd00:10::dead");
        client.Exec("ip", "neigh", "replace", Unassigned, "lladdr", "02:de:ad:be:ef:01", "dev", "eth0").Succeeded();
        try
        {
            client.Exec("ping", "-c", "5", "-i", "0.2", "-W", "1", Unassigned);
        }
        finally
        {
            client.Exec("ip", "neigh", "del", Unassigned, "dev", "eth0");
        }
        // A packet that does go through marks the end: what was sent before has been seen.
        Assert.Equal(0, client.Exec("ping", "-c", "1", "-W", "2", web.Backends[1].Address!).Code);
        var packets = capture.Finish("", "eth.dst", "arp.dst.proto_ipv4", "ip.dst", "ipv6.dst");

        Assert.NotEmpty(packets);
        Assert.DoesNotContain(packets, packet => packet.Contains("02:de:ad:be:ef:01", StringComparison.Ordinal) || packet.Contains("10.10.0.22", StringComparison.Ordinal)
            || packet.Contains("fd00:10::dead", StringComparison.Ordinal) || packet.Contains("ff02::1:ff00:dead", StringComparison.Ordinal));
    }

    private static string[] Split(string field) => field.Split(',', StringSplitOptions.RemoveEmptyEntries);
}
