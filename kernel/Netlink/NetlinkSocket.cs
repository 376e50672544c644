using System.Buffers;
using System.Runtime.InteropServices;

namespace OverlayNet.Kernel.Netlink;

/// <summary>
/// Requests, acknowledgements, dumps, batches and notifications over one netlink socket. A socket works in the
/// network namespace it was made in, whatever thread uses it later, and keeps that namespace alive: dispose it
/// soon when the namespace belongs to somebody else. Not thread-safe: one user at a time.
/// </summary>
public sealed class NetlinkSocket : IDisposable
{
    // A dump's datagrams are at most 32 KiB; notifications and nftables objects may be larger.
    private const int BufferLength = 256 * 1024;

    // Enough for the socket's receive buffer even when every message of a chunk is answered.
    private const int BatchOctets = 256 * 1024;
    private const int DumpTries = 10;
    private const ushort ExtAckMessage = 1;
    private readonly INetlinkTransport transport;
    // Rented: sockets are made for one operation in a namespace and thrown away, hundreds in one pass.
    private readonly byte[] buffer = ArrayPool<byte>.Shared.Rent(BufferLength);
    private bool disposed;
    private uint sequence;

    public NetlinkSocket(INetlinkTransport transport)
    {
        this.transport = transport;
        sequence = (uint)Environment.TickCount & 0x3fffffff;
    }

    /// <summary>Opens a socket in a namespace (null: the calling thread's).</summary>
    /// <exception cref="KernelException">What socket or bind said.</exception>
    public static NetlinkSocket Open(NetlinkProtocol protocol, NetworkNamespace? netns = null)
    {
        INetlinkTransport transport = netns is null
            ? new KernelNetlinkTransport(protocol)
            : netns.Run(() => new KernelNetlinkTransport(protocol));
        return new NetlinkSocket(Environment.GetEnvironmentVariable("OVERLAYNET_NETLINK_DEBUG") is { Length: > 0 }
            ? new DumpingNetlinkTransport(transport, Console.Error)
            : transport);
    }

    /// <summary>Sends the one message written and waits for its acknowledgement (the ACK flag is added).</summary>
    /// <param name="what">The operation and the object, for the error: <c>add link br0</c>.</param>
    /// <exception cref="NetlinkException">The kernel refused.</exception>
    public void Request(ref NetlinkMessageWriter writer, string what)
    {
        var result = TryRequest(ref writer);
        if (!result.Ok)
            throw new NetlinkException(what, result.Errno, result.Detail);
    }

    /// <summary>As <see cref="Request"/>, giving the kernel's refusal as a value.</summary>
    public NetlinkResult TryRequest(ref NetlinkMessageWriter writer)
    {
        Span<NetlinkResult> result = new NetlinkResult[1];
        writer.End();
        var first = Stamp(writer.Mutable, NetlinkFlags.Request | NetlinkFlags.Ack);
        transport.Send(writer.Written);
        CollectAcks(first, 1, result);
        return result[0];
    }

    /// <summary>Sends the one message written and reads its single answer, then the acknowledgement.</summary>
    /// <exception cref="NetlinkException">The kernel refused.</exception>
    public T Get<T>(ref NetlinkMessageWriter writer, NetlinkParser<T> parse, string what)
    {
        writer.End();
        var wanted = Stamp(writer.Mutable, NetlinkFlags.Request | NetlinkFlags.Ack);
        transport.Send(writer.Written);
        T? answer = default;
        var answered = false;
        while (true)
        {
            foreach (var message in ReceiveDatagram())
            {
                if (message.Sequence != wanted)
                    continue;
                if (message.Type == NetlinkType.Error)
                {
                    var result = ParseError(message);
                    if (!result.Ok)
                        throw new NetlinkException(what, result.Errno, result.Detail);
                    return answered ? answer! : throw new NetlinkException(what, Libc.ENOENT, "the kernel acknowledged without an answer");
                }
                answer = parse(message);
                answered = true;
            }
        }
    }

