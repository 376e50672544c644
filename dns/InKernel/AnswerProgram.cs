using OverlayNet.Kernel.Bpf;
using static OverlayNet.Kernel.Bpf.BpfRegister;

namespace OverlayNet.Dns.InKernel;

/// <summary>
/// The program that answers queries where they arrive, at tc's ingress hook of the device that has a listener's address, or
/// of the near end of the asker's veth pair: a query for one of the <see cref="AnswerMaps.Answers"/> becomes its answer and
/// leaves by the same device; everything else passes on to the daemon's socket untouched. It takes plain queries only: one
/// question, no record but an OPT of version 0 without options (RFC 6891), a UDP datagram in one piece, no IP options.
/// </summary>
/// <remarks>
/// r6 is the context (struct __sk_buff, linux/bpf.h), r7 the octets of the name, r8 those of the record, r9 whether there is
/// an OPT. The frame holds the packet's head so that the IP header is aligned, the keys and the answer.
/// </remarks>
internal sealed partial class AnswerProgram
{
    private const int ContextLength = 0, ContextProtocol = 16, ContextInterface = 40, ContextTcIndex = 44, ContextData = 76, ContextDataEnd = 80;
    private const int Ethernet = 14, Ip4Length = 20, Ip6Length = 40, UdpLength = 8, HeaderLength = 12, QuestionTail = 4, OptLength = 11;
    private const int Udp = 17, TimeToLive = 64;

    // The frame, downwards from r10.
    private const int Ip = -64, Packet = Ip - Ethernet, Key = -160, Name = Key + AnswerKey.NameAt, Listener = -184, Client = -200, Window = -216,
        Tail = -232, Answer = -272, Generation = -280;

    /// <summary>In a packet's tc_index: looked at already, at the asker's port, and left to the daemon. The bridge's program need not look again.</summary>
    private const int LeftMark = 0x4f4e;

    private const byte Qr = 0x80, Aa = 0x04, Rd = 0x01, Ra = 0x80, Cd = 0x10, DnssecOk = 0x80;

    private readonly BpfAssembler b = new();
    private readonly BpfLabel pass = new("pass");
    private readonly BpfLabel left = new("left to the daemon");
    private readonly BpfLabel drop = new("drop");
    private readonly AnswerMaps maps;
    private readonly int queriesPerSecond;

    private AnswerProgram(AnswerMaps maps, int queriesPerSecond) => (this.maps, this.queriesPerSecond) = (maps, queriesPerSecond);

    /// <param name="listeners">Their number in <see cref="AnswerMaps.Listeners"/>.</param>
    /// <param name="port">Port asked at, host order.</param>
    /// <param name="queriesPerSecond">Of one client; what is beyond is left to the daemon. 0: no limit.</param>
    public static BpfInstruction[] Build(AnswerMaps maps, uint listeners, int port, int queriesPerSecond)
    {
        var program = new AnswerProgram(maps, queriesPerSecond);
        program.Write(listeners, port);
        return program.b.Assemble();
    }

    private void Write(uint listeners, int port)
    {
        var ip6 = new BpfLabel("ip6");
        b.Move(R6, R1);
        b.Load(BpfSize.Word, R1, R6, ContextTcIndex);
        b.JumpIf(BpfCondition.Equal, R1, LeftMark, pass);
        b.Load(BpfSize.Word, R1, R6, ContextProtocol);
        b.NetworkOrder(R1, 16);
        b.JumpIf(BpfCondition.Equal, R1, 0x86dd, ip6);
        b.JumpIf(BpfCondition.NotEqual, R1, 0x0800, pass);
        Family(six: false, listeners, port);
        b.Mark(ip6);
        Family(six: true, listeners, port);

        b.Mark(left);
        Count(AnswerCounters.PassedAt);
        b.Move(R1, LeftMark);
        b.Store(BpfSize.Word, R6, ContextTcIndex, R1);
        b.Mark(pass);
        b.Move(R0, BpfVerdict.Next);
        b.Exit();
        b.Mark(drop);
        b.Move(R0, BpfVerdict.Drop);
        b.Exit();
    }

    private void Family(bool six, uint listeners, int port)
    {
        var udp = Ip + (six ? Ip6Length : Ip4Length);
        var head = Ethernet + (six ? Ip6Length : Ip4Length) + UdpLength + HeaderLength;
        ReadHead(six, udp, head, port);
        FindNetwork(six, listeners);
        ReadQuestion(head);
        LowerName();
        FindRecord();
        Limit(six);
        Checksum(six, udp);
        WriteAnswer();
        WriteHead(six, udp);
        Send(head);
    }

