using System.Buffers.Binary;
using System.Diagnostics;
using System.Net;
using System.Net.Sockets;
using OverlayNet.Dns;
using OverlayNet.Kernel;
using OverlayNet.Tools.Capture.Decode;

namespace OverlayNet.Tools.Diagnosis;

/// <summary>What came of a query.</summary>
/// <param name="Message">Null: no answer in time.</param>
/// <param name="Problem">Why there was none.</param>
internal sealed record DnsProbeResult(DnsMessage? Message, TimeSpan Took, string? Problem)
{
    /// <summary>A and AAAA records of the answer.</summary>
    public IReadOnlyList<IPAddress> Addresses =>
        [.. (Message?.Answers ?? []).Select(answer => answer.Split(' ', 2)).Where(words => words is ["A" or "AAAA", _]).Select(words => IPAddress.TryParse(words[1], out var address) ? address : null).OfType<IPAddress>()];
}

/// <summary>One DNS query inside a namespace (RFC 1035), by UDP or TCP.</summary>
internal static class DnsProbe
{
    public const ushort A = 1, Aaaa = 28, Ns = 2;
    private const int Port = 53;

    /// <param name="source">Null: whatever the kernel chooses.</param>
    /// <exception cref="FormatException">The name is none.</exception>
    public static DnsProbeResult Ask(NetworkNamespace netns, IPAddress? source, IPAddress server, string name, ushort type, TimeSpan timeout, bool tcp = false)
    {
        var query = Query(name, type, out var id);
        var watch = Stopwatch.StartNew();
        try
        {
            using var socket = netns.Run(() => new Socket(server.AddressFamily, tcp ? SocketType.Stream : SocketType.Dgram, tcp ? ProtocolType.Tcp : ProtocolType.Udp));
            if (source is not null)
                socket.Bind(new IPEndPoint(source, 0));
            if (BoundedConnect.To(socket, new IPEndPoint(server, Port), timeout) is { } error)
                throw new SocketException((int)error);
            socket.ReceiveTimeout = Math.Max(1, (int)(timeout - watch.Elapsed).TotalMilliseconds);
            var framed = new byte[2 + query.Length];
            BinaryPrimitives.WriteUInt16BigEndian(framed, (ushort)query.Length);
            query.CopyTo(framed, 2);
            socket.Send(tcp ? framed : query);
            var buffer = new byte[ushort.MaxValue];
            while (watch.Elapsed < timeout)
            {
                var length = socket.Receive(buffer);
                if (length == 0)
                    return new DnsProbeResult(null, watch.Elapsed, "the connection was closed without an answer");
                var answer = buffer.AsSpan(0, length);
                if (tcp)
                    answer = answer[Math.Min(2, length)..];
                if (DnsDecoder.Decode(answer) is { Response: true } message && message.Id == id)
                    return new DnsProbeResult(message, watch.Elapsed, null);
            }
            return new DnsProbeResult(null, watch.Elapsed, "no answer in time");
        }
        catch (SocketException e)
        {
            return new DnsProbeResult(null, watch.Elapsed, e.SocketErrorCode switch
            {
                SocketError.TimedOut or SocketError.WouldBlock => "no answer in time",
                SocketError.ConnectionRefused => "refused: nothing listens there",
                _ => e.Message,
            });
        }
    }

    private static byte[] Query(string name, ushort type, out ushort id)
    {
        Span<byte> wire = stackalloc byte[Limits.NameLength];
        var length = 0;
        if (name != "." && !DnsName.TryAppend(name.AsSpan(), wire, ref length))
            throw new FormatException($"'{name}' is no DNS name");
        wire[length++] = 0;
        id = (ushort)Random.Shared.Next(1 << 16);
        var query = new byte[Header.Size + length + 4];
        BinaryPrimitives.WriteUInt16BigEndian(query, id);
        // Recursion desired; one question.
        query[2] = 1;
        query[5] = 1;
        wire[..length].CopyTo(query.AsSpan(Header.Size));
        BinaryPrimitives.WriteUInt16BigEndian(query.AsSpan(Header.Size + length), type);
        query[^1] = 1;
        return query;
    }
}
