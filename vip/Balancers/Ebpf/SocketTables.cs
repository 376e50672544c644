using System.Buffers.Binary;
using System.Net;
using System.Net.Sockets;
using System.Runtime.InteropServices;

namespace OverlayNet.Vip.Balancers.Ebpf;

/// <summary>
/// The memory images that the programs and this process share. Addresses are 16 octets in network order, IPv4 as
/// ::ffff:a.b.c.d, so that an IPv6 socket that speaks IPv4 needs no case of its own; ports are in network order; all
/// else is in host order. <see cref="Version"/> changes with any of them.
/// </summary>
internal static class SocketTables
{
    /// <summary>Identity of service 0, which is never a real one: tables of another version are not adopted.</summary>
    internal const ulong Version = 0x6f6e_6562_7066_0001;

    /// <summary>Networks one container can be on; those beyond are served by the writer behind.</summary>
    internal const int MaxNetworks = 7;
}

/// <summary>An address in the programs' form.</summary>
[StructLayout(LayoutKind.Sequential)]
internal readonly record struct Address16(ulong High, ulong Low)
{
    internal static Address16 From(IPAddress address)
    {
        Span<byte> octets = stackalloc byte[16];
        if (address.AddressFamily == AddressFamily.InterNetwork)
        {
            octets.Clear();
            octets[10] = octets[11] = 0xff;
            address.TryWriteBytes(octets[12..], out _);
        }
        else
        {
            address.TryWriteBytes(octets, out _);
        }
        return MemoryMarshal.Read<Address16>(octets);
    }

    /// <param name="family">Of the socket that is to use it: an IPv6 socket takes IPv4 as ::ffff:a.b.c.d.</param>
    internal IPAddress ToAddress(byte family)
    {
        var mine = this;
        var address = new IPAddress(MemoryMarshal.AsBytes(new ReadOnlySpan<Address16>(in mine)));
        return family == (byte)AddressFamily.InterNetwork ? address.MapToIPv4() : address;
    }
}

/// <summary>Key of the table of what is answered: first an address alone (port and protocol 0), then with its port.</summary>
/// <param name="Network">The VNI.</param>
[StructLayout(LayoutKind.Sequential, Pack = 1)]
internal readonly record struct FrontendKey(Address16 Address, uint Network, ushort Port, byte Protocol, byte Pad = 0)
{
    internal const int Size = 24, AddressAt = 0, NetworkAt = 16, PortAt = 20, ProtocolAt = 22;
}

[Flags]
internal enum FrontendFlags : byte
{
    None = 0,

    /// <summary>Only listed ports are answered: look again with port and protocol.</summary>
    PortsOnly = 1,

    /// <summary>All weights are equal: real servers take turns.</summary>
    Even = 2,

    /// <summary>The client decides the real server, not the turn.</summary>
    ByClient = 4,
    Six = 8,
}

/// <summary>How a VIP (and port) is answered. Replaced as a whole, so that a program never sees half of a change.</summary>
/// <param name="SlotBase">First of the real servers' slots.</param>
/// <param name="SlotCount">0: no real server takes new connections; refuse.</param>
/// <param name="Service">Index of the service's record.</param>
/// <param name="Target">Port at the real server, network order; 0: the one asked for.</param>
[StructLayout(LayoutKind.Sequential, Pack = 1)]
internal readonly record struct Frontend(uint SlotBase, uint SlotCount, uint Service, uint AffinitySeconds, ushort Target, FrontendFlags Flags, byte Pad = 0, uint Pad2 = 0)
{
    internal const int Size = 24, SlotBaseAt = 0, SlotCountAt = 4, ServiceAt = 8, AffinityAt = 12, TargetAt = 16, FlagsAt = 18;
}

/// <summary>One of a service's equal shares: below the threshold (of 2^32) it is the first real server's, above the second's (Walker's alias method).</summary>
[StructLayout(LayoutKind.Sequential)]
internal readonly record struct Slot(uint Threshold, uint First, uint Second, uint Pad = 0)
{
    internal const int Size = 16, ThresholdAt = 0, FirstAt = 4, SecondAt = 8;
}

[Flags]
internal enum BackendFlags : uint
{
    None = 0,

    /// <summary>May get new connections.</summary>
    Accepts = 1,

    /// <summary>No longer in the configuration: datagrams move on at once, connections may end by themselves until the deadline.</summary>
    Removed = 2,
}

/// <summary>A real server.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct BackendRecord
{
    internal const int Size = 48, GenerationAt = 8, FlagsAt = 12, Address4At = 16, Address6At = 24;

    /// <summary>Of network, service and endpoint, so that a restarted daemon finds its own again; 0: free.</summary>
    internal ulong Identity;

    /// <summary>Bindings of sockets are valid while they carry the same; 0: none are.</summary>
    internal uint Generation;
    internal BackendFlags Flags;
    internal uint Address4;
    internal uint Service;
    internal Address16 Address6;

    /// <summary>Monotonic clock in ns at which a removed real server's sockets are destroyed; 0: not removed.</summary>
    internal long Deadline;
}

