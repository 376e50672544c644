using System.Diagnostics;
using System.Globalization;
using System.Net;
using System.Net.Sockets;

namespace OverlayNet.Bench.Dns;

/// <summary>One slice of load on one server.</summary>
/// <param name="CpuSecondsPerMillion">Server's CPU-seconds per million answered queries.</param>
/// <param name="QueriesPerSecond">Answered.</param>
/// <param name="LostPercent">Queries without an answer.</param>
/// <param name="P50">Microseconds; 0 when the tool does not say.</param>
/// <param name="P99">Microseconds; 0 when the tool does not say.</param>
/// <param name="MachineSecondsPerMillion">The whole machine's CPU-seconds per million answered queries, the client's included.</param>
internal readonly record struct Slice(double CpuSecondsPerMillion, double QueriesPerSecond, double LostPercent, double P50, double P99, double MachineSecondsPerMillion);

internal static class Measure
{
    /// <summary>Open-ended load by dnsperf with EDNS, 100 queries outstanding, spread over so many sockets.</summary>
    public static Slice Saturate(ServerProcess server, string queries, int sockets, double seconds, int clientCpu)
    {
        var (output, cpu, busy) = Watch(
            server.CpuNanoseconds, "taskset", "-c", Text(clientCpu), "dnsperf", "-s", "127.0.0.1", "-p", Text(server.Port), "-d", queries,
            "-l", seconds.ToString(CultureInfo.InvariantCulture), "-c", Text(sockets), "-T", "1", "-q", "100", "-e", "-t", "2");
        var completed = Field(output, "Queries completed:");
        var lost = Field(output, "Queries lost:");
        return new(cpu / 1e9 / completed * 1e6, Field(output, "Queries per second:"), 100 * lost / Math.Max(1, completed + lost), 0, 0, busy / 1e9 / completed * 1e6);
    }

    /// <summary>A fixed rate over many addresses, with latencies.</summary>
    public static Slice Paced(ServerProcess server, string loadTool, string queries, int addresses, int rate, double seconds, int clientCpu)
    {
        var (output, cpu, busy) = Watch(
            server.CpuNanoseconds, "taskset", "-c", Text(clientCpu), loadTool, queries, Text(server.Port), Text(addresses), Text(rate),
            seconds.ToString(CultureInfo.InvariantCulture));
        var fields = output.Split(' ', StringSplitOptions.TrimEntries).Select(f => double.Parse(f, CultureInfo.InvariantCulture)).ToArray();
        return new(cpu / 1e9 / fields[1] * 1e6, fields[1] / seconds, 100 * (fields[0] - fields[1]) / fields[0], fields[2], fields[3], busy / 1e9 / fields[1] * 1e6);
    }

    /// <summary>Waits until the server answers a query for this name with records.</summary>
    public static void WaitUntilReady(ServerProcess server, IPAddress address, byte[] query, bool anyAnswer)
    {
        using var socket = new Socket(AddressFamily.InterNetwork, SocketType.Dgram, ProtocolType.Udp) { ReceiveTimeout = 100 };
        socket.Connect(address, server.Port);
        var buffer = new byte[4096];
        var clock = Stopwatch.StartNew();
        while (clock.Elapsed < TimeSpan.FromSeconds(60))
        {
            if (server.HasExited)
                throw new InvalidOperationException($"{server.Name} ended at once; is it installed, and port {server.Port} free?");
            try
            {
                socket.Send(query);
                var length = socket.Receive(buffer);
                if (anyAnswer || (length > 12 && buffer[7] > 0))
                    return;
            }
            catch (SocketException)
            {
                Thread.Sleep(20);
            }
        }

        throw new TimeoutException($"{server.Name} does not answer on port {server.Port}");
    }

    /// <summary>Runs a client and reads, around it, the server's clock and the machine's.</summary>
    /// <returns>What the client printed; nanoseconds of the server and of the whole machine.</returns>
    public static (string Output, long Server, long Machine) Watch(Func<long> serverNanoseconds, string program, params string[] arguments)
    {
        var before = serverNanoseconds();
        var busy = Machine.BusyNanoseconds();
        var output = RunTool(program, arguments);
        busy = Machine.BusyNanoseconds() - busy;
        return (output, serverNanoseconds() - before, busy);
    }

    public static string RunTool(string program, params string[] arguments)
    {
        var start = new ProcessStartInfo(program) { RedirectStandardOutput = true };
        foreach (var argument in arguments)
            start.ArgumentList.Add(argument);
        using var process = Process.Start(start) ?? throw new InvalidOperationException($"{program} did not start");
        var output = process.StandardOutput.ReadToEnd();
        process.WaitForExit();
        if (process.ExitCode != 0)
            throw new InvalidOperationException($"{program} {string.Join(' ', arguments)} failed with exit code {process.ExitCode}");
        return output;
    }

    /// <summary>A figure of dnsperf's summary.</summary>
    public static double Field(string output, string name)
    {
        var line = output.Split('\n').FirstOrDefault(l => l.Contains(name, StringComparison.Ordinal))
            ?? throw new InvalidOperationException($"dnsperf said nothing about '{name}'");
        var value = line[(line.IndexOf(name, StringComparison.Ordinal) + name.Length)..].Trim().Split(' ')[0];
        return double.Parse(value, CultureInfo.InvariantCulture);
    }

    private static string Text(int number) => number.ToString(CultureInfo.InvariantCulture);
}
