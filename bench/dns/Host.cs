using System.Globalization;
using System.Net;
using Microsoft.Extensions.Logging.Abstractions;
using OverlayNet.Dns;

namespace OverlayNet.Bench.Dns;

/// <summary>This project's server in a process of its own: <c>host PORT SOCKETS UPSTREAM-PORT</c>. Ends when stdin closes.</summary>
internal static class Host
{
    /// <summary>The native program where it was built (OVERLAYNET_BENCH_HOST), else this one.</summary>
    public static string Program => Environment.GetEnvironmentVariable("OVERLAYNET_BENCH_HOST") is { Length: > 0 } native && File.Exists(native) ? native : Environment.ProcessPath!;

    public static int Run(string[] arguments)
    {
        var port = int.Parse(arguments[0], CultureInfo.InvariantCulture);
        var sockets = int.Parse(arguments[1], CultureInfo.InvariantCulture);
        var upstream = int.Parse(arguments[2], CultureInfo.InvariantCulture);
        using var server = new DnsServer(new DnsServerOptions { ClientQueriesPerSecond = 0 }, NullLogger.Instance);
        server.Apply(BenchData.Config(upstreams: [new IPEndPoint(IPAddress.Loopback, upstream)]));
        if (sockets == 1)
        {
            Listen(server, IPAddress.Loopback, port);
        }
        else
        {
            for (var i = 0; i < sockets; i++)
                Listen(server, new IPAddress([127, 2, (byte)(i / 250), (byte)(1 + i % 250)]), port);
        }

        return UntilInputEnds();
    }

    /// <summary>One listener that answers the first names with one address: <c>host-at ADDRESS PORT NAMES TARGET</c>.</summary>
    public static int RunAt(string[] arguments)
    {
        var names = int.Parse(arguments[2], CultureInfo.InvariantCulture);
        var target = IPAddress.Parse(arguments[3]);
        using var server = new DnsServer(new DnsServerOptions { ClientQueriesPerSecond = 0 }, NullLogger.Instance);
        server.Apply(new DnsConfig
        {
            Synced = true,
            Networks = [new DnsNetwork { Id = "bench", Name = "bench", Services = [.. Enumerable.Range(0, names).Select(i => new DnsService { Name = BenchData.Service(i), VipV4 = target })] }],
        });
        Listen(server, IPAddress.Parse(arguments[0]), int.Parse(arguments[1], CultureInfo.InvariantCulture));
        return UntilInputEnds();
    }

    private static void Listen(DnsServer server, IPAddress address, int port)
    {
        var (udp, tcp) = DnsSockets.Open(new IPEndPoint(address, port));
        server.AddListener(address.ToString(), "bench", udp, tcp, leaveOpen: false);
    }

    private static int UntilInputEnds()
    {
        while (Console.In.ReadLine() is not null)
        {
        }

        return 0;
    }
}