    /// <summary>Sends a dump request and parses every message of the answer; starts again when the table changed meanwhile.</summary>
    /// <exception cref="NetlinkException">The kernel refused.</exception>
    public List<T> Dump<T>(ref NetlinkMessageWriter writer, NetlinkParser<T> parse, string what)
    {
        writer.End();
        for (var attempt = 1; ; attempt++)
        {
            var answers = new List<T>();
            var wanted = Stamp(writer.Mutable, NetlinkFlags.Request | NetlinkFlags.Dump);
            transport.Send(writer.Written);
            if (ReadDump(wanted, answers, parse, what) || attempt == DumpTries)
                return answers;
        }
    }

    /// <summary>
    /// Sends many messages, many in flight at a time; each is applied or refused on its own.
    /// </summary>
    /// <returns>One result a message, in the order written.</returns>
    public NetlinkResult[] Batch(ref NetlinkMessageWriter writer)
    {
        writer.End();
        var results = new NetlinkResult[writer.Count];
        var octets = writer.Mutable;
        var done = 0;
        while (octets.Length > 0)
        {
            var (length, count) = Chunk(octets);
            // Only the last needs an acknowledgement: the kernel works in order and reports errors in any case.
            var first = Stamp(octets[..length], NetlinkFlags.Request);
            transport.Send(octets[..length]);
            CollectAcks(first, count, results.AsSpan(done, count));
            done += count;
            octets = octets[length..];
        }
        return results;
    }

    /// <summary>
    /// Sends all messages as one datagram, for families with transactions (nftables between batch begin and end):
    /// all or nothing. The last message but one carries the acknowledgement.
    /// </summary>
    /// <exception cref="NetlinkException">The first refusal, with <paramref name="describe"/> naming the message by its index.</exception>
    public void Transaction(ref NetlinkMessageWriter writer, Func<int, string> describe)
    {
        writer.End();
        var octets = writer.Mutable;
        var first = Stamp(octets, NetlinkFlags.Request, acknowledgeFromEnd: 2);
        transport.Send(octets);
        var acknowledged = first + (uint)Math.Max(0, writer.Count - 2);
        while (true)
        {
            foreach (var message in ReceiveDatagram())
            {
                var index = message.Sequence - first;
                if (message.Type != NetlinkType.Error || index >= (uint)writer.Count)
                    continue;
                var result = ParseError(message);
                if (!result.Ok)
                    throw new NetlinkException(describe((int)index), result.Errno, result.Detail);
                if (message.Sequence == acknowledged)
                    return;
            }
        }
    }

    /// <summary>Joins a multicast group; then call <see cref="ReceiveNotifications"/> in a loop.</summary>
    public void Join(uint group) => transport.Join(group);

    /// <summary>Waits for notifications and hands over each message of one datagram.</summary>
    /// <returns>False after <see cref="Stop"/>.</returns>
    /// <exception cref="NetlinkOverrunException">Notifications were lost; look at everything again, then go on.</exception>
    public bool ReceiveNotifications(NetlinkHandler handler)
    {
        var length = transport.Receive(buffer);
        if (length == 0)
            return false;
        foreach (var message in new NetlinkMessageReader(buffer.AsSpan(0, length)))
        {
            if (message.Type >= NetlinkType.FirstOfFamily)
                handler(message);
        }
        return true;
    }

    /// <summary>Ends the wait of <see cref="ReceiveNotifications"/>; may be called from any thread.</summary>
    public void Stop() => transport.Stop();

    public void Dispose()
    {
        if (disposed)
            return;
        disposed = true;
        transport.Dispose();
        ArrayPool<byte>.Shared.Return(buffer);
    }

    private static (int Length, int Count) Chunk(ReadOnlySpan<byte> octets)
    {
        int length = 0, count = 0;
        while (length < octets.Length)
        {
            var next = NetlinkType.Align((int)MemoryMarshal.Read<uint>(octets[length..]));
            if (count > 0 && length + next > BatchOctets)
                break;
            length += next;
            count++;
        }
        return (length, count);
    }

