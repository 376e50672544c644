using System.Globalization;
using System.Net;
using Microsoft.Extensions.Logging.Abstractions;
using OverlayNet.Dns;
using OverlayNet.Dns.InKernel;
using OverlayNet.Kernel;
using OverlayNet.Kernel.Netlink;

namespace OverlayNet.Bench.Dns;

/// <summary>This project's server in a process of its own: <c>host PORT SOCKETS UPSTREAM-PORT [DEVICE]</c>; with a device the kernel answers there what it can. Ends when stdin closes.</summary>
internal static class Host
{
    /// <summary>The native program where it was built (OVERLAYNET_BENCH_HOST), else this one.</summary>
    public static string Program => Environment.GetEnvironmentVariable("OVERLAYNET_BENCH_HOST") is { Length: > 0 } native && File.Exists(native) ? native : Environment.ProcessPath!;

    public static int Run(string[] arguments)
    {
        var port = int.Parse(arguments[0], CultureInfo.InvariantCulture);
        var sockets = int.Parse(arguments[1], CultureInfo.InvariantCulture);
        var upstream = int.Parse(arguments[2], CultureInfo.InvariantCulture);
        using var kernel = arguments.Length > 3 ? new KernelAnswers(queriesPerSecond: 0) : null;
        using var server = new DnsServer(new DnsServerOptions { ClientQueriesPerSecond = 0 }, NullLogger.Instance, kernel: kernel);
        server.Apply(BenchData.Config(upstreams: [new IPEndPoint(IPAddress.Loopback, upstream)]));
        IPAddress[] addresses = sockets == 1 ? [IPAddress.Loopback] : [.. Enumerable.Range(0, sockets).Select(i => new IPAddress([127, 2, (byte)(i / 250), (byte)(1 + i % 250)]))];
        foreach (var address in addresses)
            Listen(server, address, port);
        if (kernel is not null)
            Attach(kernel, arguments[3], addresses, port);
        return UntilInputEnds();
    }

    /// <summary>One listener that answers the first names with one address: <c>host-at ADDRESS PORT NAMES TARGET [DEVICE]</c>.</summary>
    public static int RunAt(string[] arguments)
    {
        var names = int.Parse(arguments[2], CultureInfo.InvariantCulture);
        var target = IPAddress.Parse(arguments[3]);
        using var kernel = arguments.Length > 4 ? new KernelAnswers(queriesPerSecond: 0) : null;
        using var server = new DnsServer(new DnsServerOptions { ClientQueriesPerSecond = 0 }, NullLogger.Instance, kernel: kernel);
        server.Apply(new DnsConfig
        {
            Synced = true,
            Networks = [new DnsNetwork { Id = "bench", Name = "bench", Services = [.. Enumerable.Range(0, names).Select(i => new DnsService { Name = BenchData.Service(i), VipV4 = target })] }],
        });
        var (listen, port) = (IPAddress.Parse(arguments[0]), int.Parse(arguments[1], CultureInfo.InvariantCulture));
        Listen(server, listen, port);
        if (kernel is not null)
            Attach(kernel, arguments[4], [listen], port);
        return UntilInputEnds();
    }

    private static void Listen(DnsServer server, IPAddress address, int port)
    {
        var (udp, tcp) = DnsSockets.Open(new IPEndPoint(address, port));
        server.AddListener(address.ToString(), "bench", udp, tcp, leaveOpen: false);
    }

    private static void Attach(KernelAnswers kernel, string device, IPAddress[] addresses, int port)
    {
        using var route = NetlinkSocket.Open(NetlinkProtocol.Route);
        var link = new RouteLinks(route).Get(device) ?? throw new InvalidOperationException($"there is no interface {device}");
        kernel.Listen("bench", "bench", addresses, GatewayMac(new RouteLinks(route), link), port);
        kernel.Attach("bench", device, link.Index);
    }

    /// <summary>Whom queries are addressed to: the bridge that the device is a port of, else the device.</summary>
    private static MacAddress GatewayMac(RouteLinks links, Link device) =>
        (device.Master == 0 ? device : links.Dump().First(link => link.Index == device.Master)).Mac ?? default;

    private static int UntilInputEnds()
    {
        while (Console.In.ReadLine() is not null)
        {
        }

        return 0;
    }
}
