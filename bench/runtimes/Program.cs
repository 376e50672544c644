using System.Diagnostics;
using System.Globalization;
using System.Net;
using System.Net.Sockets;
using OverlayNet.Bench.Runtimes;
using OverlayNet.Kernel;
using OverlayNet.RuntimeTests.Docker;

var runs = args.Contains("--quick") ? 5 : 30;
var rows = new Rows();
using var cluster = new DockerCluster();
var (one, two) = (cluster.Hosts[0], cluster.Hosts[1]);
var manager = cluster.Manager;

// Both in one Docker at once, so that they share whatever load there is.
// Swarm may not have the port of VXLAN that we have.
one.Run("swarm", "init", "--advertise-addr", one.Node.Address, "--data-path-port", "7789");
one.Run("network", "create", "-d", "overlay", "--attachable", "swarm-net");
cluster.CreateNetwork("bench-net");
one.Run("run", "-d", "--name", "swarm-asker", "--network", "swarm-net", Images.Busybox, "sleep", "1d");
one.Run("run", "-d", "--name", "asker", "--network", "bench-net", Images.Busybox, "sleep", "1d");
using var swarm = new Resolver(one, "swarm-asker");
using var ours = new Resolver(one, "asker");
for (var run = 0; run < runs; run++)
{
    var name = string.Create(CultureInfo.InvariantCulture, $"s{run}");
    // Swarm takes seconds for each: a third as often.
    if (run % 3 == 0)
    {
        string[] service = ["service", "create", "-d", "--name", name, "--network", "swarm-net", "--no-resolve-image", Images.Busybox, "sleep", "1d"];
        rows.Change("swarm: create", () => one.Run(service), () => swarm.Until($"tasks.{name}", 1));
        rows.Change("swarm: scale 1 to 2", () => one.Run("service", "scale", "-d", $"{name}=2"), () => swarm.Until($"tasks.{name}", 2));
        rows.Change("swarm: scale 2 to 1", () => one.Run("service", "scale", "-d", $"{name}=1"), () => swarm.Until($"tasks.{name}", 1));
        rows.Change("swarm: rm", () => one.Run("service", "rm", name), () => swarm.Until($"tasks.{name}", 0));
    }

    manager.Cli("service", "create", "--network", "bench-net", "--port", "80", name);
    string[] container = ["run", "-d", "--network", $"name=bench-net,driver-opt=overlaynet.service={name}", Images.Busybox, "sleep", "1d"];
    string first = "", second = "";
    rows.Change("ours: docker run", () => first = one.Run(container).Text, () => ours.Until($"tasks.{name}", 1));
    rows.Change("ours: docker run, 1 to 2", () => second = two.Run(container).Text, () => ours.Until($"tasks.{name}", 2));
    rows.Change("ours: docker rm -f, 2 to 1", () => two.Run("rm", "-f", second), () => ours.Until($"tasks.{name}", 1));
    rows.Change("ours: docker rm -f", () => one.Run("rm", "-f", first), () => ours.Until($"tasks.{name}", 0));
    manager.Cli("service", "rm", name);

    foreach (var network in run % 2 == 0 ? ["bridge", "bench-net"] : new[] { "bench-net", "bridge" })
        rows.Time($"docker run to first answer: {network}", () => FirstAnswer(one, network));
}
rows.Print(runs, args.Contains("--json"));
return 0;

static void FirstAnswer(DockerHost host, string network)
{
    var id = host.Run("run", "-d", "--network", network, Images.Debian, "socat", "TCP-LISTEN:80,fork,reuseaddr", "SYSTEM:echo here").Text;
    try
    {
        var address = new IPEndPoint(IPAddress.Parse(host.Address(id, network)), 80);
        using var netns = NetworkNamespace.Open($"/run/netns/{host.Node.Netns}");
        var started = Stopwatch.GetTimestamp();
        while (Stopwatch.GetElapsedTime(started) < TimeSpan.FromSeconds(30))
        {
            using var socket = netns.Run(() => new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp));
            try
            {
                socket.Connect(address);
                if (socket.Receive(new byte[16]) > 0)
                    return;
            }
            catch (SocketException)
            {
                Thread.Sleep(1);
            }
        }
        throw new TimeoutException($"no answer from {address}");
    }
    finally
    {
        _ = Task.Run(() => host.TryRun("rm", "-f", id));
    }
}
