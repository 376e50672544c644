using System.Buffers.Binary;
using System.Net;
using System.Net.Sockets;

namespace OverlayNet.Dns.Forward;

internal enum UpstreamFailure
{
    None,
    Timeout,
    Unreachable,
    Malformed,
}

internal readonly record struct UpstreamResult(ForwardedAnswer? Answer, UpstreamFailure Failure);

/// <summary>
/// One question to one upstream: UDP, then TCP when the answer is truncated or somebody seems to be guessing. Each UDP
/// query has a connected socket of its own on a port the kernel draws at random, an unguessable id and random
/// letter case; what does not match all of these is ignored until the time is up (RFC 5452 §9).
/// </summary>
internal sealed class UpstreamClient(TimeProvider time, Func<AddressFamily, SocketType, Socket>? open)
{
    /// <summary>Mismatching answers after which UDP is given up for TCP.</summary>
    private const int MostMismatches = 8;

    private long _mismatches;

    /// <summary>Answers that were ignored because port, id or question did not match.</summary>
    public long Mismatches => Interlocked.Read(ref _mismatches);

    public async Task<UpstreamResult> AskAsync(IPEndPoint upstream, UpstreamQuery query, TimeSpan timeout, CancellationToken stop)
    {
        using var deadline = new CancellationTokenSource(timeout, time);
        using var linked = CancellationTokenSource.CreateLinkedTokenSource(deadline.Token, stop);
        try
        {
            var message = query.Encode();
            var answer = await AskUdpAsync(upstream, message, query, linked.Token).ConfigureAwait(false)
                ?? await AskTcpAsync(upstream, message, linked.Token).ConfigureAwait(false);
            if (!Matches(message, answer, answer.Length, exactCase: false)
                || !new AnswerSanitizer().TryRun(answer, query.Name, query.Type, query.DnssecOk, upstream.ToString(), out var checkedAnswer))
                return new(null, UpstreamFailure.Malformed);
            return new(checkedAnswer, UpstreamFailure.None);
        }
        catch (OperationCanceledException)
        {
            return new(null, UpstreamFailure.Timeout);
        }
        catch (Exception error) when (error is SocketException or EndOfStreamException)
        {
            return new(null, UpstreamFailure.Unreachable);
        }
    }

    /// <summary>Null: ask again over TCP.</summary>
    private async Task<byte[]?> AskUdpAsync(IPEndPoint upstream, byte[] message, UpstreamQuery query, CancellationToken stop)
    {
        using var socket = Open(upstream, SocketType.Dgram);
        await socket.ConnectAsync(upstream, stop).ConfigureAwait(false);
        await socket.SendAsync(message, SocketFlags.None, stop).ConfigureAwait(false);
        var buffer = new byte[4096];
        for (var mismatches = 0; mismatches < MostMismatches;)
        {
            var length = await socket.ReceiveAsync(buffer, SocketFlags.None, stop).ConfigureAwait(false);
            if (Matches(message, buffer, length, exactCase: true))
            {
                if ((buffer[Header.Flags1] & Header.Tc) != 0)
                    return null;
                return buffer[..length];
            }

            Interlocked.Increment(ref _mismatches);
            // Right but for the letter case: a server that does not preserve it, or a lucky guess. TCP settles it.
            if (Matches(message, buffer, length, exactCase: false))
                return null;
            mismatches++;
        }

        return null;
    }

    private async Task<byte[]> AskTcpAsync(IPEndPoint upstream, byte[] message, CancellationToken stop)
    {
        using var socket = Open(upstream, SocketType.Stream);
        await socket.ConnectAsync(upstream, stop).ConfigureAwait(false);
        var framed = new byte[message.Length + 2];
        BinaryPrimitives.WriteUInt16BigEndian(framed, (ushort)message.Length);
        message.CopyTo(framed, 2);
        using var stream = new NetworkStream(socket, ownsSocket: false);
        await stream.WriteAsync(framed, stop).ConfigureAwait(false);
        var length = new byte[2];
        await stream.ReadExactlyAsync(length, stop).ConfigureAwait(false);
        var answer = new byte[BinaryPrimitives.ReadUInt16BigEndian(length)];
        await stream.ReadExactlyAsync(answer, stop).ConfigureAwait(false);
        return answer;
    }

    private Socket Open(IPEndPoint upstream, SocketType type) =>
        open?.Invoke(upstream.AddressFamily, type)
        ?? new Socket(upstream.AddressFamily, type, type == SocketType.Dgram ? ProtocolType.Udp : ProtocolType.Tcp);

    /// <summary>Id, QR, opcode and the whole question.</summary>
    internal static bool Matches(ReadOnlySpan<byte> query, ReadOnlySpan<byte> answer, int length, bool exactCase)
    {
        var questionEnd = query.Length - 11;
        if (length < questionEnd
            || answer[0] != query[0] || answer[1] != query[1]
            || (answer[Header.Flags1] & (Header.Qr | Header.OpcodeMask)) != Header.Qr
            || answer[Header.QdCount] != 0 || answer[Header.QdCount + 1] != 1)
            return false;
        var asked = query[Header.Size..questionEnd];
        var answered = answer[Header.Size..questionEnd];
        if (exactCase)
            return asked.SequenceEqual(answered);
        // Type and class lie behind the name and are compared as they are.
        for (var i = 0; i < asked.Length; i++)
        {
            var same = i < asked.Length - 4 ? DnsName.ToLower(asked[i]) == DnsName.ToLower(answered[i]) : asked[i] == answered[i];
            if (!same)
                return false;
        }

        return true;
    }
}
