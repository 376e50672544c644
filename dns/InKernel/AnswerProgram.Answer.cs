using OverlayNet.Kernel.Bpf;
using static OverlayNet.Kernel.Bpf.BpfRegister;

namespace OverlayNet.Dns.InKernel;

/// <summary>From the query in the frame and the record found to the answer on its way back.</summary>
internal sealed partial class AnswerProgram
{
    /// <summary>
    /// Prepares the UDP checksum. A datagram that never left this machine has none yet: the field holds the pseudo
    /// header's sum (RFC 768), for whoever completes it (CHECKSUM_PARTIAL, linux/skbuff.h). It is kept so, for the
    /// answer's length. (A whole checksum is taken for it once in 65,536 times; the answer is then dropped, and asked for
    /// again.) One that has a whole checksum is answered without over IPv4 and left to the daemon over IPv6,
    /// which knows no datagrams without (RFC 8200 section 8.1). The pseudo header's sum without the length takes the
    /// key's place in the frame, which nobody needs any more; 0: no checksum.
    /// </summary>
    private void Checksum(bool six, int udp)
    {
        BpfLabel partial = new("partial"), known = new("checksum known");
        b.Move(R3, 0);
        for (var at = six ? 8 : 12; at < (six ? Ip6Length : Ip4Length); at += 4)
        {
            b.Load(BpfSize.Word, R1, Frame, Ip + at);
            b.Alu(BpfArithmetic.Add, R3, R1);
        }

        b.Alu(BpfArithmetic.Add, R3, Swapped(Udp));
        b.Move(R4, R3);
        b.Load(BpfSize.Half, R1, Frame, udp + 4);
        b.Alu(BpfArithmetic.Add, R4, R1);
        Fold(R4);
        b.Load(BpfSize.Half, R1, Frame, udp + 6);
        b.JumpIf(BpfCondition.Equal, R1, R4, partial);
        if (six)
        {
            b.Jump(left);
        }
        else
        {
            b.Store(BpfSize.Double, Frame, Key, 0);
            b.Jump(known);
        }

        b.Mark(partial);
        b.Store(BpfSize.Double, Frame, Key, R3);
        b.Mark(known);
    }

    /// <summary>The OPT behind the record; r8 becomes the octets added, without the OPT's, which the query had, too.</summary>
    private void WriteAnswer()
    {
        BpfLabel four = new("A"), sized = new("size known");
        b.Load(BpfSize.Byte, R1, Frame, Tail + 1);
        b.JumpIf(BpfCondition.Equal, R1, (int)RrType.A, four);
        b.Move(R8, AnswerRecord.Ipv6Record);
        WriteOpt(AnswerRecord.Ipv6Record);
        b.Jump(sized);
        b.Mark(four);
        b.Move(R8, AnswerRecord.Ipv4Record);
        WriteOpt(AnswerRecord.Ipv4Record);
        b.Mark(sized);

        // Its other octets are 0, as are those behind the record.
        void WriteOpt(int at)
        {
            b.Store(BpfSize.Byte, Frame, Answer + at + 2, (int)RrType.OPT);
            b.Store(BpfSize.Byte, Frame, Answer + at + 3, Limits.EdnsUdp >> 8);
            b.Store(BpfSize.Byte, Frame, Answer + at + 4, Limits.EdnsUdp & 0xff);
            b.Load(BpfSize.Byte, R1, Frame, Tail + 11);
            b.Alu(BpfArithmetic.And, R1, DnssecOk);
            b.Store(BpfSize.Byte, Frame, Answer + at + 7, R1);
        }
    }

