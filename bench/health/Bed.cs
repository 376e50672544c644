using System.Diagnostics;
using System.Globalization;
using System.Net;
using System.Net.Sockets;
using System.Text;

namespace OverlayNet.Bench.Health;

/// <summary>
/// Two namespaces and a veth pair between them: probers on one side, on the other a HAProxy that answers 200 on every address of a
/// prefix, and counts.
/// </summary>
internal sealed class Bed : IDisposable
{
    private readonly string _directory = Directory.CreateTempSubdirectory("overlaynet-bench-health-").FullName;
    private readonly string _prefix = $"onb{Environment.ProcessId.ToString(CultureInfo.InvariantCulture)}";
    private readonly List<Process> _processes = [];

    public Bed()
    {
        try
        {
            foreach (var netns in new[] { Probers, Targets })
                Run("ip", "netns", "add", netns);
            Run("ip", "-n", Probers, "link", "add", "p", "type", "veth", "peer", "name", "t", "netns", Targets);
            Run("ip", "-n", Probers, "address", "add", $"{Source}/30", "dev", "p");
            Run("ip", "-n", Targets, "address", "add", "192.0.2.2/30", "dev", "t");
            Run("ip", "-n", Probers, "link", "set", "dev", "p", "up");
            Run("ip", "-n", Targets, "link", "set", "dev", "t", "up");
            Run("ip", "-n", Targets, "link", "set", "dev", "lo", "up");
            Run("ip", "-n", Probers, "route", "add", "10.64.0.0/16", "via", "192.0.2.2");
            // Every address of the prefix is this host's own.
            Run("ip", "-n", Targets, "route", "add", "local", "10.64.0.0/16", "dev", "lo");
            Start(Targets, "answer.cfg", $"""
                global
                  maxconn 9000
                  nbthread 1
                  stats socket {Stats} level admin
                defaults
                  mode http
                  timeout client 5s
                frontend answer
                  bind 0.0.0.0:80
                  http-request return status 200 content-type text/plain string ok
                """);
            var patience = Stopwatch.StartNew();
            while (!File.Exists(Stats))
            {
                if (patience.Elapsed > TimeSpan.FromSeconds(20))
                    throw new InvalidOperationException("the answering haproxy does not start");
                Thread.Sleep(20);
            }
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    public string Probers => $"{_prefix}p";

    public static IPAddress Source { get; } = IPAddress.Parse("192.0.2.1");

    private string Targets => $"{_prefix}t";

    private string Stats => Path.Combine(_directory, "stats");

    public static IPAddress Target(int index) => new([10, 64, (byte)(index >> 8), (byte)index]);

    /// <summary>A HAProxy whose only work is to check so many servers; without a listener it would not start.</summary>
    public Process StartChecker(int targets, TimeSpan interval)
    {
        var text = new StringBuilder(string.Create(CultureInfo.InvariantCulture, $"""
            global
              nbthread 1
              spread-checks 10
            defaults
              mode http
              timeout connect 1s
              timeout server 1s
              timeout check 1s
              timeout client 1s
            frontend idle
              bind {Path.Combine(_directory, "idle")}
            backend checked
              option httpchk GET /healthz
              default-server check inter {(int)interval.TotalMilliseconds} fall 3 rise 2

            """));
        for (var i = 0; i < targets; i++)
            text.Append(CultureInfo.InvariantCulture, $"  server s{i} {Target(i)}:80\n");
        return Start(Probers, "check.cfg", text.ToString());
    }

    /// <summary>Requests answered since the beginning.</summary>
    public long Answered()
    {
        using var socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        socket.Connect(new UnixDomainSocketEndPoint(Stats));
        socket.Send("show info\n"u8);
        using var reader = new StreamReader(new NetworkStream(socket));
        return reader.ReadToEnd().Split('\n').Where(line => line.StartsWith("CumReq:", StringComparison.Ordinal))
            .Select(line => long.Parse(line["CumReq:".Length..], CultureInfo.InvariantCulture)).Single();
    }

    public static void Stop(Process process)
    {
        process.Kill();
        process.WaitForExit();
    }

    public void Dispose()
    {
        foreach (var process in _processes.Where(process => !process.HasExited))
            Stop(process);
        foreach (var netns in new[] { Probers, Targets })
            Process.Start(new ProcessStartInfo("ip", ["netns", "del", netns]) { RedirectStandardError = true })!.WaitForExit();
        Directory.Delete(_directory, recursive: true);
    }

    private Process Start(string netns, string file, string configuration)
    {
        var path = Path.Combine(_directory, file);
        // HAProxy takes a last line without an end for a truncated file.
        File.WriteAllText(path, configuration + "\n");
        // In the foreground, and without the warnings about time-outs that do not matter here.
        var process = Process.Start(new ProcessStartInfo("ip", ["netns", "exec", netns, "haproxy", "-db", "-q", "-f", path]) { RedirectStandardError = true, RedirectStandardOutput = true })!;
        process.ErrorDataReceived += (_, _) => { };
        process.OutputDataReceived += (_, _) => { };
        process.BeginErrorReadLine();
        process.BeginOutputReadLine();
        _processes.Add(process);
        return process;
    }

    private static void Run(string program, params IEnumerable<string> arguments)
    {
        using var process = Process.Start(new ProcessStartInfo(program, arguments) { RedirectStandardError = true })!;
        var error = process.StandardError.ReadToEnd();
        process.WaitForExit();
        if (process.ExitCode != 0)
            throw new InvalidOperationException($"{program}: {error}");
    }
}
