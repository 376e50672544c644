using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using OverlayNet.Dns.Interop;

namespace OverlayNet.Dns.Server;

/// <summary>
/// The answers to one batch of queries, sent by one sendmmsg with as few messages as there can be: answers of equal
/// length to one client go as one message that the kernel cuts into datagrams (UDP_SEGMENT, udp(7), Linux 4.18). Its
/// way through the stack is what costs most of a query, and that is then walked once for all of them. The client
/// receives the datagrams it would have received otherwise.
/// </summary>
internal sealed unsafe class AnswerBatch : IDisposable
{
    // A pair (A and AAAA of one lookup) gains nothing, and a capture in the client's namespace then shows two packets.
    private const int FewestMerged = 3;

    /// <summary>UDP's payload limit with room for either family's headers.</summary>
    private const int MostBytes = 65_000;

    private const int ControlSize = 24; // CMSG_SPACE(sizeof(uint16_t))
    private const int Heads = 128;

    private readonly void* _memory;
    private readonly Libc.MMsgHdr* _messages;
    private readonly Libc.IoVec* _vectors;
    private readonly byte* _controls;
    private readonly Answer* _answers;

    // Groups by a hash of client and length. Stamps save clearing the table for every batch.
    private readonly Head* _heads;
    private uint _stamp;
    private int _count;

    private struct Answer
    {
        public byte* Packet;
        public byte* Address;
        public int AddressLength;
        public int Length;
        public ulong Client;

        /// <summary>The next answer of the same group; -1: none.</summary>
        public int Next;

        /// <summary>Of the group's first answer: how many there are, and the last; 0 of the others.</summary>
        public int Members;
        public int Last;
    }

    private struct Head
    {
        public uint Stamp;
        public int First;
    }

    /// <param name="capacity">Most answers of one batch; below 128, which leaves the table of groups half empty.</param>
    public AnswerBatch(int capacity)
    {
        var size = capacity * (sizeof(Libc.MMsgHdr) + sizeof(Libc.IoVec) + ControlSize + sizeof(Answer)) + Heads * sizeof(Head);
        _memory = NativeMemory.AllocZeroed((nuint)size);
        _messages = (Libc.MMsgHdr*)_memory;
        _vectors = (Libc.IoVec*)(_messages + capacity);
        _controls = (byte*)(_vectors + capacity);
        _answers = (Answer*)(_controls + capacity * ControlSize);
        _heads = (Head*)(_answers + capacity);
        for (var i = 0; i < capacity; i++)
            Libc.WriteSegmentControl(_controls + i * ControlSize);
    }

    /// <summary>Answers that did not need a message of their own, since the start.</summary>
    public long Merged { get; private set; }

    /// <summary>Answers that the kernel did not take, since the start.</summary>
    public long Failed { get; private set; }

    public void Clear()
    {
        _count = 0;
        _stamp++;
    }

    /// <summary>Adds an answer; packet and address stay the caller's and as they are until <see cref="Send"/>.</summary>
    public void Add(byte* packet, int length, byte* address, int addressLength)
    {
        var index = _count++;
        ref var answer = ref _answers[index];
        answer.Packet = packet;
        answer.Length = length;
        answer.Address = address;
        answer.AddressLength = addressLength;
        answer.Client = ClientOf(address, addressLength);
        answer.Next = -1;
        answer.Members = 1;
        answer.Last = index;

        var at = (uint)((answer.Client ^ (uint)length) * 0x9E3779B97F4A7C15 >> 57);
        for (; ; at = (at + 1) % Heads)
        {
            ref var head = ref _heads[at];
            if (head.Stamp != _stamp)
            {
                head.Stamp = _stamp;
                head.First = index;
                return;
            }

            ref var first = ref _answers[head.First];
            if (first.Length != length || first.Client != answer.Client || !SameAddress(first, answer))
                continue;
            if ((first.Members + 1) * length > MostBytes)
            {
                head.First = index;
                return;
            }

            _answers[first.Last].Next = index;
            first.Last = index;
            first.Members++;
            answer.Members = 0;
            return;
        }
    }

    /// <summary>Sends them all; how many messages it took.</summary>
    /// <param name="socket">The socket the queries came from.</param>
    public int Send(ListenerSocket socket)
    {
        var messages = 0;
        var vectors = 0;
        for (var i = 0; i < _count; i++)
        {
            ref var first = ref _answers[i];
            if (first.Members == 0)
                continue;
            var merge = first.Members >= FewestMerged && socket.Segments;
            if (merge)
                Merged += first.Members - 1;
            for (var member = i; member >= 0; member = _answers[member].Next)
            {
                ref var vector = ref _vectors[vectors++];
                vector.Base = _answers[member].Packet;
                vector.Length = (nuint)_answers[member].Length;
                if (merge && member != i)
                {
                    _messages[messages - 1].Header.IovLength++;
                    continue;
                }

                ref var header = ref _messages[messages].Header;
                header.Name = first.Address;
                header.NameLength = (uint)first.AddressLength;
                header.Iov = _vectors + (vectors - 1);
                header.IovLength = 1;
                header.Control = null;
                header.ControlLength = 0;
                if (merge)
                {
                    header.Control = _controls + messages * ControlSize;
                    header.ControlLength = ControlSize;
                    Libc.SetSegmentSize(_controls + messages * ControlSize, (ushort)first.Length);
                }

                messages++;
            }
        }

        for (var sent = 0; sent < messages;)
        {
            var result = Libc.SendMMsg(socket.Fd, _messages + sent, messages - sent);
            if (result > 0)
            {
                sent += result;
                continue;
            }

            // The first message could not go; the others may.
            SendSingly(socket, _messages[sent].Header, result);
            sent++;
        }

        return messages;
    }

    public void Dispose() => NativeMemory.Free(_memory);

    /// <summary>What could not go as one message goes as many. A path that cannot cut them (IPsec, an old kernel) is not tried again.</summary>
    private void SendSingly(ListenerSocket socket, in Libc.MsgHdr header, int error)
    {
        if (header.Control is null)
        {
            Failed++;
            return;
        }

        if (-error is Libc.EINVAL or Libc.EIO or Libc.ENOPROTOOPT or Libc.EOPNOTSUPP or Libc.EMSGSIZE)
            socket.Segments = false;
        for (nuint i = 0; i < header.IovLength; i++)
        {
            var packet = new ReadOnlySpan<byte>(header.Iov[i].Base, (int)header.Iov[i].Length);
            if (Libc.SendTo(socket.Fd, packet, new ReadOnlySpan<byte>(header.Name, (int)header.NameLength)) < 0)
                Failed++;
        }
    }

    /// <summary>Family, port and, for IPv4, the address: the first eight octets of a socket address (netinet/in.h).</summary>
    private static ulong ClientOf(byte* address, int length)
    {
        var key = Unsafe.ReadUnaligned<ulong>(address);
        return length <= 16 ? key : key ^ Unsafe.ReadUnaligned<ulong>(address + 8) ^ (Unsafe.ReadUnaligned<ulong>(address + 16) * 0xD6E8FEB86659FD93);
    }

    private static bool SameAddress(in Answer a, in Answer b) =>
        new ReadOnlySpan<byte>(a.Address, a.AddressLength).SequenceEqual(new ReadOnlySpan<byte>(b.Address, b.AddressLength));
}
