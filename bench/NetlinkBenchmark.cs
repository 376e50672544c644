using System.Diagnostics;
using System.Globalization;
using System.Net;
using System.Text;
using System.Text.Json;
using OverlayNet.Kernel;
using OverlayNet.Kernel.Netlink;
using OverlayNet.Overlay;

namespace OverlayNet.Bench;

/// <summary>
/// Remote endpoints into the kernel (an entry of the bridge's FDB, one of the VXLAN device's, an ARP and an ND
/// neighbour each): by raw requests, by Overlay.Apply and by iproute2's batch modes, in interleaved rounds.
/// </summary>
internal static class NetlinkBenchmark
{
    private const int Endpoints = 1000;
    private const string Prefix = "ovb-";
    private static readonly string Host = $"{Prefix}{Environment.ProcessId}-h";
    private static readonly string Bare = $"{Prefix}{Environment.ProcessId}-n";
    private static readonly IPAddress Vtep = IPAddress.Parse("198.51.100.2");

    internal static void Run(bool quick, bool json)
    {
        Sweep();
        var config = new OverlayConfig
        {
            ClusterId = $"bench{Environment.ProcessId}",
            NodeId = "node",
            NodeShortId = $"{Environment.ProcessId % 0x1000000:x6}",
            UnderlayAddress = IPAddress.Parse("198.51.100.1"),
        };
        NamedNamespaces.Create(Host);
        NamedNamespaces.Create(Bare);
        using var overlay = new Overlay.Overlay(NamedNamespaces.PathOf(Host));
        try
        {
            Measure(new Result(), config, overlay, rounds: quick ? 5 : 21, singles: quick ? 40 : 200).Print(json);
        }
        finally
        {
            overlay.Apply(config);
            NamedNamespaces.Delete(Host);
            NamedNamespaces.Delete(Bare);
        }
    }

    private static Result Measure(Result result, OverlayConfig config, Overlay.Overlay overlay, int rounds, int singles)
    {
        var bridgeLines = Path.GetTempFileName();
        var ipLines = Path.GetTempFileName();
        try
        {
            WriteLines(bridgeLines, ipLines, Enumerable.Range(0, Endpoints));
            using var netns = NamedNamespaces.OpenPinned(Bare);
            using var socket = NetlinkSocket.Open(NetlinkProtocol.Route, netns);
            var network = With(config, Enumerable.Range(0, Endpoints));
            // The first round warms up compilers and caches.
            for (var round = -1; round < rounds; round++)
            {
                var (bridge, vxlan) = Fresh(socket);
                var raw = Cost.Of(() => Check(RouteRequest.SendAll(socket, Requests(bridge, vxlan, Enumerable.Range(0, Endpoints)))));
                Count(socket, bridge, vxlan);
                Fresh(socket);
                var tools = Cost.Of(() =>
                {
                    Tool("bridge", "-n", Bare, "-batch", bridgeLines);
                    Tool("ip", "-n", Bare, "-batch", ipLines);
                });
                var links = new RouteLinks(socket);
                Count(socket, links.Get("br0")!.Index, links.Get("vx0")!.Index);
                overlay.Apply(With(config, []));
                var apply = Cost.Of(() => Check(overlay.Apply(network)));
                var again = Cost.Of(() => Check(overlay.Apply(network)));
                if (round >= 0)
                    result.Many.Add((raw, apply, tools, again));
            }
            for (var i = 0; i < singles; i++)
            {
                var one = Endpoints + i;
                WriteLines(bridgeLines, ipLines, [one]);
                var links = new RouteLinks(socket);
                var (bridge, vxlan) = (links.Get("br0")!.Index, links.Get("vx0")!.Index);
                var raw = Cost.Of(() => Check(RouteRequest.SendAll(socket, Requests(bridge, vxlan, [one + 10_000]))));
                var tools = Cost.Of(() =>
                {
                    Tool("bridge", "-n", Bare, "-batch", bridgeLines);
                    Tool("ip", "-n", Bare, "-batch", ipLines);
                });
                network = With(config, Enumerable.Range(0, Endpoints + i + 1));
                var apply = Cost.Of(() => Check(overlay.Apply(network)));
                if (i >= singles / 10)
                    result.One.Add((raw, apply, tools));
            }
            return result;
        }
        finally
        {
            File.Delete(bridgeLines);
            File.Delete(ipLines);
        }
    }

