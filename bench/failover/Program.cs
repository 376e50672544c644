using System.Globalization;
using System.Text.Json.Nodes;
using OverlayNet.Bench.Failover;
using OverlayNet.ClusterTests.Harness;

// Both programs on the same two nodes of the same cluster, by turns; nobody but the judge's clock at the switch decides.
var rounds = args.Contains("--quick") ? 3 : 9;
using var cluster = Cluster.Start(3);
using var pair = new NodePair(cluster);
var results = new List<Result>();
var json = args.Contains("--json");
if (!json)
{
    Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{rounds} rounds; ms without an answer, median / max"));
    Console.WriteLine($"{"",-28}{"of keepalived",14}{"overlaynet",18}{"keepalived",18}{"limit",9}");
}
foreach (var advert in new[] { 1000, 100, 20 })
{
    var down = advert * (3 + 156 / 256.0);
    var ours = new List<(double Graceful, double Crash)>();
    var theirs = new List<(double Graceful, double Crash)>();
    for (var round = 0; round < rounds; round++)
    {
        theirs.Add(pair.WithKeepalived(advert));
        ours.Add(pair.WithDaemons(advert, "--mode", "vrrp"));
    }
    Add(new Result($"graceful, {advert} ms", 2 * advert, [.. ours.Select(r => r.Graceful)], [.. theirs.Select(r => r.Graceful)]));
    Add(new Result($"crash, {advert} ms", down + 50, [.. ours.Select(r => r.Crash)], [.. theirs.Select(r => r.Crash)]));
}
foreach (var (profile, advert, limit) in new[] { ("default", 1000, 4500.0), ("fast", 100, 1000.0) })
{
    var fenced = new List<(double Graceful, double Crash)>();
    for (var round = 0; round < rounds; round++)
        fenced.Add(pair.WithDaemons(advert, "--profile", profile));
    Add(new Result($"fenced {profile}, graceful", 2 * advert, [.. fenced.Select(r => r.Graceful)], []));
    Add(new Result($"fenced {profile}, crash", limit, [.. fenced.Select(r => r.Crash)], []));
}

if (json)
    Console.WriteLine(new JsonObject { ["rounds"] = rounds, ["results"] = new JsonArray([.. results.Select(result => (JsonNode)result.ToJson())]) }.ToJsonString());
return 0;

void Add(Result result)
{
    results.Add(result);
    if (!json)
        Console.WriteLine(result.ToString());
}