    /// <summary>The head of the answer: everything that has a direction turned round, lengths and checksums for what is added.</summary>
    private void WriteHead(bool six, int udp)
    {
        var dns = udp + UdpLength;
        for (var at = 0; at < 6; at += 2)
            Swap(BpfSize.Half, Packet + at, Packet + 6 + at);
        var (source, destination, width) = six ? (8, 24, 16) : (12, 16, 4);
        for (var at = 0; at < width; at += 4)
            Swap(BpfSize.Word, Ip + source + at, Ip + destination + at);
        Swap(BpfSize.Half, udp, udp + 2);
        Grow(Ip + (six ? 4 : 2));
        Grow(udp + 4);
        b.Store(BpfSize.Byte, Frame, Ip + (six ? 7 : 8), TimeToLive);
        if (!six)
        {
            b.Store(BpfSize.Half, Frame, Ip + 10, 0);
            b.Move(R3, 0);
            for (var at = 0; at < Ip4Length; at += 4)
            {
                b.Load(BpfSize.Word, R1, Frame, Ip + at);
                b.Alu(BpfArithmetic.Add, R3, R1);
            }

            Fold(R3);
            b.Alu(BpfArithmetic.Xor, R3, 0xffff);
            b.Store(BpfSize.Half, Frame, Ip + 10, R3);
        }

        var whole = new BpfLabel("no checksum");
        b.Load(BpfSize.Double, R3, Frame, Key);
        b.JumpIf(BpfCondition.Equal, R3, 0, whole);
        b.Load(BpfSize.Half, R1, Frame, udp + 4);
        b.Alu(BpfArithmetic.Add, R3, R1);
        Fold(R3);
        b.Mark(whole);
        b.Store(BpfSize.Half, Frame, udp + 6, R3);

        b.Load(BpfSize.Byte, R1, Frame, dns + 2);
        b.Alu(BpfArithmetic.And, R1, Rd);
        b.Alu(BpfArithmetic.Or, R1, Qr | Aa);
        b.Store(BpfSize.Byte, Frame, dns + 2, R1);
        b.Load(BpfSize.Byte, R1, Frame, dns + 3);
        b.Alu(BpfArithmetic.And, R1, Cd);
        b.Alu(BpfArithmetic.Or, R1, Ra);
        b.Store(BpfSize.Byte, Frame, dns + 3, R1);
        b.Store(BpfSize.Half, Frame, dns + 6, Swapped(1));

        void Swap(BpfSize size, int first, int second)
        {
            b.Load(size, R1, Frame, first);
            b.Load(size, R2, Frame, second);
            b.Store(size, Frame, first, R2);
            b.Store(size, Frame, second, R1);
        }

        void Grow(int at)
        {
            b.Load(BpfSize.Half, R1, Frame, at);
            b.NetworkOrder(R1, 16);
            b.Alu(BpfArithmetic.Add, R1, R8);
            b.NetworkOrder(R1, 16);
            b.Store(BpfSize.Half, Frame, at, R1);
        }
    }

    private void Send(int head)
    {
        BpfLabel counted = new("counted"), plain = new("without OPT");
        b.Move(R1, R6);
        b.Load(BpfSize.Word, R2, R6, ContextLength);
        b.Alu(BpfArithmetic.Add, R2, R8);
        b.Move(R3, 0);
        b.Call(BpfHelper.SocketBufferChangeTail);
        b.JumpIf(BpfCondition.NotEqual, R0, 0, left);

        b.Move(R1, R6);
        b.Move(R2, 0);
        FrameAddress(R3, Packet);
        b.Move(R4, head);
        b.Move(R5, 0);
        b.Call(BpfHelper.SocketBufferStoreBytes);
        b.JumpIf(BpfCondition.NotEqual, R0, 0, drop);

        b.Move(R1, R6);
        b.Move(R2, R7);
        b.Alu(BpfArithmetic.Add, R2, head + QuestionTail);
        FrameAddress(R3, Answer);
        b.Move(R4, R8);
        b.Move(R5, 0);
        b.JumpIf(BpfCondition.Equal, R9, 0, plain);
        b.Alu(BpfArithmetic.Add, R4, OptLength);
        b.Mark(plain);
        b.Call(BpfHelper.SocketBufferStoreBytes);
        b.JumpIf(BpfCondition.NotEqual, R0, 0, drop);

        Count(AnswerCounters.AnsweredAt);
        b.JumpIf(BpfCondition.Equal, R9, 0, counted);
        Count(AnswerCounters.EdnsAt);
        b.Mark(counted);
        b.Load(BpfSize.Word, R1, R6, ContextInterface);
        b.Move(R2, 0);
        b.Call(BpfHelper.Redirect);
        b.Exit();
    }

    /// <summary>Folds a sum of words into 16 bits with end-around carry (RFC 1071), whatever the byte order.</summary>
    private void Fold(BpfRegister register)
    {
        // A sum of ten words has 36 bits: once to 32 or little more, three times to 16.
        var scratch = register == R1 ? R2 : R1;
        foreach (var (mask, shift) in new[] { (0, 32), (0xffff, 16), (0xffff, 16), (0xffff, 16) })
        {
            b.Move(scratch, register);
            b.Alu(BpfArithmetic.ShiftRight, scratch, shift);
            if (mask != 0)
                b.Alu(BpfArithmetic.And, register, mask);
            else
                b.Alu32(BpfArithmetic.Move, register, register);
            b.Alu(BpfArithmetic.Add, register, scratch);
        }
    }
}