    private static OverlayConfig With(OverlayConfig config, IEnumerable<int> numbers) => config with
    {
        Networks =
        [
            new OverlayNetwork
            {
                Name = "bench",
                Netns = $"on-{config.NodeShortId}-bench",
                Vni = 4242,
                Subnet4 = IPNetwork.Parse("10.96.0.0/16"),
                Subnet6 = IPNetwork.Parse("fd00:96::/64"),
                Gateway4 = IPAddress.Parse("10.96.0.1"),
                Gateway6 = IPAddress.Parse("fd00:96::1"),
                GatewayMac = MacAddress.Parse("02:42:ff:00:00:01"),
                Internal = true,
                Remotes = [.. numbers.Select(n => new RemoteEndpoint { Mac = Mac(n), Vtep = Vtep, Addresses = [Address4(n), Address6(n)] })],
            },
        ],
    };

    private static List<RouteRequest> Requests(int bridge, int vxlan, IEnumerable<int> numbers) =>
    [
        .. numbers.SelectMany(n => new[]
        {
            RouteFdb.Replacing(new FdbEntry { Interface = vxlan, Mac = Mac(n), Vtep = Vtep, Flags = NeighbourFlags.Self | NeighbourFlags.Master }),
            RouteNeighbours.Replacing(new Neighbour(bridge, Address4(n), Mac(n))),
            RouteNeighbours.Replacing(new Neighbour(bridge, Address6(n), Mac(n))),
        }),
    ];

    private static void WriteLines(string bridgeFile, string ipFile, IEnumerable<int> numbers)
    {
        var (fdb, neighbours) = (new StringBuilder(), new StringBuilder());
        foreach (var n in numbers)
        {
            fdb.Append(CultureInfo.InvariantCulture, $"fdb replace {Mac(n)} dev vx0 dst {Vtep} self master static\n");
            neighbours.Append(CultureInfo.InvariantCulture, $"neigh replace {Address4(n)} lladdr {Mac(n)} dev br0 nud permanent\n");
            neighbours.Append(CultureInfo.InvariantCulture, $"neigh replace {Address6(n)} lladdr {Mac(n)} dev br0 nud permanent\n");
        }
        File.WriteAllText(bridgeFile, fdb.ToString());
        File.WriteAllText(ipFile, neighbours.ToString());
    }

    private static (int Bridge, int Vxlan) Fresh(NetlinkSocket socket)
    {
        RouteLinks.Deleting("vx0").TrySend(socket);
        RouteLinks.Deleting("br0").TrySend(socket);
        var links = new RouteLinks(socket);
        links.Add(new BridgeSpec { Name = "br0", Up = true });
        var bridge = links.Get("br0")!.Index;
        links.Add(new VxlanSpec { Name = "vx0", Master = bridge, Up = true, Options = new VxlanOptions { Vni = 4243, Port = 4790 } });
        return (bridge, links.Get("vx0")!.Index);
    }

    private static void Count(NetlinkSocket socket, int bridge, int vxlan)
    {
        var neighbours = new RouteNeighbours(socket).Dump(bridge).Count(n => n.State == NeighbourState.Permanent);
        var fdb = new RouteFdb(socket).Dump();
        var tunnelled = fdb.Count(entry => entry.Interface == vxlan && Vtep.Equals(entry.Vtep));
        var bridged = fdb.Count(entry => entry.Interface == vxlan && entry.Bridge == bridge && entry.State == NeighbourState.NoArp);
        if ((neighbours, tunnelled, bridged) != (2 * Endpoints, Endpoints, Endpoints))
            throw new InvalidOperationException($"the kernel has {neighbours} neighbours, {tunnelled} and {bridged} FDB entries; {Endpoints} endpoints were written");
    }

    private static void Check(NetlinkResult[] results)
    {
        if (results.FirstOrDefault(result => !result.Ok) is { Errno: not 0 } refused)
            throw new InvalidOperationException($"the kernel refused: {refused}");
    }

    private static void Check(ApplyReport report)
    {
        if (report.Errors.Count > 0)
            throw new InvalidOperationException(report.Errors[0].ToString());
    }

    private static void Tool(string program, params string[] arguments)
    {
        using var process = Process.Start(program, arguments);
        process.WaitForExit();
        if (process.ExitCode != 0)
            throw new InvalidOperationException($"{program} {string.Join(' ', arguments)} ended with {process.ExitCode}");
    }

    private static void Sweep()
    {
        foreach (var name in NamedNamespaces.List().Where(name => name.StartsWith(Prefix, StringComparison.Ordinal)))
        {
            if (!int.TryParse(name.Split('-')[1], out var pid) || !Directory.Exists($"/proc/{pid}"))
                NamedNamespaces.Delete(name);
        }
    }

    private static MacAddress Mac(int n) => new(0x024200000000ul | (uint)n);

