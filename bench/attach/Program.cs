using System.Diagnostics;
using System.Globalization;
using System.Net;
using System.Net.Sockets;
using System.Text.Json.Nodes;
using OverlayNet.Bench.Attach;
using OverlayNet.ClusterTests.Harness;

var runs = args.Contains("--quick") ? 20 : 200;
using var cluster = Cluster.Start();
var manager = cluster.Nodes[0];
manager.Cli("network", "create", "--subnet", "10.99.0.0/16", "--subnet6", "fd00:99::/64", "net");
var gateway = new IPEndPoint(IPAddress.Parse("10.99.0.1"), 53);
// One asker on every node, at home in a container there: resolver and VIP are reached the way containers reach them.
var askers = cluster.Nodes.Select(node => new Asker(cluster.Attach($"ask{node.Index}", node, "net"), gateway)).ToList();

var samples = new List<Sample>();
for (var run = 0; run < runs; run++)
{
    var name = string.Create(CultureInfo.InvariantCulture, $"s{run}");
    var service = manager.CliJson("service", "create", "--network", "net", "--port", "80", name);
    var vip = new IPEndPoint(IPAddress.Parse((string)service["vip4"]!), 80);
    using var backend = cluster.AddContainer($"b{run}", cluster.Nodes[run % cluster.Nodes.Count]);
    using var listener = Listener.In(backend.NetnsPath, 80);
    var api = new Api(backend.Node.Socket);

    var started = Stopwatch.GetTimestamp();
    var address = IPAddress.Parse((string)api.Post("/v1/attach", new JsonObject
    {
        ["network"] = "net",
        ["service"] = name,
        ["netns"] = backend.NetnsPath,
    })["endpoint"]!["address4"]!);
    var returned = Stopwatch.GetTimestamp();
    // Each asker on a thread of its own; the slowest node counts.
    var seen = askers.AsParallel().WithDegreeOfParallelism(askers.Count).Select(asker => asker.Serving(name, address, vip)).ToList();
    samples.Add(new Sample(
        Stopwatch.GetElapsedTime(started, returned).TotalMilliseconds,
        Math.Max(0, seen.Max(times => Stopwatch.GetElapsedTime(returned, times.Name).TotalMilliseconds)),
        Math.Max(0, seen.Max(times => Stopwatch.GetElapsedTime(returned, times.Vip).TotalMilliseconds))));
    api.Post("/v1/detach", new JsonObject { ["network"] = "net", ["netns"] = backend.NetnsPath });
    manager.Cli("service", "rm", name);
}
foreach (var asker in askers)
    asker.Dispose();
Report.Print(samples, args.Contains("--json"));
return 0;
