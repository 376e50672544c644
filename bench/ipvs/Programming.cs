using System.Diagnostics;
using System.Net;
using System.Text;
using OverlayNet.GuestTests;
using OverlayNet.Kernel.Netlink;
using OverlayNet.Vip;
using OverlayNet.Vip.Balancers.Ipvs;

namespace OverlayNet.Bench.Ipvs;

/// <summary>Fills an empty table with the same rules in three ways, and changes one among them.</summary>
internal static class Programming
{
    private const int ServersEach = 5;

    internal static IEnumerable<Summary> Run(int services, int rounds)
    {
        using var netns = new TestNamespace();
        netns.Ip("link add br0 type bridge", "link set br0 up");
        var config = Config(netns.Name, services);
        var changes = Changes(services);
        var rules = Rules(services);
        Summary batch = new("table by one batch of the family", "ms"), ipvsadm = new("table by ipvsadm -R", "ms"),
            apply = new("whole Apply: table, addresses, routes, settings", "ms"), again = new("Apply that finds nothing to do", "ms"),
            one = new("Apply of one weight among them", "ms"), oneBatch = new("one weight by the family", "ms"), oneTool = new("one weight by ipvsadm -e", "ms");
        using var opened = netns.Open();
        using var table = IpvsTable.TryOpen(opened) ?? throw new InvalidOperationException("no IPVS");
        for (var round = 0; round <= rounds; round++)
        {
            // The first round warms up both sides and is thrown away.
            void Keep(Summary summary, double value)
            {
                if (round > 0)
                    summary.Add(value);
            }
            Keep(batch, Time(() => Check(table.Batch(changes))));
            Keep(oneBatch, Time(() => table.Apply(IpvsChange.Set(Key(0), Server(0, 1 + round)))));
            netns.Exec("ipvsadm", "-C");
            Keep(ipvsadm, Time(() => netns.ExecWithInput(rules, "ipvsadm", "-R")));
            Keep(oneTool, Time(() => netns.Exec("ipvsadm", "-e", "-t", new IPEndPoint(Vip(0), 80).ToString(), "-r", "10.42.0.10:80", "-g", "-w", "3")));
            netns.Exec("ipvsadm", "-C");
            var balancer = new IpvsBalancer(TimeProvider.System);
            Keep(apply, Time(() => Check(balancer, config)));
            Keep(again, Time(() => Check(balancer, config)));
            var changed = Config(netns.Name, services, weight: 7 + round);
            Keep(one, Time(() => Check(balancer, changed)));
            balancer.Apply(Config(netns.Name, 0));
        }
        return [batch, ipvsadm, apply, again, one, oneBatch, oneTool];
    }

    private static double Time(Action action)
    {
        var clock = Stopwatch.StartNew();
        action();
        return clock.Elapsed.TotalMilliseconds;
    }

    private static void Check(IReadOnlyList<NetlinkResult> results)
    {
        if (results.Any(result => !result.Ok))
            throw new InvalidOperationException("the kernel refused");
    }

    private static void Check(IpvsBalancer balancer, VipConfig config)
    {
        if (balancer.Apply(config).Errors is { Count: > 0 } errors)
            throw new InvalidOperationException(errors[0].ToString());
    }

    private static IPAddress Vip(int service) => new([10, 96, (byte)(service >> 8), (byte)service]);

    private static IpvsServiceKey Key(int service) => IpvsServiceKey.Of(VipPort.Tcp, Vip(service), 80);

    private static IpvsDestination Server(int number, int weight) => new() { Address = new IPAddress([10, 42, 0, (byte)(10 + number)]), Port = 80, Weight = weight };

    private static List<IpvsChange> Changes(int services)
    {
        var changes = new List<IpvsChange>();
        for (var service = 0; service < services; service++)
        {
            changes.Add(IpvsChange.Add(new IpvsService { Key = Key(service), Scheduler = "wrr" }));
            for (var server = 0; server < ServersEach; server++)
                changes.Add(IpvsChange.Add(Key(service), Server(server, 1)));
        }
        return changes;
    }

    private static string Rules(int services)
    {
        var rules = new StringBuilder();
        foreach (var change in Changes(services))
        {
            rules.AppendLine(change.Destination is { } server
                ? $"-a -t {change.Key.Address}:80 -r {server.Address}:80 -g -w {server.Weight}"
                : $"-A -t {change.Key.Address}:80 -s wrr");
        }
        return rules.ToString();
    }

    private static VipConfig Config(string netns, int services, int weight = 1) => new()
    {
        Networks =
        [
            new VipNetwork
            {
                Id = "n", Name = "n", Vni = 1, Netns = netns,
                Services =
                [
                    .. Enumerable.Range(0, services).Select(service => new VipService
                    {
                        Id = $"s{service}", Name = $"s{service}", Addresses = [Vip(service)], Ports = [new VipPort(VipPort.Tcp, 80, 80)],
                        RealServers =
                        [
                            .. Enumerable.Range(0, ServersEach).Select(server => new RealServer
                            {
                                EndpointId = $"e{server}", Address4 = Server(server, 1).Address, Weight = service == 0 && server == 0 ? weight : 1,
                            }),
                        ],
                    }),
                ],
            },
        ],
    };
}