    /// <summary>Numbers the messages and adds flags; the message <paramref name="acknowledgeFromEnd"/> places from the end is acknowledged.</summary>
    /// <returns>The first message's sequence number.</returns>
    private uint Stamp(Span<byte> octets, NetlinkFlags add, int acknowledgeFromEnd = 1)
    {
        var first = sequence + 1;
        Span<int> last = stackalloc int[2] { 0, 0 };
        for (var offset = 0; offset < octets.Length;)
        {
            var message = octets[offset..];
            MemoryMarshal.Write(message[6..], (ushort)(MemoryMarshal.Read<ushort>(message[6..]) | (ushort)add));
            MemoryMarshal.Write(message[8..], ++sequence);
            last[1] = last[0];
            last[0] = offset;
            offset += NetlinkType.Align((int)MemoryMarshal.Read<uint>(message));
        }
        if ((add & NetlinkFlags.Dump) == 0)
        {
            var acknowledged = octets[last[acknowledgeFromEnd - 1]..];
            MemoryMarshal.Write(acknowledged[6..], (ushort)(MemoryMarshal.Read<ushort>(acknowledged[6..]) | (ushort)NetlinkFlags.Ack));
        }
        return first;
    }

    private void CollectAcks(uint first, int count, Span<NetlinkResult> results)
    {
        var last = first + (uint)count - 1;
        while (true)
        {
            foreach (var message in ReceiveDatagram())
            {
                var index = message.Sequence - first;
                if (message.Type != NetlinkType.Error || index >= (uint)count)
                    continue;
                results[(int)index] = ParseError(message);
                if (message.Sequence == last)
                    return;
            }
        }
    }

    private bool ReadDump<T>(uint wanted, List<T> answers, NetlinkParser<T> parse, string what)
    {
        var consistent = true;
        while (true)
        {
            foreach (var message in ReceiveDatagram())
            {
                if (message.Sequence != wanted)
                    continue;
                consistent &= (message.Flags & NetlinkFlags.DumpInterrupted) == 0;
                if (message.Type is NetlinkType.Done or NetlinkType.Error)
                {
                    // Done carries an error number too: a dump can fail half-way.
                    var result = ParseError(message);
                    return result.Ok ? consistent : throw new NetlinkException(what, result.Errno, result.Detail);
                }
                answers.Add(parse(message));
            }
        }
    }

    private NetlinkMessageReader ReceiveDatagram()
    {
        var length = transport.Receive(buffer);
        // Without this, a request under way when the socket is stopped would wait for its answer for ever.
        if (length == 0)
            throw new OperationCanceledException("the netlink socket was stopped while a request waited for its answer");
        return new NetlinkMessageReader(buffer.AsSpan(0, length));
    }

    /// <summary>struct nlmsgerr: a negative errno, the failed message's header (or all of it), then extended ack attributes.</summary>
    private static NetlinkResult ParseError(in NetlinkMessage message)
    {
        if (message.Payload.Length < sizeof(int))
            return default;
        var errno = -MemoryMarshal.Read<int>(message.Payload);
        if ((message.Flags & NetlinkFlags.AckTlvs) == 0)
            return new NetlinkResult(errno, null);
        var skip = sizeof(int);
        if (message.Type == NetlinkType.Error)
        {
            skip += NetlinkType.HeaderLength;
            if ((message.Flags & NetlinkFlags.Capped) == 0 && message.Payload.Length >= skip)
                skip = sizeof(int) + NetlinkType.Align((int)MemoryMarshal.Read<uint>(message.Payload[sizeof(int)..]));
        }
        if (skip > message.Payload.Length)
            return new NetlinkResult(errno, null);
        foreach (var attribute in new NetlinkAttributes(message.Payload[skip..]))
        {
            if (attribute.Type == ExtAckMessage)
                return new NetlinkResult(errno, attribute.String);
        }
        return new NetlinkResult(errno, null);
    }
}