    private static IPAddress Address4(int n) => new([10, 96, (byte)(n >> 8), (byte)n]);

    private static IPAddress Address6(int n) => new([0xfd, 0, 0, 0x96, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, (byte)(n >> 8), (byte)n]);

    private sealed class Result
    {
        internal List<(Cost Raw, Cost Apply, Cost Tools, Cost Again)> Many { get; } = [];
        internal List<(Cost Raw, Cost Apply, Cost Tools)> One { get; } = [];

        internal void Print(bool json)
        {
            var many = new
            {
                endpoints = Endpoints,
                rounds = Many.Count,
                rawWallRatio = Ratio(Many, m => m.Raw.Wall / m.Tools.Wall),
                rawCpuRatio = Ratio(Many, m => m.Raw.Cpu / m.Tools.Cpu),
                applyWallRatio = Ratio(Many, m => m.Apply.Wall / m.Tools.Wall),
                applyCpuRatio = Ratio(Many, m => m.Apply.Cpu / m.Tools.Cpu),
                rawMs = Cost.Percentile(Many.Select(m => m.Raw.Wall), 0.5),
                applyMs = Cost.Percentile(Many.Select(m => m.Apply.Wall), 0.5),
                toolsMs = Cost.Percentile(Many.Select(m => m.Tools.Wall), 0.5),
                unchangedApplyWallRatio = Ratio(Many, m => m.Again.Wall / m.Tools.Wall),
                unchangedApplyCpuRatio = Ratio(Many, m => m.Again.Cpu / m.Tools.Cpu),
                unchangedApplyMs = Cost.Percentile(Many.Select(m => m.Again.Wall), 0.5),
            };
            var one = new
            {
                runs = One.Count,
                rawWallRatio = Ratio(One, m => m.Raw.Wall / m.Tools.Wall),
                applyWallRatio = Ratio(One, m => m.Apply.Wall / m.Tools.Wall),
                rawP50Ms = Cost.Percentile(One.Select(m => m.Raw.Wall), 0.5),
                rawP99Ms = Cost.Percentile(One.Select(m => m.Raw.Wall), 0.99),
                applyP50Ms = Cost.Percentile(One.Select(m => m.Apply.Wall), 0.5),
                applyP99Ms = Cost.Percentile(One.Select(m => m.Apply.Wall), 0.99),
                toolsP50Ms = Cost.Percentile(One.Select(m => m.Tools.Wall), 0.5),
                toolsP99Ms = Cost.Percentile(One.Select(m => m.Tools.Wall), 0.99),
            };
            if (json)
            {
                Console.WriteLine(JsonSerializer.Serialize(new { program1000 = many, addOne = one }));
                return;
            }
            Line($"{Endpoints} endpoints (FDB of bridge and VXLAN, ARP, ND), {many.rounds} interleaved rounds, median ratios to bridge -batch + ip -batch");
            Line($"  {"",-28}{"wall",8}{"CPU",8}{"median ms",12}");
            Line($"  {"raw requests",-28}{many.rawWallRatio,8:f2}{many.rawCpuRatio,8:f2}{many.rawMs,12:f2}");
            Line($"  {"Overlay.Apply",-28}{many.applyWallRatio,8:f2}{many.applyCpuRatio,8:f2}{many.applyMs,12:f2}");
            Line($"  {"bridge -batch, ip -batch",-28}{1,8:f2}{1,8:f2}{many.toolsMs,12:f2}");
            Line($"  {"Overlay.Apply, no change",-28}{many.unchangedApplyWallRatio,8:f2}{many.unchangedApplyCpuRatio,8:f2}{many.unchangedApplyMs,12:f2}");
            Line($"one endpoint more on a network of {Endpoints}, {one.runs} runs");
            Line($"  {"",-28}{"wall",8}{"p50 ms",8}{"p99 ms",12}");
            Line($"  {"raw requests",-28}{one.rawWallRatio,8:f2}{one.rawP50Ms,8:f2}{one.rawP99Ms,12:f2}");
            Line($"  {"Overlay.Apply",-28}{one.applyWallRatio,8:f2}{one.applyP50Ms,8:f2}{one.applyP99Ms,12:f2}");
            Line($"  {"bridge -batch, ip -batch",-28}{1,8:f2}{one.toolsP50Ms,8:f2}{one.toolsP99Ms,12:f2}");
        }

        private static double Ratio<T>(List<T> rounds, Func<T, double> of) => Cost.Percentile(rounds.Select(of), 0.5);

        private static void Line(FormattableString text) => Console.WriteLine(text.ToString(CultureInfo.InvariantCulture));
    }
}
