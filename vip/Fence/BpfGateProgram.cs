using System.Buffers.Binary;
using System.Net;
using System.Net.Sockets;
using OverlayNet.Kernel.Bpf;
using static OverlayNet.Kernel.Bpf.BpfRegister;

namespace OverlayNet.Vip.Fence;

/// <summary>The program of <see cref="BpfGate"/>: is this frame the VIP's business, and is the deadline past?</summary>
internal static class BpfGateProgram
{
    // struct __sk_buff, linux/bpf.h.
    private const int SkbProtocol = 16;
    private const int Ethernet = 14, Buffer = -16;
    // Offsets within ARP, IPv4, IPv6 and neighbour discovery.
    private const int ArpSender = 14, ArpTarget = 24, Ip4Protocol = 9, Ip4Source = 12, Ip4Destination = 16;
    private const int Ip6NextHeader = 6, Ip6Source = 8, Ip6Destination = 24, Ip6Header = 40, NdTarget = 8;
    private const int Icmp6 = 58, Vrrp = 112, NeighbourSolicitation = 135, NeighbourAdvertisement = 136;

    public static BpfInstruction[] Build(FenceGateConfig config, BpfMap deadline, BpfAttachType direction)
    {
        var builder = new Builder(config, direction == BpfAttachType.TcxEgress);
        builder.Write(deadline);
        return builder.Code.Assemble();
    }

    private sealed class Builder(FenceGateConfig config, bool egress)
    {
        public readonly BpfAssembler Code = new();
        private readonly BpfLabel _pass = new("pass");
        private readonly BpfLabel _ours = new("ours");
        private readonly IPAddress[] _addresses4 = [.. config.Addresses.Where(a => a.AddressFamily == AddressFamily.InterNetwork)];
        private readonly IPAddress[] _addresses6 = [.. config.Addresses.Where(a => a.AddressFamily == AddressFamily.InterNetworkV6)];

        public void Write(BpfMap deadline)
        {
            var arp = new BpfLabel("arp");
            var ip4 = new BpfLabel("ip4");
            var ip6 = new BpfLabel("ip6");
            Code.Move(R6, R1);
            Code.Load(BpfSize.Word, R7, R6, SkbProtocol);
            Code.NetworkOrder(R7, 16);
            Code.JumpIf(BpfCondition.Equal, R7, 0x0806, arp);
            Code.JumpIf(BpfCondition.Equal, R7, 0x0800, ip4);
            Code.JumpIf(BpfCondition.Equal, R7, 0x86dd, ip6);
            Code.Jump(_pass);

            Code.Mark(arp);
            Match4(Ethernet + (egress ? ArpSender : ArpTarget));
            Code.Jump(_pass);

            Code.Mark(ip4);
            Match4(Ethernet + (egress ? Ip4Source : Ip4Destination));
            if (egress)
                Vrrp4();
            Code.Jump(_pass);

            Code.Mark(ip6);
            Match6(Ethernet + (egress ? Ip6Source : Ip6Destination));
            NextHeaders6();
            Code.Jump(_pass);

            Code.Mark(_ours);
            Code.Call(BpfHelper.KtimeGetBootNs);
            Code.LoadMapValue(R1, deadline.Fd, 0);
            Code.Load(BpfSize.Double, R1, R1, 0);
            Code.JumpIf(BpfCondition.Less, R0, R1, _pass);
            Code.Move(R0, BpfVerdict.Drop);
            Code.Exit();
            Code.Mark(_pass);
            Code.Move(R0, BpfVerdict.Next);
            Code.Exit();
        }

        // Octets of the packet into the frame; a packet too short for them is not the VIP's.
        private void Fetch(int offset, int length)
        {
            Code.Move(R2, offset);
            FetchAtR2(length);
        }

        private void FetchAtR2(int length)
        {
            Code.Move(R1, R6);
            Code.Move(R3, Frame);
            Code.Alu(BpfArithmetic.Add, R3, Buffer);
            Code.Move(R4, length);
            Code.Call(BpfHelper.SocketBufferLoadBytes);
            Code.JumpIf(BpfCondition.NotEqual, R0, 0, _pass);
        }

        private void Match4(int offset)
        {
            if (_addresses4.Length == 0)
                return;
            Fetch(offset, 4);
            Code.Load(BpfSize.Word, R7, Frame, Buffer);
            foreach (var address in _addresses4)
            {
                Code.MoveLong(R1, BinaryPrimitives.ReadUInt32LittleEndian(address.GetAddressBytes()));
                Code.JumpIf(BpfCondition.Equal, R7, R1, _ours);
            }
        }

        private void Match6(int offset)
        {
            if (_addresses6.Length == 0)
                return;
            Fetch(offset, 16);
            Code.Load(BpfSize.Double, R7, Frame, Buffer);
            Code.Load(BpfSize.Double, R8, Frame, Buffer + 8);
            foreach (var address in _addresses6)
            {
                var other = new BpfLabel("other address");
                var octets = address.GetAddressBytes();
                Code.MoveLong(R1, BinaryPrimitives.ReadUInt64LittleEndian(octets));
                Code.JumpIf(BpfCondition.NotEqual, R7, R1, other);
                Code.MoveLong(R1, BinaryPrimitives.ReadUInt64LittleEndian(octets.AsSpan(8)));
                Code.JumpIf(BpfCondition.Equal, R8, R1, _ours);
                Code.Mark(other);
            }
        }

        private void Vrrp4()
        {
            Fetch(Ethernet + Ip4Protocol, 1);
            Code.Load(BpfSize.Byte, R7, Frame, Buffer);
            Code.JumpIf(BpfCondition.NotEqual, R7, Vrrp, _pass);
            Fetch(Ethernet, 1);
            Code.Load(BpfSize.Byte, R2, Frame, Buffer);
            Code.Alu(BpfArithmetic.And, R2, 0x0f);
            Code.Alu(BpfArithmetic.ShiftLeft, R2, 2);
            Code.Alu(BpfArithmetic.Add, R2, Ethernet + 1);
            FetchAtR2(1);
            MatchVirtualRouterId();
        }

        private void NextHeaders6()
        {
            var notVrrp = new BpfLabel("not vrrp");
            Fetch(Ethernet + Ip6NextHeader, 1);
            Code.Load(BpfSize.Byte, R7, Frame, Buffer);
            if (egress)
            {
                Code.JumpIf(BpfCondition.NotEqual, R7, Vrrp, notVrrp);
                Fetch(Ethernet + Ip6Header + 1, 1);
                MatchVirtualRouterId();
                Code.Jump(_pass);
                Code.Mark(notVrrp);
            }

            Code.JumpIf(BpfCondition.NotEqual, R7, Icmp6, _pass);
            Fetch(Ethernet + Ip6Header, 1);
            Code.Load(BpfSize.Byte, R7, Frame, Buffer);
            Code.JumpIf(BpfCondition.NotEqual, R7, egress ? NeighbourAdvertisement : NeighbourSolicitation, _pass);
            Match6(Ethernet + Ip6Header + NdTarget);
        }

        private void MatchVirtualRouterId()
        {
            Code.Load(BpfSize.Byte, R7, Frame, Buffer);
            foreach (var vrid in config.VirtualRouterIds)
                Code.JumpIf(BpfCondition.Equal, R7, vrid, _ours);
        }
    }
}
