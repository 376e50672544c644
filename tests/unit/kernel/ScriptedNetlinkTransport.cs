using OverlayNet.Kernel.Netlink;

namespace OverlayNet.UnitTests.Kernel;

/// <summary>A kernel that is a function: what was sent → the datagrams that come back. With tests' helpers to write answers.</summary>
internal sealed class ScriptedNetlinkTransport(Func<SentMessage[], IEnumerable<byte[]?>> kernel) : INetlinkTransport
{
    internal const ushort Error = 2, Done = 3;
    private readonly Queue<byte[]?> answers = new();

    /// <summary>All messages ever sent.</summary>
    internal List<SentMessage> Sent { get; } = [];

    internal List<uint> Groups { get; } = [];

    internal bool Disposed { get; private set; }

    public void Send(ReadOnlySpan<byte> datagram)
    {
        var messages = SentMessage.Split(datagram);
        Sent.AddRange(messages);
        foreach (var answer in kernel(messages))
            answers.Enqueue(answer);
    }

    /// <summary>A null answer stands for ENOBUFS; an empty queue for a stopped socket.</summary>
    public int Receive(Span<byte> buffer)
    {
        if (!answers.TryDequeue(out var answer))
            return 0;
        if (answer is null)
            throw new NetlinkOverrunException();
        answer.CopyTo(buffer);
        return answer.Length;
    }

    public void Join(uint group) => Groups.Add(group);

    public void Stop() => answers.Clear();

    public void Dispose() => Disposed = true;

    /// <summary>Puts a datagram in front of the socket without a request (a notification).</summary>
    internal void Push(byte[]? datagram) => answers.Enqueue(datagram);

    /// <summary>One message with a payload.</summary>
    internal static byte[] Message(ushort type, uint sequence, ushort flags = 0, params byte[] payload)
    {
        var octets = new byte[(16 + payload.Length + 3) & ~3];
        BitConverter.TryWriteBytes(octets, 16 + payload.Length);
        BitConverter.TryWriteBytes(octets.AsSpan(4), type);
        BitConverter.TryWriteBytes(octets.AsSpan(6), flags);
        BitConverter.TryWriteBytes(octets.AsSpan(8), sequence);
        payload.CopyTo(octets, 16);
        return octets;
    }

    /// <summary>struct nlmsgerr with the header echoed (NETLINK_CAP_ACK) and, when given, extended ack text.</summary>
    internal static byte[] Ack(SentMessage request, int errno = 0, string? text = null)
    {
        var payload = new List<byte>(BitConverter.GetBytes(-errno));
        payload.AddRange(request.Octets[..16]);
        ushort flags = 0x100; // NLM_F_CAPPED
        if (text is not null)
        {
            flags |= 0x200; // NLM_F_ACK_TLVS
            var octets = System.Text.Encoding.UTF8.GetBytes(text + '\0');
            payload.AddRange(BitConverter.GetBytes((ushort)(4 + octets.Length)));
            payload.AddRange(BitConverter.GetBytes((ushort)1)); // NLMSGERR_ATTR_MSG
            payload.AddRange(octets);
        }
        return Message(Error, request.Sequence, flags, [.. payload]);
    }

    /// <summary>Recorded messages as if they answered a request: with its sequence number.</summary>
    internal static byte[] Answering(byte[] recorded, SentMessage request)
    {
        var octets = recorded.ToArray();
        for (var offset = 0; offset < octets.Length; offset += (BitConverter.ToInt32(octets, offset) + 3) & ~3)
            BitConverter.TryWriteBytes(octets.AsSpan(offset + 8), request.Sequence);
        return octets;
    }
}

/// <summary>A message as it went out.</summary>
internal sealed record SentMessage(ushort Type, NetlinkFlags Flags, uint Sequence, byte[] Octets)
{
    internal static SentMessage[] Split(ReadOnlySpan<byte> datagram)
    {
        var messages = new List<SentMessage>();
        while (datagram.Length > 0)
        {
            var length = (BitConverter.ToInt32(datagram) + 3) & ~3;
            messages.Add(new SentMessage(BitConverter.ToUInt16(datagram[4..]), (NetlinkFlags)BitConverter.ToUInt16(datagram[6..]), BitConverter.ToUInt32(datagram[8..]), datagram[..length].ToArray()));
            datagram = datagram[length..];
        }
        return [.. messages];
    }
}