/// <summary>Traffic of a real server, counted by programs. Apart from the records so that counting does not slow reading down.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct BackendCounters
{
    internal const int Size = 32, ConnectionsAt = 0, LiveAt = 8, DatagramsAt = 16;
    internal long Connections;

    /// <summary>Sockets connected and not yet closed.</summary>
    internal long Live;

    /// <summary>Datagrams sent by sockets that are not connected.</summary>
    internal long Datagrams;
    internal long Pad;
}

/// <summary>A service.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct ServiceRecord
{
    internal const int Size = 32, TurnAt = 8, RefusedAt = 16, Turn6At = 24;
    internal ulong Identity;

    /// <summary>
    /// Whose turn it is; begins at a random place, so that all nodes do not begin with the same real server. Each family has
    /// its own: a client that tries IPv6 first and is refused would take every other turn of a common one with it.
    /// </summary>
    internal ulong Turn;
    internal ulong Refused;
    internal ulong Turn6;
}

/// <summary>The networks a container is on.</summary>
[StructLayout(LayoutKind.Sequential)]
internal unsafe struct NetnsNetworks : IEquatable<NetnsNetworks>
{
    internal const int Size = 32, CountAt = 0, NetworkAt = 4;
    internal uint Count;
    internal fixed uint Network[SocketTables.MaxNetworks];

    internal static NetnsNetworks From(IEnumerable<uint> networks)
    {
        var value = default(NetnsNetworks);
        foreach (var network in networks.Distinct().Order().Take(SocketTables.MaxNetworks))
            value.Network[value.Count++] = network;
        return value;
    }

    public readonly bool Equals(NetnsNetworks other)
    {
        var mine = this;
        return MemoryMarshal.AsBytes(new ReadOnlySpan<NetnsNetworks>(in mine)).SequenceEqual(MemoryMarshal.AsBytes(new ReadOnlySpan<NetnsNetworks>(in other)));
    }

    public override readonly bool Equals(object? other) => other is NetnsNetworks networks && Equals(networks);

    public override readonly int GetHashCode() => HashCode.Combine(Count, Network[0]);
}

/// <summary>What is remembered with a socket: the VIP it spoke to and the real server it got instead.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct SocketBinding
{
    internal const int Size = 56, VipAt = 0, RealAt = 16, VipPortAt = 32, RealPortAt = 34, FlagsAt = 36, BackendAt = 40, GenerationAt = 44, LastAt = 48;

    /// <summary>Bound by connect(2), and counted as live.</summary>
    internal const uint Connected = 1;
    internal Address16 Vip, Real;
    internal ushort VipPort, RealPort;
    internal uint Flags, Backend, Generation;
    internal ulong Last;
}

/// <summary>Key of what a datagram socket with several peers remembers.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct FlowKey
{
    internal const int Size = 32, SocketAt = 0, AddressAt = 8, PortAt = 24, DirectionAt = 26;
    internal const short ToReal = 1, ToVip = 2;
    internal ulong Socket;
    internal Address16 Address;
    internal ushort Port;
    internal short Direction;
    internal uint Pad;
}

/// <summary>The other address of a flow.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct Flow
{
    internal const int Size = 40, AddressAt = 0, PortAt = 16, BackendAt = 20, GenerationAt = 24, LastAt = 32;
    internal Address16 Address;
    internal ushort Port, Pad;
    internal uint Backend, Generation, Pad2;
    internal ulong Last;
}

/// <summary>Key of session affinity: a client is a network namespace.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct AffinityKey
{
    internal const int Size = 16, NetnsAt = 0, ServiceAt = 8, FamilyAt = 12;
    internal ulong Netns;
    internal uint Service, Family;
}

[StructLayout(LayoutKind.Sequential)]
internal struct Affinity
{
    internal const int Size = 16, BackendAt = 0, GenerationAt = 4, LastAt = 8;
    internal uint Backend, Generation;
    internal ulong Last;
}

internal static class NetworkOrder
{
    /// <summary>A port as the kernel keeps it.</summary>
    internal static ushort Port(ushort port) => BitConverter.IsLittleEndian ? BinaryPrimitives.ReverseEndianness(port) : port;

    /// <summary>An IPv4 address as a word of memory; 0 for none.</summary>
    internal static uint Address4(IPAddress? address)
    {
        Span<byte> octets = stackalloc byte[4];
        octets.Clear();
        address?.TryWriteBytes(octets, out _);
        return MemoryMarshal.Read<uint>(octets);
    }
}
