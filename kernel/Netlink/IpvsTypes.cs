using System.Net;
using System.Net.Sockets;

namespace OverlayNet.Kernel.Netlink;

/// <summary>How a packet gets from the director to a real server (linux/ip_vs.h: IP_VS_CONN_F_FWD_MASK).</summary>
public enum IpvsForwarding : uint
{
    /// <summary>NAT: destination rewritten, replies must come back through the director.</summary>
    Masquerade = 0,

    /// <summary>The kernel's own name for a destination that is one of its own addresses; never asked for.</summary>
    Local = 1,
    Tunnel = 2,

    /// <summary>Only the Ethernet header changes; the real server answers the client itself.</summary>
    DirectRouting = 3,
}

/// <summary>Encapsulation of <see cref="IpvsForwarding.Tunnel"/> (IP_VS_CONN_F_TUNNEL_TYPE_*).</summary>
public enum IpvsTunnel : byte
{
    IpIp = 0,
    Gue = 1,
    Gre = 2,
}

/// <summary>IP_VS_SVC_F_*.</summary>
[Flags]
public enum IpvsServiceFlags : uint
{
    None = 0,
    Persistent = 0x1,

    /// <summary>Set by the kernel on every service it knows; not a wish.</summary>
    Hashed = 0x2,

    /// <summary>Every UDP packet is scheduled on its own.</summary>
    OnePacket = 0x4,

    /// <summary>sh and mh: fall back to another server when the chosen one has weight 0.</summary>
    SchedulerFallback = 0x8,

    /// <summary>sh and mh: the client's port counts too.</summary>
    SchedulerPort = 0x10,
    SchedulerFlag3 = 0x20,
}

/// <summary>
/// What the kernel looks a virtual service up by: protocol, address and port, or a firewall mark within one address family.
/// </summary>
/// <param name="Protocol">IPPROTO_TCP, IPPROTO_UDP or IPPROTO_SCTP; 0 with a mark.</param>
/// <param name="Address">Null with a mark.</param>
/// <param name="Port">Host byte order; 0 with a mark.</param>
/// <param name="Mark">Not 0 for a service by firewall mark.</param>
public readonly record struct IpvsServiceKey(AddressFamily Family, byte Protocol, IPAddress? Address, ushort Port, uint Mark)
{
    public static IpvsServiceKey Of(byte protocol, IPAddress address, ushort port) => new(address.AddressFamily, protocol, address, port, 0);

    /// <param name="mark">At least 1.</param>
    public static IpvsServiceKey OfMark(AddressFamily family, uint mark) => mark != 0
        ? new IpvsServiceKey(family, 0, null, 0, mark)
        : throw new ArgumentOutOfRangeException(nameof(mark), "a firewall mark of 0 is no mark");

    public override string ToString()
    {
        if (Address is null)
            return $"fwmark {Mark} {(Family == AddressFamily.InterNetworkV6 ? "v6" : "v4")}";
        var protocol = Protocol switch { 6 => "tcp", 17 => "udp", 132 => "sctp", _ => $"proto {Protocol}" };
        return $"{protocol} {new IPEndPoint(Address, Port)}";
    }
}

/// <summary>A virtual service.</summary>
public sealed record IpvsService
{
    public required IpvsServiceKey Key { get; init; }

    /// <summary>Name of the scheduler: rr wrr lc wlc lblc lblcr sh mh dh fo ovf sed nq twos.</summary>
    public required string Scheduler { get; init; }

    /// <summary>As asked for; the kernel's own <see cref="IpvsServiceFlags.Hashed"/> is never in it.</summary>
    public IpvsServiceFlags Flags { get; init; }

    /// <summary>How long a client stays with its server after its last connection, in seconds; only with <see cref="IpvsServiceFlags.Persistent"/>.</summary>
    public int PersistenceSeconds { get; init; }

    /// <summary>Clients that share this many leading bits count as one for persistence; null: the whole address.</summary>
    public int? PersistencePrefix { get; init; }

    /// <summary>Persistence engine, such as sip; null: none.</summary>
    public string? PersistenceEngine { get; init; }
}

/// <summary>A real server of a virtual service. Address and port name it.</summary>
public sealed record IpvsDestination
{
    public required IPAddress Address { get; init; }

    /// <summary>Host byte order. Direct routing and tunnels leave the packet's port alone whatever this says.</summary>
    public required ushort Port { get; init; }
    public IpvsForwarding Forwarding { get; init; } = IpvsForwarding.DirectRouting;

    /// <summary>0: no new connections, live ones go on.</summary>
    public int Weight { get; init; } = 1;

    /// <summary>No new connections at this many; 0: no limit.</summary>
    public uint UpperThreshold { get; init; }

    /// <summary>New ones again below this many; 0: at three quarters of the upper threshold.</summary>
    public uint LowerThreshold { get; init; }
    public IpvsTunnel TunnelType { get; init; }

    /// <summary>UDP port of <see cref="IpvsTunnel.Gue"/>, host byte order.</summary>
    public ushort TunnelPort { get; init; }

    /// <summary>Checksum flags of the encapsulation (IP_VS_TUNNEL_ENCAP_FLAG_*).</summary>
    public ushort TunnelFlags { get; init; }

    public override string ToString() => new IPEndPoint(Address, Port).ToString();
}

/// <summary>Counters since the object was made or zeroed, and the kernel's estimates per second (they lag by about 2 s).</summary>
public readonly record struct IpvsStatistics
{
    public ulong Connections { get; init; }
    public ulong PacketsIn { get; init; }

    /// <summary>Always 0 for direct routing: replies do not pass the director.</summary>
    public ulong PacketsOut { get; init; }
    public ulong BytesIn { get; init; }
    public ulong BytesOut { get; init; }
    public ulong ConnectionRate { get; init; }
    public ulong PacketRateIn { get; init; }
    public ulong PacketRateOut { get; init; }
    public ulong ByteRateIn { get; init; }
    public ulong ByteRateOut { get; init; }
}

/// <summary>A virtual service as the kernel has it.</summary>
public sealed record IpvsServiceState(IpvsService Service, IpvsStatistics Statistics);

/// <summary>A real server as the kernel has it.</summary>
/// <param name="ActiveConnections">TCP: established. UDP has none.</param>
/// <param name="InactiveConnections">All others the kernel still remembers: opening, closing, and every UDP flow.</param>
public sealed record IpvsDestinationState(
    IpvsDestination Destination, uint ActiveConnections, uint InactiveConnections, uint PersistentConnections, IpvsStatistics Statistics)
{
    /// <summary>Connections of any state that still go to this server.</summary>
    public uint Connections => ActiveConnections + InactiveConnections;
}

/// <summary>How long the kernel remembers a silent connection. Zero in a change leaves the value as it is.</summary>
public readonly record struct IpvsTimeouts(TimeSpan Tcp, TimeSpan TcpFin, TimeSpan Udp);

/// <param name="Version">Of the kernel's IPVS.</param>
/// <param name="ConnectionTableSize">Buckets of the connection table.</param>
public sealed record IpvsInfo(Version Version, uint ConnectionTableSize);
