using System.Diagnostics;
using System.Net;
using System.Net.Sockets;
using Microsoft.Extensions.Logging.Abstractions;
using OverlayNet.Dns;

namespace OverlayNet.Bench.Dns;

/// <summary>What needs no peer: loading a million names, and how soon one change is answered.</summary>
internal static class InProcess
{
    /// <param name="Names">Entries of the table.</param>
    /// <param name="Seconds">From Apply to its return, best of three.</param>
    /// <param name="BytesPerName">Memory that stays after a collection, the configuration itself not counted.</param>
    internal readonly record struct LoadResult(long Names, double Seconds, double BytesPerName);

    /// <summary>Microseconds.</summary>
    internal readonly record struct UpdateResult(double ApplyP50, double ApplyP99, double VisibleP50, double VisibleP99);

    public static LoadResult LoadMillion()
    {
        // Each has its name, tasks.name and a reverse name.
        const int Services = 333_334;
        var services = new DnsService[Services];
        for (var i = 0; i < Services; i++)
            services[i] = new DnsService { Name = "svc" + i, VipV4 = new IPAddress([10, (byte)(i >> 16), (byte)(i >> 8), (byte)i]) };
        var best = double.MaxValue;
        long names = 0, bytes = 0;
        for (var round = 0; round < 3; round++)
        {
            using var server = new DnsServer(new DnsServerOptions(), NullLogger.Instance);
            var config = new DnsConfig { Synced = true, Networks = [new DnsNetwork { Id = "n", Name = "n", Services = services }] };
            var before = GC.GetTotalMemory(forceFullCollection: true);
            var clock = Stopwatch.StartNew();
            server.Apply(config);
            best = Math.Min(best, clock.Elapsed.TotalSeconds);
            bytes = GC.GetTotalMemory(forceFullCollection: true) - before;
            names = server.GetMetrics().Names;
        }

        GC.KeepAlive(services);
        return new(names, best, (double)bytes / names);
    }

    public static UpdateResult Update(int rounds)
    {
        using var server = new DnsServer(new DnsServerOptions { ClientQueriesPerSecond = 0 }, NullLogger.Instance);
        var config = BenchData.Config();
        server.Apply(config);
        var (udp, tcp) = DnsSockets.Open(new IPEndPoint(IPAddress.Loopback, 0));
        var port = DnsSockets.GetPort(udp);
        server.AddListener("bench", "bench", udp, tcp, leaveOpen: false);
        using var socket = new Socket(AddressFamily.InterNetwork, SocketType.Dgram, ProtocolType.Udp);
        socket.Connect(IPAddress.Loopback, port);

        var random = new Random(1);
        var apply = new List<double>();
        var visible = new List<double>();
        var services = config.Networks[0].Services.ToArray();
        var answer = new byte[512];
        for (var round = 0; round < rounds; round++)
        {
            var i = random.Next(services.Length);
            var address = new IPAddress([10, 7, (byte)random.Next(256), (byte)random.Next(1, 255)]);
            services = [.. services];
            services[i] = services[i] with { VipV4 = address };
            var next = config with { Revision = round, Networks = [config.Networks[0] with { Services = services }] };
            byte[] query = [0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 8, .. System.Text.Encoding.ASCII.GetBytes(BenchData.Service(i)), 0, 0, 1, 0, 1];
            var start = Stopwatch.GetTimestamp();
            server.Apply(next);
            apply.Add(Stopwatch.GetElapsedTime(start).TotalMicroseconds);
            while (true)
            {
                socket.Send(query);
                var length = socket.Receive(answer);
                if (answer.AsSpan(length - 4, 4).SequenceEqual(address.GetAddressBytes()))
                    break;
            }

            visible.Add(Stopwatch.GetElapsedTime(start).TotalMicroseconds);
        }

        return new(Quantile(apply, 0.5), Quantile(apply, 0.99), Quantile(visible, 0.5), Quantile(visible, 0.99));
    }

    private static double Quantile(List<double> values, double q)
    {
        var sorted = values.Order().ToArray();
        return sorted[Math.Min(sorted.Length - 1, (int)(sorted.Length * q))];
    }
}
