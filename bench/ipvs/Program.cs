using System.Globalization;
using System.Text.Json;
using OverlayNet.Bench.Ipvs;

var quick = args.Contains("--quick");
var json = args.Contains("--json");
var services = quick ? 1000 : 10_000;
var rounds = quick ? 3 : 7;
var programming = Programming.Run(services, rounds).ToList();
var path = DataPath.Run(quick ? 200 : 600, quick ? 1000 : 3000, quick ? 3 : 12).ToList();

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
        rounds,
        ratios = ratios.Select(ratio => new { ratio.Name, ratio.Ours.RatioTo(ratio.Reference).Mean, ratio.Ours.RatioTo(ratio.Reference).Half }),
        medians = programming.Concat(path).Select(summary => new { summary.Name, summary.Median, summary.Unit }),
    }));
    return;
}
Console.WriteLine($"{services} services of 5 servers each, {rounds} interleaved rounds; wall time in one guest kernel ({Environment.OSVersion.VersionString})");
foreach (var (name, ours, reference) in ratios)
{
    var (mean, half) = ours.RatioTo(reference);
    Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"  {mean,8:0.000} ± {half,-6:0.000} {name}"));
}
foreach (var summary in programming.Concat(path))
    Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"  {summary.Median,8:0.0} {summary.Unit,-6}   {summary.Name}"));