    /// <summary>The headers into the frame; passes whatever is not a query of the plain kind to the port.</summary>
    private void ReadHead(bool six, int udp, int head, int port)
    {
        var dns = udp + UdpLength;
        // Everything a container sends comes by here: what is not UDP to the port goes on after a few loads. A header that is
        // elsewhere than expected is looked at properly below, or left to the daemon.
        var udpAt = udp - Packet;
        b.Load(BpfSize.Word, R2, R6, ContextData);
        b.Load(BpfSize.Word, R3, R6, ContextDataEnd);
        b.Move(R1, R2);
        b.Alu(BpfArithmetic.Add, R1, UdpLength + udpAt);
        b.JumpIf(BpfCondition.Greater, R1, R3, pass);
        b.Load(BpfSize.Byte, R1, R2, Ethernet + (six ? 6 : 9));
        b.JumpIf(BpfCondition.NotEqual, R1, Udp, pass);
        b.Load(BpfSize.Half, R1, R2, 2 + udpAt);
        b.JumpIf(BpfCondition.NotEqual, R1, Swapped(port), pass);

        b.Move(R1, R6);
        b.Move(R2, 0);
        FrameAddress(R3, Packet);
        b.Move(R4, head);
        b.Call(BpfHelper.SocketBufferLoadBytes);
        b.JumpIf(BpfCondition.NotEqual, R0, 0, pass);

        if (!six)
        {
            b.Load(BpfSize.Byte, R1, Frame, Ip);
            b.JumpIf(BpfCondition.NotEqual, R1, 0x45, pass);
            // Neither a fragment nor one with others to come.
            b.Load(BpfSize.Half, R1, Frame, Ip + 6);
            b.JumpIf(BpfCondition.AnyBit, R1, Swapped(0x3fff), pass);
        }

        // The lengths of frame, IP and UDP agree: r7 is that of the UDP datagram.
        b.Load(BpfSize.Half, R7, Frame, udp + 4);
        b.NetworkOrder(R7, 16);
        b.Load(BpfSize.Half, R1, Frame, Ip + (six ? 4 : 2));
        b.NetworkOrder(R1, 16);
        if (!six)
            b.Alu(BpfArithmetic.Subtract, R1, Ip4Length);
        b.JumpIf(BpfCondition.NotEqual, R1, R7, pass);
        b.Load(BpfSize.Word, R2, R6, ContextLength);
        b.Alu(BpfArithmetic.Subtract, R2, Ethernet + (six ? Ip6Length : Ip4Length));
        b.JumpIf(BpfCondition.NotEqual, R1, R2, pass);

        // A query: no flag but RD in the first octet, one question, nothing else but perhaps one additional record.
        b.Load(BpfSize.Byte, R1, Frame, dns + 2);
        b.JumpIf(BpfCondition.AnyBit, R1, 0xff & ~Rd, pass);
        b.Load(BpfSize.Word, R1, Frame, dns + 4);
        b.JumpIf(BpfCondition.NotEqual, R1, Swapped(1), pass);
        b.Load(BpfSize.Word, R9, Frame, dns + 8);
        b.Alu(BpfArithmetic.ShiftRight, R9, 24);
        b.JumpIf(BpfCondition.Greater, R9, 1, pass);
        b.Load(BpfSize.Half, R1, Frame, dns + 8);
        b.JumpIf(BpfCondition.NotEqual, R1, 0, pass);
        b.Load(BpfSize.Byte, R1, Frame, dns + 10);
        b.JumpIf(BpfCondition.NotEqual, R1, 0, pass);
    }

    /// <summary>The network whose listener was asked, into the key; passes what goes elsewhere, also by another container's hands.</summary>
    private void FindNetwork(bool six, uint listeners)
    {
        b.Store(BpfSize.Word, Frame, Listener, (int)listeners);
        b.Store(BpfSize.Word, Frame, Listener + 4, 0);
        CopyAddress(six, Listener + ListenerKey.AddressAt, Ip + (six ? 24 : 16));
        b.LoadMap(R1, maps.Listeners.Fd);
        FrameAddress(R2, Listener);
        b.Call(BpfHelper.MapLookup);
        b.JumpIf(BpfCondition.Equal, R0, 0, pass);
        for (var at = 0; at < 6; at += 2)
        {
            b.Load(BpfSize.Half, R1, R0, ListenerValue.MacAt + at);
            b.Load(BpfSize.Half, R2, Frame, Packet + at);
            b.JumpIf(BpfCondition.NotEqual, R1, R2, pass);
        }

        b.Load(BpfSize.Word, R1, R0, ListenerValue.NetworkAt);
        b.Store(BpfSize.Word, Frame, Key + AnswerKey.NetworkAt, R1);
    }

