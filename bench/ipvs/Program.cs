using System.Globalization;
using System.Text.Json;
using OverlayNet.Bench.Ipvs;

var quick = args.Contains("--quick");
var json = args.Contains("--json");
var services = quick ? 1000 : 10_000;
var programming = Programming.Run(services, rounds: 3).ToList();
var path = DataPath.Run(connections: 100, requests: 400, rounds: quick ? 10 : 40).ToList();

(string Name, Summary Ours, Summary Reference)[] ratios =
[
    ("table by the family / ipvsadm -R", programming[0], programming[1]),
    ("one weight by the family / ipvsadm -e", programming[5], programming[6]),
    ("connection, direct routing / NAT", path[1], path[2]),
    ("request, direct routing / NAT", path[4], path[5]),
    ("connection, direct routing / the server itself", path[1], path[0]),
    ("request, direct routing / the server itself", path[4], path[3]),
    ("connection, NAT / the server itself", path[2], path[0]),
];
if (json)
{
    Console.WriteLine(JsonSerializer.Serialize(new
    {
        benchmark = "ipvs",
        guest = Environment.GetEnvironmentVariable("OVERLAYNET_GUEST"),
        services,
        ratios = ratios.Select(ratio => new { ratio.Name, ratio.Ours.RatioTo(ratio.Reference).Median, ratio.Ours.RatioTo(ratio.Reference).Low, ratio.Ours.RatioTo(ratio.Reference).High }),
        medians = programming.Concat(path).Select(summary => new { summary.Name, summary.Median, summary.Unit }),
    }));
    return;
}
Console.WriteLine($"{services} services of 5 servers each; medians of interleaved rounds and their 95 % confidence interval; wall time in one guest kernel ({Environment.OSVersion.VersionString})");
foreach (var (name, ours, reference) in ratios)
{
    var (median, low, high) = ours.RatioTo(reference);
    Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"  {median,8:0.000} [{low:0.000}, {high:0.000}] {name}"));
}
foreach (var summary in programming.Concat(path))
    Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"  {summary.Median,8:0.0} {summary.Unit,-6}   {summary.Name}"));
