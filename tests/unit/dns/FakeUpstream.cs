using System.Buffers.Binary;
using System.Net;
using System.Net.Sockets;
using OverlayNet.Dns;

namespace OverlayNet.UnitTests.Dns;

/// <summary>A scripted upstream on loopback, UDP and TCP on one port.</summary>
internal sealed class FakeUpstream : IDisposable
{
    private readonly Socket _udp;
    private readonly TcpListener _tcp;
    private int _queries;
    private int _tcpQueries;

    /// <summary>Makes the answers to a query over UDP; none: silence.</summary>
    public Func<byte[], IEnumerable<byte[]>> Script { get; set; } = query => [Answer(query, "192.0.2.80")];

    /// <summary>The same over TCP.</summary>
    public Func<byte[], byte[]?> TcpScript { get; set; } = query => Answer(query, "192.0.2.81");

    public FakeUpstream()
    {
        (_udp, _tcp) = Listen();
        _ = RunUdpAsync();
        _ = RunTcpAsync();
    }

    public IPEndPoint Endpoint => (IPEndPoint)_udp.LocalEndPoint!;

    /// <summary>Queries seen over UDP, probes for loops and health not counted.</summary>
    public int Queries => Volatile.Read(ref _queries);

    public int TcpQueries => Volatile.Read(ref _tcpQueries);

    public List<byte[]> Seen { get; } = [];

    public List<int> SourcePorts { get; } = [];

    /// <summary>Answers with A records of the asked name.</summary>
    public static byte[] Answer(byte[] query, params string[] addresses) => Answer(query, 60, addresses);

    public static byte[] Answer(byte[] query, uint ttl, params string[] addresses) =>
        Message(query, 0, [.. addresses.Select(a => (Name(query), RrType.A, ttl, IPAddress.Parse(a).GetAddressBytes()))]);

    public static string Name(byte[] query)
    {
        Span<byte> name = stackalloc byte[256];
        var reader = new MessageReader(query);
        reader.TryReadQuestion(name, out var length, out _, out _);
        return DnsName.ToText(name[..length]);
    }

    public static byte[] Message(byte[] query, int rcode, (string Name, RrType Type, uint Ttl, byte[] Data)[] answers, (string Name, RrType Type, uint Ttl, byte[] Data)[]? authority = null, (string Name, RrType Type, uint Ttl, byte[] Data)[]? additional = null, int flags1 = 0)
    {
        var writer = new MessageWriter();
        var questionEnd = query.Length - 11;
        writer.Bytes(query.AsSpan(0, 2));
        writer.U8(0x81 | flags1);
        writer.U8(0x80 | rcode);
        writer.U16(1);
        writer.U16(answers.Length);
        writer.U16(authority?.Length ?? 0);
        writer.U16(additional?.Length ?? 0);
        writer.Bytes(query.AsSpan(12, questionEnd - 12));
        foreach (var (name, type, ttl, data) in answers.Concat(authority ?? []).Concat(additional ?? []))
        {
            writer.Bytes(TestQuery.Wire(name));
            writer.U16((int)type);
            writer.U16(1);
            writer.U32(ttl);
            writer.U16(data.Length);
            writer.Bytes(data);
        }

        return writer.Written.ToArray();
    }

    public static byte[] Soa(string domain, uint minimum)
    {
        var writer = new MessageWriter();
        writer.Bytes(TestQuery.Wire("ns." + domain));
        writer.Bytes(TestQuery.Wire("root." + domain));
        writer.U32(1);
        writer.U32(1);
        writer.U32(1);
        writer.U32(1);
        writer.U32(minimum);
        return writer.Written.ToArray();
    }

    public void Dispose()
    {
        _udp.Dispose();
        _tcp.Stop();
    }

    /// <summary>The kernel's choice for UDP may be taken for TCP: then another.</summary>
    private static (Socket Udp, TcpListener Tcp) Listen()
    {
        for (var attempt = 0; ; attempt++)
        {
            var udp = new Socket(AddressFamily.InterNetwork, SocketType.Dgram, ProtocolType.Udp);
            udp.Bind(new IPEndPoint(IPAddress.Loopback, 0));
            var tcp = new TcpListener((IPEndPoint)udp.LocalEndPoint!);
            try
            {
                tcp.Start();
                return (udp, tcp);
            }
            catch (SocketException error) when (error.SocketErrorCode == SocketError.AddressAlreadyInUse && attempt < 16)
            {
                udp.Dispose();
                tcp.Dispose();
            }
        }
    }

    private async Task RunUdpAsync()
    {
        var buffer = new byte[4096];
        while (true)
        {
            SocketReceiveFromResult received;
            try
            {
                received = await _udp.ReceiveFromAsync(buffer, SocketFlags.None, new IPEndPoint(IPAddress.Any, 0));
            }
            catch (Exception e) when (e is SocketException or ObjectDisposedException)
            {
                return;
            }

            var query = buffer[..received.ReceivedBytes];
            if (IsProbe(query))
            {
                continue;
            }

            lock (Seen)
            {
                Seen.Add(query);
                SourcePorts.Add(((IPEndPoint)received.RemoteEndPoint).Port);
            }

            Interlocked.Increment(ref _queries);
            foreach (var answer in Script(query))
                await _udp.SendToAsync(answer, SocketFlags.None, received.RemoteEndPoint);
        }
    }

    private static bool IsProbe(byte[] query) => Name(query).EndsWith("loop-probe.internal.", StringComparison.OrdinalIgnoreCase);

    private async Task RunTcpAsync()
    {
        while (true)
        {
            try
            {
                using var client = await _tcp.AcceptTcpClientAsync();
                var stream = client.GetStream();
                var length = new byte[2];
                await stream.ReadExactlyAsync(length);
                var query = new byte[BinaryPrimitives.ReadUInt16BigEndian(length)];
                await stream.ReadExactlyAsync(query);
                if (IsProbe(query))
                    continue;
                Interlocked.Increment(ref _tcpQueries);
                if (TcpScript(query) is not { } answer)
                    continue;
                BinaryPrimitives.WriteUInt16BigEndian(length, (ushort)answer.Length);
                await stream.WriteAsync((byte[])[.. length, .. answer]);
            }
            catch (EndOfStreamException)
            {
            }
            catch (IOException)
            {
            }
            catch (Exception e) when (e is SocketException or ObjectDisposedException)
            {
                return;
            }
        }
    }
}