    /// <summary>
    /// The name and what follows it. Its length is what the datagram leaves for it: should the name end sooner, the key
    /// is none that was ever put in, for those hold whole names with their lengths.
    /// </summary>
    private void ReadQuestion(int head)
    {
        BpfLabel plain = new("no OPT"), read = new("question read");
        b.Alu(BpfArithmetic.Subtract, R7, UdpLength + HeaderLength + QuestionTail);
        b.JumpIf(BpfCondition.Equal, R9, 0, plain);
        b.Alu(BpfArithmetic.Subtract, R7, OptLength);
        b.Mark(plain);
        b.JumpIf(BpfCondition.SignedLess, R7, 2, left);
        b.JumpIf(BpfCondition.SignedGreater, R7, AnswerKey.NameRoom, left);

        b.Store(BpfSize.Word, Frame, Key + AnswerKey.TypeAt, 0);
        b.Store(BpfSize.Byte, Frame, Key + AnswerKey.LengthAt, R7);
        for (var at = 0; at < AnswerKey.NameRoom; at += 8)
            b.Store(BpfSize.Double, Frame, Name + at, 0);
        b.Move(R1, R6);
        b.Move(R2, head);
        FrameAddress(R3, Name);
        b.Move(R4, R7);
        b.Call(BpfHelper.SocketBufferLoadBytes);
        b.JumpIf(BpfCondition.NotEqual, R0, 0, left);

        BpfLabel opt = new("OPT");
        b.Store(BpfSize.Double, Frame, Tail, 0);
        b.Store(BpfSize.Double, Frame, Tail + 8, 0);
        b.Move(R1, R6);
        b.Move(R2, R7);
        b.Alu(BpfArithmetic.Add, R2, head);
        FrameAddress(R3, Tail);
        b.JumpIf(BpfCondition.NotEqual, R9, 0, opt);
        b.Move(R4, QuestionTail);
        b.Call(BpfHelper.SocketBufferLoadBytes);
        b.JumpIf(BpfCondition.NotEqual, R0, 0, left);
        b.Jump(read);

        // Owner the root, type 41; the size is of no matter, answers are smaller than any; version 0; no options.
        b.Mark(opt);
        b.Move(R4, QuestionTail + OptLength);
        b.Call(BpfHelper.SocketBufferLoadBytes);
        b.JumpIf(BpfCondition.NotEqual, R0, 0, left);
        Expect(Tail + 4, 0);
        Expect(Tail + 5, 0);
        Expect(Tail + 6, (int)RrType.OPT);
        Expect(Tail + 10, 0);
        Expect(Tail + 13, 0);
        Expect(Tail + 14, 0);

        // Class IN, a type of one octet: A or AAAA, for others are never put in.
        b.Mark(read);
        Expect(Tail, 0);
        Expect(Tail + 2, 0);
        Expect(Tail + 3, 1);
        b.Load(BpfSize.Byte, R1, Frame, Tail + 1);
        b.Store(BpfSize.Byte, Frame, Key + AnswerKey.TypeAt, R1);

        void Expect(int at, int value)
        {
            b.Load(BpfSize.Byte, R1, Frame, at);
            b.JumpIf(BpfCondition.NotEqual, R1, value, left);
        }
    }

    /// <summary>
    /// Lower-cases the name, eight octets at a time; length octets are at most 63 and no letter is. In each octet without
    /// its upper bit, adding 63 sets that bit from 'A' on, adding 37 from 'Z' + 1 on.
    /// </summary>
    private void LowerName()
    {
        var done = new BpfLabel("lower case");
        b.MoveLong(R1, 0x7f7f7f7f7f7f7f7f);
        b.MoveLong(R2, 0x3f3f3f3f3f3f3f3f);
        b.MoveLong(R3, 0x2525252525252525);
        b.MoveLong(R4, 0x8080808080808080);
        for (var at = 0; at < AnswerKey.NameRoom; at += 8)
        {
            if (at > 0)
                b.JumpIf(BpfCondition.LessOrEqual, R7, at, done);
            b.Load(BpfSize.Double, R5, Frame, Name + at);
            b.Move(R0, R5);
            b.Alu(BpfArithmetic.And, R0, R1);
            b.Move(R8, R0);
            b.Alu(BpfArithmetic.Add, R0, R2);
            b.Alu(BpfArithmetic.Add, R8, R3);
            b.Alu(BpfArithmetic.Xor, R0, R8);
            // Octets above 127 are no letters.
            b.Move(R8, R5);
            b.Alu(BpfArithmetic.Xor, R8, -1);
            b.Alu(BpfArithmetic.And, R0, R8);
            b.Alu(BpfArithmetic.And, R0, R4);
            b.Alu(BpfArithmetic.ShiftRight, R0, 2);
            b.Alu(BpfArithmetic.Or, R5, R0);
            b.Store(BpfSize.Double, Frame, Name + at, R5);
        }

        b.Mark(done);
    }

