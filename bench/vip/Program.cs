using OverlayNet.Bench.Vip;

string[] options = args[Math.Min(1, args.Length)..];
if (args.Length == 0 || options.Any(option => option is not ("--quick" or "--json")))
{
    Console.Error.WriteLine("usage: bench/run vip|vip-scale [--quick] [--json]");
    return 2;
}
var (quick, json) = (options.Contains("--quick"), options.Contains("--json"));
switch (args[0])
{
    case "vip":
        VipBenchmark.Run(quick, json);
        return 0;
    case "vip-scale":
        ScaleBenchmark.Run(quick, json);
        return 0;
    default:
        Console.Error.WriteLine($"there is no benchmark '{args[0]}' here");
        return 2;
}
