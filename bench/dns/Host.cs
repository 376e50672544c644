using System.Globalization;
using System.Net;
using Microsoft.Extensions.Logging.Abstractions;
using OverlayNet.Dns;

namespace OverlayNet.Bench.Dns;

/// <summary>This project's server in a process of its own: <c>host PORT SOCKETS UPSTREAM-PORT</c>. Ends when stdin closes.</summary>
internal static class Host
{
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

        Console.WriteLine("ready");
        while (Console.In.ReadLine() is not null)
        {
        }

        return 0;
    }

    private static void Listen(DnsServer server, IPAddress address, int port)
    {
        var (udp, tcp) = DnsSockets.Open(new IPEndPoint(address, port));
        server.AddListener(address.ToString(), "bench", udp, tcp, leaveOpen: false);
    }
}
