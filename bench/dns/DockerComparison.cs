using System.Diagnostics;
using System.Globalization;
using System.Text.Json;

namespace OverlayNet.Bench.Dns;

/// <summary>
/// Docker's resolver at 127.0.0.11 beside ours, asked for the same names from inside the same container, in turn. dockerd
/// has a network and a mount namespace of its own. Ours is there twice: with a socket on the container's loopback, where
/// Docker's is, and at the gateway address of Docker's network, across a veth and a bridge, as on a network of its own.
/// The echo in C beside it, on the container's loopback, answers nothing: what a datagram costs there and back.
/// </summary>
internal sealed class DockerComparison(string directory, int rounds, double seconds)
{
    public const string Ours = "overlaynet, loopback";
    public const string OursAtGateway = "overlaynet, gateway";
    public const string InKernel = "overlaynet, kernel, loopback";
    public const string InKernelAtGateway = "overlaynet, kernel, gateway";
    public const string Docker = "docker 127.0.0.11";
    public const string Echo = "C echo, loopback";
    private const int ServerCpu = 0;
    private const int ClientCpu = 1;
    private const int Names = 100;
    private const int OurPort = 25308;
    private const int EchoPort = 25309;
    private const int KernelPort = 25310;
    private const string OurLoopback = "127.0.0.12";
    private const string KernelLoopback = "127.0.0.13";

    /// <summary>Names and the addresses they must have; dnsperf's options.</summary>
    private static readonly (string Name, string[] Options)[] Loads =
    [
        ("saturated", ["-c", "4", "-q", "100"]),
        ("saturated, 100 sockets", ["-c", "100", "-q", "100"]),
        ("2,000/s", ["-c", "100", "-q", "100", "-Q", "2000"]),
    ];

    private readonly string _prefix = "onbd" + Environment.ProcessId.ToString(CultureInfo.InvariantCulture);
    private readonly Dictionary<(string Server, string Load), List<Slice>> _slices = [];

    private string Socket => Path.Combine(directory, "docker.sock");

    public void Run()
    {
        Measure.RunTool("ip", "netns", "add", _prefix);
        ServerProcess? dockerd = null, ours = null, atGateway = null, echo = null, inKernel = null, inKernelAtGateway = null;
        using var counting = Machine.CountPrograms();
        try
        {
            Measure.RunTool("ip", "-n", _prefix, "link", "set", "lo", "up");
            dockerd = StartDocker();
            var client = MakeContainers();
            ours = StartOurs(Ours, $"/proc/{client.Pid}/ns/net", OurLoopback, client);
            atGateway = StartOurs(OursAtGateway, $"/run/netns/{_prefix}", client.Gateway, client);
            inKernel = StartOurs(InKernel, $"/proc/{client.Pid}/ns/net", KernelLoopback, client, KernelPort, "lo");
            inKernelAtGateway = StartOurs(InKernelAtGateway, $"/run/netns/{_prefix}", client.Gateway, client, KernelPort, PortOf(client.Pid));
            echo = ServerProcess.Start(
                Echo, EchoPort, ServerCpu, "nsenter", $"--net=/proc/{client.Pid}/ns/net", Comparison.Compile(directory, "echo"), EchoPort.ToString(CultureInfo.InvariantCulture));
            var queries = Path.Combine(directory, "queries");
            File.WriteAllLines(queries, Enumerable.Range(0, Names).Select(i => BenchData.Service(i) + " A"));
            var tasks = new List<(string Server, string Load, Func<double, Slice> Run)>();
            foreach (var (load, options) in Loads)
            {
                tasks.Add((Docker, load, s => Ask(dockerd, client.Pid, "127.0.0.11", 53, queries, options, s)));
                tasks.Add((Ours, load, s => Ask(ours, client.Pid, OurLoopback, OurPort, queries, options, s)));
                tasks.Add((Echo, load, s => Ask(echo, client.Pid, "127.0.0.1", EchoPort, queries, options, s)));
                tasks.Add((OursAtGateway, load, s => Ask(atGateway, client.Pid, client.Gateway, OurPort, queries, options, s)));
                tasks.Add((InKernel, load, s => Ask(inKernel, client.Pid, KernelLoopback, KernelPort, queries, options, s)));
                tasks.Add((InKernelAtGateway, load, s => Ask(inKernelAtGateway, client.Pid, client.Gateway, KernelPort, queries, options, s)));
            }

            foreach (var (_, _, run) in tasks)
                run(1);
            for (var round = 0; round < rounds; round++)
            {
                foreach (var (server, load, run) in tasks)
                {
                    if (!_slices.TryGetValue((server, load), out var list))
                        _slices[(server, load)] = list = [];
                    list.Add(run(seconds));
                }

                Console.Error.Write('.');
            }

            Console.Error.WriteLine();
        }
        finally
        {
            echo?.Dispose();
            ours?.Dispose();
            atGateway?.Dispose();
            inKernel?.Dispose();
            inKernelAtGateway?.Dispose();
            if (dockerd is not null)
                StopDocker(dockerd);
            Measure.RunTool("ip", "netns", "del", _prefix);
            foreach (var group in Directory.Exists("/sys/fs/cgroup") ? Directory.GetDirectories("/sys/fs/cgroup", _prefix, new EnumerationOptions { RecurseSubdirectories = true, MaxRecursionDepth = 1 }) : [])
                Directory.Delete(group);
        }
    }

