using System.Net;

namespace OverlayNet.Bench.Dns;

/// <summary>All servers up at once, loaded in turn in short slices, so that what else the machine does hits all alike.</summary>
internal sealed class Comparison(string directory, int rounds, double seconds)
{
    private const int ServerCpu = 0;
    private const int ClientCpu = 1;
    private const int ManySockets = 500;
    private const int PacedRate = 20_000;

    /// <summary>Sockets of a forwarder in front, and of clients that ask one query each.</summary>
    private const int FewSockets = 4;
    private const int ClientSockets = 100;

    public const string Ours = "overlaynet";
    public const string Echo = "C echo";
    public const string OursMany = "overlaynet, 500 sockets";
    public const string OursManyInKernel = "overlaynet, 500, in kernel";
    public const string OursInKernel = "overlaynet, in kernel";
    public const string EchoPaced = "C echo at 20k/s";
    public const string OursCache = "overlaynet, cache hits";
    public const string UnboundCache = "unbound, cache hits";

    /// <summary>A server asked by a hundred sockets, each with one query outstanding.</summary>
    public static string ByMany(string server) => server + ", 100 clients";

    private static readonly Dictionary<string, int> Ports = new()
    {
        ["echo"] = 25301,
        ["overlaynet"] = 25302,
        ["knot"] = 25303,
        ["nsd"] = 25304,
        ["unbound"] = 25305,
        ["dnsmasq"] = 25306,
        ["many"] = 25307,
        ["kernel"] = 25311,
        ["many-kernel"] = 25312,
    };

    public Dictionary<string, List<Slice>> Slices { get; } = [];

    public Dictionary<string, long> Resident { get; } = [];

    public void Run()
    {
        BenchData.Write(directory, Ports);
        var echo = Compile(directory, "echo");
        var load = Compile(directory, "load");
        var self = Host.Program;
        Directory.CreateDirectory(Path.Combine(directory, "knot-run"));
        Directory.CreateDirectory(Path.Combine(directory, "knot-db"));

        var servers = new List<ServerProcess>();
        using var counting = Machine.CountPrograms();
        try
        {
            void Start(string name, string key, params string[] command) => servers.Add(ServerProcess.Start(name, Ports[key], ServerCpu, command));
            string In(string file) => Path.Combine(directory, file);
            Start(Echo, "echo", echo, $"{Ports["echo"]}");
            Start(Ours, "overlaynet", self, "host", $"{Ports["overlaynet"]}", "1", $"{Ports["nsd"]}");
            Start("knot", "knot", "knotd", "-c", In("knot.conf"));
            Start("nsd", "nsd", "nsd", "-d", "-c", In("nsd.conf"));
            Start("unbound", "unbound", "unbound", "-d", "-c", In("unbound.conf"));
            Start("dnsmasq", "dnsmasq", "dnsmasq", "--conf-file=" + In("dnsmasq.conf"));
            Start(OursMany, "many", self, "host", $"{Ports["many"]}", $"{ManySockets}", $"{Ports["nsd"]}");
            Start(OursInKernel, "kernel", self, "host", $"{Ports["kernel"]}", "1", $"{Ports["nsd"]}", "lo");
            Start(OursManyInKernel, "many-kernel", self, "host", $"{Ports["many-kernel"]}", $"{ManySockets}", $"{Ports["nsd"]}", "lo");
            WaitForAll(servers);

            var byName = servers.ToDictionary(s => s.Name);
            var queries = In("queries");
            var outside = In("outside-queries");
            var tasks = new List<(string Name, Func<double, Slice> Run)>();
            foreach (var server in servers.Where(s => s.Name is not (OursMany or OursManyInKernel)))
                tasks.Add((server.Name, s => Measure.Saturate(server, queries, FewSockets, s, ClientCpu)));
            foreach (var name in (string[])[Echo, Ours, OursInKernel, "knot"])
                tasks.Add((ByMany(name), s => Measure.Saturate(byName[name], queries, ClientSockets, s, ClientCpu)));
            tasks.Add((OursCache, s => Measure.Saturate(byName[Ours], outside, FewSockets, s, ClientCpu)));
            tasks.Add((UnboundCache, s => Measure.Saturate(byName["unbound"], outside, FewSockets, s, ClientCpu)));
            // What a wake-up for nearly every query costs one socket that answers nothing.
            tasks.Add((EchoPaced, s => Measure.Paced(byName[Echo], load, queries, 1, PacedRate, s, ClientCpu)));
            tasks.Add((OursMany, s => Measure.Paced(byName[OursMany], load, queries, ManySockets, PacedRate, s, ClientCpu)));

            tasks.Add((OursManyInKernel, s => Measure.Paced(byName[OursManyInKernel], load, queries, ManySockets, PacedRate, s, ClientCpu)));

            foreach (var (_, run) in tasks)
                run(0.5); // warm caches and the JIT
            var random = new Random(1);
            for (var round = 0; round < rounds; round++)
            {
                var order = tasks.ToArray();
                random.Shuffle(order);
                foreach (var (name, run) in order)
                {
                    if (!Slices.TryGetValue(name, out var list))
                        Slices[name] = list = [];
                    list.Add(run(seconds));
                }

                Console.Error.Write('.');
            }

            Console.Error.WriteLine();
            foreach (var server in servers)
                Resident[server.Name] = server.ResidentBytes();
        }
        finally
        {
            foreach (var server in servers)
                server.Dispose();
        }
    }

    public Ratio RatioOf(string a, string b) =>
        Ratio.Of([.. Slices[a].Select(s => s.CpuSecondsPerMillion)], [.. Slices[b].Select(s => s.CpuSecondsPerMillion)]);

    public Ratio MachineRatioOf(string a, string b) =>
        Ratio.Of([.. Slices[a].Select(s => s.MachineSecondsPerMillion)], [.. Slices[b].Select(s => s.MachineSecondsPerMillion)]);

    private static void WaitForAll(List<ServerProcess> servers)
    {
        var query = Query($"{BenchData.Service(BenchData.Names - 1)}.{BenchData.Zone}");
        foreach (var server in servers)
            Measure.WaitUntilReady(server, server.Name is OursMany or OursManyInKernel ? IPAddress.Parse("127.2.1.250") : IPAddress.Loopback, query, server.Name == Echo);
    }

    private static byte[] Query(string name)
    {
        var bytes = new List<byte> { 0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0 };
        foreach (var label in name.Split('.'))
        {
            bytes.Add((byte)label.Length);
            bytes.AddRange(label.Select(c => (byte)c));
        }

        bytes.AddRange([0, 0, 1, 0, 1]);
        return [.. bytes];
    }

    /// <summary>Compiles one of native/ into a directory; its path there.</summary>
    public static string Compile(string directory, string name)
    {
        var program = Path.Combine(directory, name);
        Measure.RunTool("gcc", "-O2", "-o", program, Path.Combine(AppContext.BaseDirectory, "native", name + ".c"));
        return program;
    }
}
