using OverlayNet.Bench.Dns;

if (args.Length > 0 && args[0] == "host")
    return Host.Run(args[1..]);
if (args.Length > 0 && args[0] == "host-at")
    return Host.RunAt(args[1..]);

var quick = args.Contains("--quick");
var json = args.Contains("--json");
var docker = args is ["docker", ..];
if (args.Skip(docker ? 1 : 0).Any(a => a is not ("--quick" or "--json")))
{
    Console.Error.WriteLine($"usage: bench/run {(docker ? "dns-docker" : "dns")} [--quick] [--json]");
    return 2;
}

var directory = Directory.CreateTempSubdirectory("overlaynet-bench-dns-").FullName;
try
{
    if (docker)
    {
        var beside = new DockerComparison(directory, rounds: quick ? 4 : 12, seconds: quick ? 0.7 : 1.5);
        beside.Run();
        if (json)
            beside.WriteJson();
        else
            beside.WriteTable();
        return 0;
    }

    var comparison = new Comparison(directory, rounds: quick ? 4 : 12, seconds: quick ? 0.7 : 1.5);
    comparison.Run();
    var update = InProcess.Update(quick ? 200 : 2000);
    var load = InProcess.LoadMillion();
    if (json)
        Report.WriteJson(comparison, update, load);
    else
        Report.WriteTable(comparison, update, load);
    return 0;
}
finally
{
    Directory.Delete(directory, recursive: true);
}
