using OverlayNet.Bench;

var options = args.Skip(1).ToList();
if (args.Length == 0 || options.Any(option => option is not ("--quick" or "--json")))
{
    Console.Error.WriteLine("usage: bench/run NAME [--quick] [--json]");
    return 2;
}
var (quick, json) = (options.Contains("--quick"), options.Contains("--json"));
switch (args[0])
{
    case "netlink":
        NetlinkBenchmark.Run(quick, json);
        return 0;
    case "scale-model":
        ScaleModelBenchmark.Run(json);
        return 0;
    default:
        Console.Error.WriteLine($"there is no benchmark '{args[0]}' here");
        return 2;
}
