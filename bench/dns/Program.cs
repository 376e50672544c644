using OverlayNet.Bench.Dns;

if (args.Length > 0 && args[0] == "host")
    return Host.Run(args[1..]);

var quick = args.Contains("--quick");
var json = args.Contains("--json");
if (args.Any(a => a is not ("--quick" or "--json")))
{
    Console.Error.WriteLine("usage: bench/run dns [--quick] [--json]");
    return 2;
}

var directory = Directory.CreateTempSubdirectory("overlaynet-bench-dns-").FullName;
try
{
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