    /// <summary>The record into the frame, unless entries are taken out meanwhile (<see cref="AnswerCounters.Generation"/>).</summary>
    private void FindRecord()
    {
        ReadGeneration();
        b.Store(BpfSize.Double, Frame, Generation, R1);
        b.LoadMap(R1, maps.Answers.Fd);
        FrameAddress(R2, Key);
        b.Call(BpfHelper.MapLookup);
        b.JumpIf(BpfCondition.Equal, R0, 0, left);
        for (var at = 0; at < AnswerRecord.Size; at += 8)
        {
            b.Load(BpfSize.Double, R1, R0, at);
            b.Store(BpfSize.Double, Frame, Answer + at, R1);
        }

        for (var at = AnswerRecord.Size; at < Tail - Answer; at += 8)
            b.Store(BpfSize.Double, Frame, Answer + at, 0);
        ReadGeneration();
        b.Load(BpfSize.Double, R2, Frame, Generation);
        b.JumpIf(BpfCondition.NotEqual, R1, R2, left);
    }

    /// <summary>Into r1, by an operation that orders all others around it (instruction-set.rst, atomic operations with BPF_FETCH).</summary>
    private void ReadGeneration()
    {
        b.LoadMapValue(R2, maps.Counters.Fd, AnswerCounters.GenerationAt);
        b.Move(R1, 0);
        b.AtomicFetchAdd(BpfSize.Double, R2, 0, R1);
    }

    /// <summary>A client that asked more than its share in this second is left to the daemon, which has a limit of its own and slips.</summary>
    private void Limit(bool six)
    {
        if (queriesPerSecond <= 0)
            return;
        BpfLabel known = new("known client"), same = new("same window"), within = new("within its share");
        CopyAddress(six, Client, Ip + (six ? 8 : 12));
        b.Call(BpfHelper.KtimeGetCoarseNs);
        b.Alu(BpfArithmetic.ShiftRight, R0, 30);
        b.Store(BpfSize.Double, Frame, Window + ClientWindow.WindowAt, R0);
        b.LoadMap(R1, maps.Clients.Fd);
        FrameAddress(R2, Client);
        b.Call(BpfHelper.MapLookup);
        b.JumpIf(BpfCondition.NotEqual, R0, 0, known);
        b.Store(BpfSize.Double, Frame, Window + ClientWindow.CountAt, 1);
        b.LoadMap(R1, maps.Clients.Fd);
        FrameAddress(R2, Client);
        FrameAddress(R3, Window);
        b.Move(R4, 0);
        b.Call(BpfHelper.MapUpdate);
        b.Jump(within);

        b.Mark(known);
        b.Load(BpfSize.Double, R1, Frame, Window + ClientWindow.WindowAt);
        b.Load(BpfSize.Double, R2, R0, ClientWindow.WindowAt);
        b.JumpIf(BpfCondition.Equal, R1, R2, same);
        b.Store(BpfSize.Double, R0, ClientWindow.WindowAt, R1);
        b.Store(BpfSize.Double, R0, ClientWindow.CountAt, 0);
        b.Mark(same);
        b.Load(BpfSize.Double, R1, R0, ClientWindow.CountAt);
        b.Alu(BpfArithmetic.Add, R1, 1);
        b.Store(BpfSize.Double, R0, ClientWindow.CountAt, R1);
        b.JumpIf(BpfCondition.LessOrEqual, R1, queriesPerSecond, within);
        Count(AnswerCounters.LimitedAt);
        b.Jump(left);
        b.Mark(within);
    }

    /// <summary>An address of the packet's head as 16 octets.</summary>
    private void CopyAddress(bool six, int to, int from)
    {
        if (six)
        {
            for (var at = 0; at < 16; at += 4)
            {
                b.Load(BpfSize.Word, R1, Frame, from + at);
                b.Store(BpfSize.Word, Frame, to + at, R1);
            }

            return;
        }

        b.Store(BpfSize.Double, Frame, to, 0);
        b.Store(BpfSize.Word, Frame, to + 8, unchecked((int)0xffff0000));
        b.Load(BpfSize.Word, R1, Frame, from);
        b.Store(BpfSize.Word, Frame, to + 12, R1);
    }

    private void Count(int counter)
    {
        b.LoadMapValue(R1, maps.Counters.Fd, counter);
        b.Move(R2, 1);
        b.AtomicAdd(BpfSize.Double, R1, 0, R2);
    }

    private void FrameAddress(BpfRegister register, int at)
    {
        b.Move(register, Frame);
        b.Alu(BpfArithmetic.Add, register, at);
    }

    /// <summary>A 16-bit number in network order, as a little-endian load sees it.</summary>
    private static int Swapped(int value) => (value & 0xff) << 8 | value >> 8;
}
