using System.Diagnostics;
using System.Net;
using System.Net.Sockets;
using OverlayNet.Contracts;
using OverlayNet.Kernel;
using OverlayNet.Tools.Capture.Decode;
using OverlayNet.Tools.Capture.Live;
using OverlayNet.Tools.Cli;

namespace OverlayNet.Tools.Diagnosis.Trace;

/// <summary>
/// Sends one packet that can be known again and watches where it passes: a TCP connection or a UDP datagram by its source
/// port, an echo request by its addresses. What it does at the server is what any client does that connects and leaves.
/// </summary>
internal sealed class ProbeShot(IReadOnlyList<CapturePoint> points)
{
    private const int SnapLength = 256;
    private static readonly TimeSpan Timeout = TimeSpan.FromSeconds(2);

    // What is behind the last point needs as long as the window in which points are put in order.
    private static readonly TimeSpan Settle = TimeSpan.FromMilliseconds(100);
    private readonly List<(DecodedPacket Packet, DecodedPacket Layer)> _seen = [];
    private readonly PacketDecoder _decoder = new();

    public TraceProbe Fire(NetworkNamespace netns, IPAddress source, IPAddress destination, int port, bool udp, IReadOnlyDictionary<IPAddress, string> names)
    {
        var handles = new List<PcapHandle>();
        using var stop = new CancellationTokenSource();
        try
        {
            foreach (var point in points)
            {
                try
                {
                    handles.Add(PcapHandle.Open(point, SnapLength));
                }
                catch (CommandFailure)
                {
                    // A point that is not there was named by the walk; the others still tell where it went.
                }
            }
            var packets = new List<DecodedPacket>();
            var capture = new Thread(() => new LiveCapture(handles, (_, record) => packets.Add(_decoder.Decode(record.Link, record.Data.Span, record.Length, record.TimeNs, record.Point))).Run(() => false, stop.Token)) { IsBackground = true, Name = "trace capture" };
            capture.Start();
            var (outcome, took, mark) = port == 0 ? Echo(netns, source, destination) : udp ? Datagram(netns, source, destination, port) : Connect(netns, source, destination, port);
            Thread.Sleep(Settle);
            stop.Cancel();
            capture.Join();
            foreach (var packet in packets)
            {
                if (packet.Layers().FirstOrDefault(layer => IsOurs(layer, source, mark, port)) is { } layer)
                    _seen.Add((packet, layer));
            }
            return Report(source, destination, port, udp, outcome, took, mark, names);
        }
        finally
        {
            foreach (var handle in handles)
                handle.Dispose();
        }
    }

    private TraceProbe Report(IPAddress source, IPAddress destination, int port, bool udp, string outcome, TimeSpan? took, int mark, IReadOnlyDictionary<IPAddress, string> names)
    {
        var sightings = new List<TraceSighting>();
        foreach (var (packet, layer) in _seen)
        {
            var request = layer.Ip!.Source.Equals(source);
            // The first time at each point and direction: what follows is the rest of the connection.
            if (!sightings.Any(known => known.Point == packet.Point && known.Request == request))
                sightings.Add(new TraceSighting { Point = packet.Point, Request = request, Destination = layer.Ip.Destination, Microseconds = (packet.TimeNs - _seen[0].Packet.TimeNs) / 1000.0 });
        }
        return new TraceProbe
        {
            Protocol = port == 0 ? "icmp" : udp ? "udp" : "tcp",
            Source = source,
            Mark = mark,
            Destination = destination,
            Port = port,
            Outcome = outcome,
            RoundTripMs = took?.TotalMilliseconds,
            Backend = sightings.Where(seen => seen.Request).Select(seen => names.GetValueOrDefault(seen.Destination)).LastOrDefault(name => name is not null),
            Seen = sightings,
        };
    }

    private static bool IsOurs(DecodedPacket layer, IPAddress source, int mark, int port) => layer.Ip is { } ip
        && (ip.Source.Equals(source) || ip.Destination.Equals(source))
        && (port == 0
            ? layer.Icmp is { } icmp && (icmp.EchoRequest || icmp.EchoReply)
            : (ip.Source.Equals(source) ? (layer.Tcp?.SourcePort ?? layer.Udp?.SourcePort) : (layer.Tcp?.DestinationPort ?? layer.Udp?.DestinationPort)) == mark);

    private static (string Outcome, TimeSpan? Took, int Mark) Echo(NetworkNamespace netns, IPAddress source, IPAddress destination)
    {
        const int size = 84;
        var took = EchoProbe.Send(netns, source, destination, size, Timeout);
        return (took is null ? "silent" : "answered", took, 0);
    }

    private static (string Outcome, TimeSpan? Took, int Mark) Connect(NetworkNamespace netns, IPAddress source, IPAddress destination, int port)
    {
        using var socket = netns.Run(() => new Socket(destination.AddressFamily, SocketType.Stream, ProtocolType.Tcp));
        socket.Bind(new IPEndPoint(source, 0));
        var mark = ((IPEndPoint)socket.LocalEndPoint!).Port;
        var watch = Stopwatch.StartNew();
        return BoundedConnect.To(socket, new IPEndPoint(destination, port), Timeout) switch
        {
            null => ("answered", watch.Elapsed, mark),
            SocketError.ConnectionRefused => ("refused", watch.Elapsed, mark),
            SocketError.TimedOut => ("silent", null, mark),
            var error => ($"failed: {error}", watch.Elapsed, mark),
        };
    }

    private static (string Outcome, TimeSpan? Took, int Mark) Datagram(NetworkNamespace netns, IPAddress source, IPAddress destination, int port)
    {
        using var socket = netns.Run(() => new Socket(destination.AddressFamily, SocketType.Dgram, ProtocolType.Udp));
        socket.Bind(new IPEndPoint(source, 0));
        var mark = ((IPEndPoint)socket.LocalEndPoint!).Port;
        var watch = Stopwatch.StartNew();
        try
        {
            socket.Connect(new IPEndPoint(destination, port));
            socket.ReceiveTimeout = (int)Timeout.TotalMilliseconds;
            socket.Send("overlaynet trace"u8);
            socket.Receive(new byte[ushort.MaxValue]);
            return ("answered", watch.Elapsed, mark);
        }
        catch (SocketException e)
        {
            return (e.SocketErrorCode switch { SocketError.ConnectionRefused => "refused", SocketError.TimedOut or SocketError.WouldBlock => "silent", _ => $"failed: {e.Message}" }, watch.Elapsed, mark);
        }
    }
}
