using System.Buffers.Binary;
using System.Diagnostics;
using System.Globalization;
using System.Net;
using OverlayNet.Kernel;
using OverlayNet.Kernel.Netlink;
using OverlayNet.Vip.Vrrp;

namespace OverlayNet.ClusterTests.FloatingVip;

/// <summary>One frame that says that its sender has the VIP: an ARP packet or neighbour advertisement for it, or IP from it.</summary>
/// <param name="At">The kernel's time stamp, seconds since the epoch.</param>
/// <param name="Port">The switch port it came in by: who sent it, whatever became of it afterwards.</param>
/// <param name="Announcement">Unasked: gratuitous ARP or an unsolicited neighbour advertisement.</param>
public readonly record struct Sighting(double At, string Port, bool Announcement);

/// <summary>
/// Stands at the underlay's switch: asks for the VIP all the time (ARP, neighbour solicitation, echo requests of both families, in
/// frames that reach every node) and writes down every frame that a node sends as its owner, before any fault can drop it.
/// </summary>
public sealed class UnderlayJudge : IDisposable
{
    private static readonly TimeSpan AskEvery = TimeSpan.FromMilliseconds(4);
    private readonly Process _tcpdump;
    private readonly List<Sighting> _sightings = [];
    private readonly Lock _gate = new();
    private readonly CancellationTokenSource _stop = new();
    private readonly Thread _asker;

    /// <param name="switchNamespace">Where the ports are, named as in the sightings.</param>
    /// <param name="askerNamespace">A host on the switch with eth0.</param>
    public UnderlayJudge(string switchNamespace, string askerNamespace, IPAddress vip4, IPAddress self4, IPAddress? vip6 = null, IPAddress? self6 = null)
    {
        var filter = $"(arp and arp src host {vip4}) or src host {vip4}"
            + (vip6 is null ? "" : $" or src host {vip6} or (icmp6 and ip6[40] == 136 and ip6[60:4] == 0x{Convert.ToHexString(vip6.GetAddressBytes().AsSpan(12))})");
        _tcpdump = Process.Start(new ProcessStartInfo("nsenter",
            [$"--net=/run/netns/{switchNamespace}", "--", "tcpdump", "-l", "-n", "-tt", "-B", "8192", "--immediate-mode", "-i", "any", "-Q", "in", filter])
        {
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        })!;
        using var listening = new ManualResetEventSlim();
        _tcpdump.OutputDataReceived += (_, line) => Take(line.Data);
        _tcpdump.ErrorDataReceived += (_, line) =>
        {
            if (line.Data?.Contains("listening", StringComparison.Ordinal) == true)
                listening.Set();
        };
        _tcpdump.BeginOutputReadLine();
        _tcpdump.BeginErrorReadLine();
        if (!listening.Wait(20_000))
            throw new InvalidOperationException("tcpdump does not start: apt-get install tcpdump");
        _asker = new Thread(() => Ask(askerNamespace, vip4, self4, vip6, self6)) { IsBackground = true };
        _asker.Start();
    }

    public static double Now => (DateTime.UtcNow - DateTime.UnixEpoch).TotalSeconds;

    /// <summary>What was seen from a moment on, by the kernel's time stamps.</summary>
    public IReadOnlyList<Sighting> Since(double at)
    {
        lock (_gate)
        {
            var first = _sightings.Count;
            while (first > 0 && _sightings[first - 1].At >= at)
                first--;
            return _sightings[first..];
        }
    }

    /// <summary>Who spoke last; null: nobody within the last <paramref name="within"/> seconds.</summary>
    public string? Owner(double within = 0.2)
    {
        lock (_gate)
            return _sightings.Count > 0 && _sightings[^1].At > Now - within ? _sightings[^1].Port : null;
    }

    /// <summary>The longest time between two frames of an owner since a moment, in milliseconds.</summary>
    public double LongestGapMs(double since)
    {
        var seen = Since(since);
        return seen.Zip(seen.Skip(1), (a, b) => b.At - a.At).DefaultIfEmpty(0).Max() * 1000;
    }

    /// <summary>Unbroken runs of one sender.</summary>
    public static List<(string Port, double From, double To)> Reigns(IReadOnlyList<Sighting> sightings)
    {
        var reigns = new List<(string Port, double From, double To)>();
        foreach (var seen in sightings)
        {
            if (reigns.Count > 0 && reigns[^1].Port == seen.Port)
                reigns[^1] = reigns[^1] with { To = seen.At };
            else
                reigns.Add((seen.Port, seen.At, seen.At));
        }
        return reigns;
    }

    public void Dispose()
    {
        _stop.Cancel();
        _asker.Join();
        if (!_tcpdump.HasExited)
            _tcpdump.Kill(entireProcessTree: true);
        _tcpdump.WaitForExit();
        _tcpdump.Dispose();
        _stop.Dispose();
    }

