using System.Collections.Concurrent;
using System.Diagnostics;
using System.Net;
using OverlayNet.ClusterTests.Vip;
using OverlayNet.Kernel;
using OverlayNet.Kernel.Netlink;
using OverlayNet.Vip.Vrrp;

namespace OverlayNet.ClusterTests.Vrrp;

/// <summary>Asks for an address by ARP a thousand times a second.</summary>
public static class ArpAsker
{
    /// <summary>Runs on eth0 of the calling thread's namespace until stopped.</summary>
    public static void Run(IPAddress address, IPAddress self, CancellationToken stop)
    {
        using var route = NetlinkSocket.Open(NetlinkProtocol.Route);
        var link = new RouteLinks(route).Get("eth0")!;
        using var frames = new PacketSender(link.Index);
        var frame = LinkAnnouncement.GratuitousArp(address, link.Mac!.Value);
        self.GetAddressBytes().CopyTo(frame, 14 + 14);
        while (!stop.IsCancellationRequested)
        {
            frames.TrySend(frame);
            Thread.Sleep(1);
        }
    }
}

/// <summary>tcpdump's lines, with the kernel's time stamps in seconds.</summary>
public sealed class Capture : IDisposable
{
    private readonly Process _process;
    private readonly ConcurrentQueue<string> _lines = new();

    public Capture(TestNamespace netns, string device, string filter)
    {
        _process = Process.Start(new ProcessStartInfo("nsenter",
            [$"--net={netns.Path}", "--", "tcpdump", "-l", "-n", "-tt", "--immediate-mode", "-i", device, filter])
        {
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        })!;
        using var listening = new ManualResetEventSlim();
        _process.OutputDataReceived += (_, line) => Keep(line.Data);
        _process.ErrorDataReceived += (_, line) =>
        {
            if (line.Data?.Contains("listening", StringComparison.Ordinal) == true)
                listening.Set();
        };
        _process.BeginOutputReadLine();
        _process.BeginErrorReadLine();
        Assert.True(listening.Wait(10_000), "tcpdump does not start: apt-get install tcpdump");
    }

    public string[] Lines => [.. _lines];

    public void Dispose()
    {
        _process.Kill();
        _process.WaitForExit();
        _process.Dispose();
    }

    private void Keep(string? line)
    {
        if (line is not null)
            _lines.Enqueue(line);
    }
}