    public void WriteTable()
    {
        Console.WriteLine($"{"docker's CPU per query / ours (goal >= 5)",-56}{"server",-24}{"whole machine, client included",-24}");
        foreach (var (load, _) in Loads)
        {
            foreach (var ours in Servers)
                Console.WriteLine($"{load + ": " + ours,-56}{RatioOf(ours, load, s => s.CpuSecondsPerMillion),-24}{RatioOf(ours, load, s => s.MachineSecondsPerMillion),-24}");
        }

        Console.WriteLine();
        Console.WriteLine($"{"server",-30}{"load",-26}{"CPU-s/M median",16}{"machine",9}{"beyond client",15}{"qps median",12}{"lost %",9}");
        foreach (var ((server, load), slices) in _slices)
        {
            var machine = Ratio.Median(slices.Select(s => s.MachineSecondsPerMillion));
            Console.WriteLine(string.Create(
                CultureInfo.InvariantCulture,
                $"{server,-30}{load,-26}{Ratio.Median(slices.Select(s => s.CpuSecondsPerMillion)),16:F2}{machine,9:F2}{machine - ClientAlone(server, load),15:F2}{Ratio.Median(slices.Select(s => s.QueriesPerSecond)),12:F0}{slices.Average(s => s.LostPercent),9:F3}"));
        }
    }

    public void WriteJson() => Console.WriteLine(JsonSerializer.Serialize(new
    {
        ratios = Loads.SelectMany(l => Servers, (l, ours) => (Name: $"{ours}, {l.Name}", Value: RatioOf(ours, l.Name, s => s.CpuSecondsPerMillion))).Select(r => new { name = r.Name, value = r.Value.Value, low = r.Value.Low, high = r.Value.High, goal = 5 }),
        servers = _slices.Select(s => new
        {
            name = s.Key.Server,
            load = s.Key.Load,
            cpuSecondsPerMillion = Ratio.Median(s.Value.Select(v => v.CpuSecondsPerMillion)),
            machineSecondsPerMillion = Ratio.Median(s.Value.Select(v => v.MachineSecondsPerMillion)),
            queriesPerSecond = Ratio.Median(s.Value.Select(v => v.QueriesPerSecond)),
            lostPercent = s.Value.Average(v => v.LostPercent),
        }),
    }));

    private static string[] Servers => [InKernelAtGateway, InKernel, OursAtGateway, Ours, Echo];

    private Ratio RatioOf(string ours, string load, Func<Slice, double> of) =>
        Ratio.Of([.. _slices[(Docker, load)].Select(of)], [.. _slices[(ours, load)].Select(of)]);

    /// <summary>
    /// What a client spends by itself on the same path, CPU-seconds per million: what the machine spends where a socket
    /// answers, less that server's own.
    /// </summary>
    private double ClientAlone(string server, string load) =>
        Ratio.Median(_slices[(server is InKernelAtGateway or OursAtGateway ? OursAtGateway : Echo, load)].Select(s => s.MachineSecondsPerMillion - s.CpuSecondsPerMillion));

    private static Slice Ask(ServerProcess server, string pid, string address, int port, string queries, string[] options, double seconds)
    {
        var (output, cpu, busy) = Measure.Watch(
            server.OwnCpuNanoseconds,
            "nsenter",
            [
                "-t", pid, "-n", "taskset", "-c", ClientCpu.ToString(CultureInfo.InvariantCulture), "dnsperf", "-s", address, "-p", port.ToString(CultureInfo.InvariantCulture),
                "-d", queries, "-l", seconds.ToString(CultureInfo.InvariantCulture), "-T", "1", "-e", "-t", "2", .. options,
            ]);
        // The same names with the same answers: a server that fails fast is not fast.
        if (!output.Contains("NOERROR", StringComparison.Ordinal) || output.Contains("NXDOMAIN", StringComparison.Ordinal) || output.Contains("SERVFAIL", StringComparison.Ordinal))
            throw new InvalidOperationException($"{server.Name} does not know the names:\n{output}");
        var completed = Measure.Field(output, "Queries completed:");
        var lost = Measure.Field(output, "Queries lost:");
        return new(cpu / 1e9 / completed * 1e6, Measure.Field(output, "Queries per second:"), 100 * lost / Math.Max(1, completed + lost), 0, 0, busy / 1e9 / completed * 1e6);
    }

    private ServerProcess StartDocker()
    {
        // A /run of its own: dockerd's and its plugins' sockets must not be the host's.
        var script = $"mount -t tmpfs none /run && exec dockerd --data-root {directory}/data --exec-root {directory}/exec --pidfile {directory}/docker.pid"
            + $" -H unix://{Socket} --storage-driver vfs --exec-opt native.cgroupdriver=cgroupfs --cgroup-parent {_prefix}";
        var dockerd = ServerProcess.Start(Docker, 53, ServerCpu, "nsenter", $"--net=/run/netns/{_prefix}", "unshare", "--mount", "--propagation", "private", "sh", "-c", script);
        var clock = Stopwatch.StartNew();
        while (!TryDocker("version"))
        {
            if (dockerd.HasExited || clock.Elapsed > TimeSpan.FromMinutes(1))
                throw new InvalidOperationException("dockerd did not start; run it by hand to see why");
            Thread.Sleep(200);
        }

        return dockerd;
    }

    private (string Pid, string Gateway, string Target) MakeContainers()
    {
        var root = Path.Combine(directory, "root");
        Directory.CreateDirectory(Path.Combine(root, "bin"));
        File.Copy("/bin/busybox", Path.Combine(root, "bin/busybox"));
        var archive = Path.Combine(directory, "root.tar");
        Measure.RunTool("tar", "-C", root, "-cf", archive, ".");
        InDocker("import", archive, "bench:1");
        InDocker("network", "create", "bench");
        InDocker(
            [
                "run", "-d", "--name", "target", "--network", "bench", .. Enumerable.Range(0, Names).SelectMany(i => (string[])["--network-alias", BenchData.Service(i)]),
                "bench:1", "/bin/busybox", "sleep", "100000",
            ]);
        InDocker("run", "-d", "--name", "client", "--network", "bench", "bench:1", "/bin/busybox", "sleep", "100000");
        return (
            InDocker("inspect", "-f", "{{.State.Pid}}", "client"),
            InDocker("inspect", "-f", "{{.NetworkSettings.Networks.bench.Gateway}}", "client"),
            InDocker("inspect", "-f", "{{.NetworkSettings.Networks.bench.IPAddress}}", "target"));
    }

    private static ServerProcess StartOurs(string name, string netns, string address, (string Pid, string Gateway, string Target) client, int port = OurPort, string? device = null)
    {
        var ours = ServerProcess.Start(
            name, port, ServerCpu, ["nsenter", $"--net={netns}", Host.Program, "host-at", address, $"{port}", $"{Names}", client.Target, .. device is null ? Array.Empty<string>() : [device]]);
        var answer = "";
        var clock = Stopwatch.StartNew();
        while (answer != client.Target)
        {
            if (ours.HasExited || clock.Elapsed > TimeSpan.FromMinutes(1))
                throw new InvalidOperationException($"{name} answers '{answer}'");
            // dig fails for as long as nobody listens.
            TryRun(out answer, "nsenter", "-t", client.Pid, "-n", "dig", "+short", "+tries=1", "+time=1", $"@{address}", "-p", $"{port}", BenchData.Service(0));
            Thread.Sleep(100);
        }

        return ours;
    }

    /// <summary>The bridge port of a container: the interface that its eth0 names as its other end.</summary>
    private string PortOf(string pid)
    {
        var index = Measure.RunTool("nsenter", "-t", pid, "-n", "ip", "-o", "link", "show", "eth0").Split("@if")[1].Split(':')[0];
        return Measure.RunTool("ip", "-n", _prefix, "-o", "link").Split('\n').First(line => line.StartsWith(index + ":", StringComparison.Ordinal)).Split(' ')[1].Split('@')[0];
    }

    private void StopDocker(ServerProcess dockerd)
    {
        TryDocker("rm", "-f", "target", "client");
        if (int.TryParse(File.Exists($"{directory}/docker.pid") ? File.ReadAllText($"{directory}/docker.pid") : "", out var pid))
        {
            Measure.RunTool("kill", pid.ToString(CultureInfo.InvariantCulture));
            SpinWait.SpinUntil(() => dockerd.HasExited, 20_000);
        }

        dockerd.Dispose();
    }

    private bool TryDocker(params string[] arguments) => TryRun(out _, "docker", ["-H", "unix://" + Socket, .. arguments]);

    private static bool TryRun(out string output, string program, params string[] arguments)
    {
        output = "";
        try
        {
            output = Measure.RunTool(program, arguments).Trim();
            return true;
        }
        catch (InvalidOperationException)
        {
            return false;
        }
    }

    private string InDocker(params string[] arguments) => Measure.RunTool("docker", ["-H", "unix://" + Socket, .. arguments]).Trim();
}