    // 1732650000.123456 n2    P   ARP, Reply 192.0.2.100 is-at ... (P: to another host, B: broadcast, M: multicast)
    private void Take(string? line)
    {
        if (line?.Split(' ', 5, StringSplitOptions.RemoveEmptyEntries) is not [var at, var port, "In" or "P" or "B" or "M", _, var rest]
            || !double.TryParse(at, CultureInfo.InvariantCulture, out var time) || port == "br0")
            return;
        var announcement = line.Contains("Request who-has", StringComparison.Ordinal) || line.Contains("> ff02::1:", StringComparison.Ordinal);
        lock (_gate)
            _sightings.Add(new Sighting(time, port, announcement && rest.Length > 0));
    }

    private void Ask(string netns, IPAddress vip4, IPAddress self4, IPAddress? vip6, IPAddress? self6)
    {
        using var host = NamedNamespaces.OpenPinned(netns);
        host.Run(() =>
        {
            using var route = NetlinkSocket.Open(NetlinkProtocol.Route);
            var link = new RouteLinks(route).Get("eth0")!;
            using var frames = new PacketSender(link.Index);
            List<byte[]> questions = [ArpRequest(vip4, self4, link.Mac!.Value), Echo(vip4, self4, link.Mac!.Value)];
            if (vip6 is not null && self6 is not null)
                questions.AddRange([Solicitation(vip6, self6, link.Mac!.Value), Echo(vip6, self6, link.Mac!.Value)]);
            while (!_stop.IsCancellationRequested)
            {
                foreach (var question in questions)
                    frames.TrySend(question);
                Thread.Sleep(AskEvery);
            }
        });
    }

    private static byte[] ArpRequest(IPAddress target, IPAddress self, MacAddress mac)
    {
        var frame = LinkAnnouncement.GratuitousArp(target, mac);
        self.GetAddressBytes().CopyTo(frame, 14 + 14);
        return frame;
    }

    private static byte[] Solicitation(IPAddress target, IPAddress self, MacAddress mac)
    {
        var group = IPAddress.Parse("ff02::1:ff00:0").GetAddressBytes();
        target.GetAddressBytes().AsSpan(13).CopyTo(group.AsSpan(13));
        var message = new byte[32];
        message[0] = 135;
        target.GetAddressBytes().CopyTo(message, 8);
        (message[24], message[25]) = (1, 1);
        mac.Write(message.AsSpan(26));
        return Frame6(new IPAddress(group), self, mac, message, multicast: [0x33, 0x33, .. group[12..]]);
    }

    // An echo request in a frame for everybody: whoever has the address answers.
    private static byte[] Echo(IPAddress target, IPAddress self, MacAddress mac)
    {
        var message = new byte[8];
        if (target.AddressFamily == System.Net.Sockets.AddressFamily.InterNetworkV6)
        {
            message[0] = 128;
            return Frame6(target, self, mac, message, [0x33, 0x33, 0, 0, 0, 1]);
        }
        message[0] = 8;
        BinaryPrimitives.WriteUInt16BigEndian(message.AsSpan(2), InternetChecksum.Finish(InternetChecksum.Add(0, message)));
        var frame = new byte[14 + 20 + message.Length];
        Ethernet(frame, [0xff, 0xff, 0xff, 0xff, 0xff, 0xff], mac, 0x0800);
        var ip = frame.AsSpan(14);
        ip[0] = 0x45;
        BinaryPrimitives.WriteUInt16BigEndian(ip[2..], (ushort)(20 + message.Length));
        (ip[8], ip[9]) = (64, 1);
        self.GetAddressBytes().CopyTo(ip[12..]);
        target.GetAddressBytes().CopyTo(ip[16..]);
        BinaryPrimitives.WriteUInt16BigEndian(ip[10..], InternetChecksum.Finish(InternetChecksum.Add(0, ip[..20])));
        message.CopyTo(ip[20..]);
        return frame;
    }

    private static byte[] Frame6(IPAddress destination, IPAddress self, MacAddress mac, byte[] message, byte[] multicast)
    {
        const byte icmp6 = 58;
        var frame = new byte[14 + 40 + message.Length];
        Ethernet(frame, multicast, mac, 0x86dd);
        var ip = frame.AsSpan(14);
        ip[0] = 0x60;
        BinaryPrimitives.WriteUInt16BigEndian(ip[4..], (ushort)message.Length);
        (ip[6], ip[7]) = (icmp6, 255);
        self.GetAddressBytes().CopyTo(ip[8..]);
        destination.GetAddressBytes().CopyTo(ip[24..]);
        message.AsSpan(2, 2).Clear();
        var sum = InternetChecksum.PseudoHeader(self, destination, message.Length, icmp6);
        BinaryPrimitives.WriteUInt16BigEndian(message.AsSpan(2), InternetChecksum.Finish(InternetChecksum.Add(sum, message)));
        message.CopyTo(ip[40..]);
        return frame;
    }

    private static void Ethernet(byte[] frame, byte[] to, MacAddress from, ushort type)
    {
        to.CopyTo(frame, 0);
        from.Write(frame.AsSpan(6));
        BinaryPrimitives.WriteUInt16BigEndian(frame.AsSpan(12), type);
    }
}
