using System.Buffers.Binary;
using System.Net;
using System.Net.Sockets;
using System.Numerics;

namespace OverlayNet.Kernel.Netlink;

/// <summary>The wire form of family IPVS (linux/ip_vs.h): what goes into a message, and what is read out of one.</summary>
internal static class IpvsMessages
{
    internal const string FamilyName = "IPVS";
    internal const byte Version = 1;

    internal const byte CommandGetService = 4, CommandGetDestination = 8, CommandSetConfig = 12, CommandGetConfig = 13,
        CommandGetInfo = 15, CommandZero = 16;

    // IPVS_CMD_ATTR_*
    private const ushort AttrService = 1, AttrDestination = 2, AttrTimeoutTcp = 4, AttrTimeoutTcpFin = 5, AttrTimeoutUdp = 6;

    // IPVS_SVC_ATTR_*
    private const ushort ServiceFamily = 1, ServiceProtocol = 2, ServiceAddress = 3, ServicePort = 4, ServiceMark = 5, ServiceScheduler = 6,
        ServiceFlags = 7, ServiceTimeout = 8, ServiceNetmask = 9, ServiceStats = 10, ServiceEngine = 11, ServiceStats64 = 12;

    // IPVS_DEST_ATTR_*
    private const ushort DestinationAddress = 1, DestinationPort = 2, DestinationForwarding = 3, DestinationWeight = 4, DestinationUpper = 5,
        DestinationLower = 6, DestinationActive = 7, DestinationInactive = 8, DestinationPersistent = 9, DestinationStats = 10,
        DestinationFamily = 11, DestinationStats64 = 12, DestinationTunnelType = 13, DestinationTunnelPort = 14, DestinationTunnelFlags = 15;

    // IPVS_STATS_ATTR_*
    private const ushort StatsConnections = 1, StatsPacketsIn = 2, StatsPacketsOut = 3, StatsBytesIn = 4, StatsBytesOut = 5,
        StatsConnectionRate = 6, StatsPacketRateIn = 7, StatsPacketRateOut = 8, StatsByteRateIn = 9, StatsByteRateOut = 10;

    // IPVS_INFO_ATTR_*
    private const ushort InfoVersion = 1, InfoTableSize = 2;

    private const int AddressLength = 16;

    /// <summary>struct ip_vs_flags: only the bits in the mask are taken over.</summary>
    private readonly record struct Flags(uint Value, uint Mask);

    internal static void Write(ref NetlinkMessageWriter writer, ushort family, IpvsChange change)
    {
        Begin(ref writer, family, (byte)change.Command);
        WriteService(ref writer, change.Key, change.Service);
        if (change.Destination is not null)
            WriteDestination(ref writer, change.Destination, change.Command != IpvsCommand.DeleteDestination);
    }

    internal static void WriteQuery(ref NetlinkMessageWriter writer, ushort family, byte command, IpvsServiceKey? service = null)
    {
        Begin(ref writer, family, command);
        if (service is { } key)
            WriteService(ref writer, key, null);
    }

    internal static void WriteTimeouts(ref NetlinkMessageWriter writer, ushort family, IpvsTimeouts timeouts)
    {
        Begin(ref writer, family, CommandSetConfig);
        WriteSeconds(ref writer, AttrTimeoutTcp, timeouts.Tcp);
        WriteSeconds(ref writer, AttrTimeoutTcpFin, timeouts.TcpFin);
        WriteSeconds(ref writer, AttrTimeoutUdp, timeouts.Udp);
    }

    internal static IpvsServiceState ParseService(in NetlinkMessage message)
    {
        var family = AddressFamily.InterNetwork;
        byte protocol = 0;
        scoped ReadOnlySpan<byte> address = [], netmask = [];
        ushort port = 0;
        uint mark = 0, timeout = 0;
        var flags = IpvsServiceFlags.None;
        var scheduler = "";
        string? engine = null;
        var statistics = new Statistics();
        foreach (var attribute in Nest(message, AttrService))
        {
            switch (attribute.Type)
            {
                case ServiceFamily: family = Family(attribute.U16); break;
                case ServiceProtocol: protocol = (byte)attribute.U16; break;
                case ServiceAddress: address = attribute.Payload; break;
                case ServicePort: port = attribute.U16BigEndian; break;
                case ServiceMark: mark = attribute.U32; break;
                case ServiceScheduler: scheduler = attribute.String; break;
                case ServiceFlags: flags = (IpvsServiceFlags)attribute.Struct<Flags>().Value; break;
                case ServiceTimeout: timeout = attribute.U32; break;
                case ServiceNetmask: netmask = attribute.Payload; break;
                case ServiceEngine: engine = attribute.String; break;
                case ServiceStats: statistics.Read(attribute.Nested, wide: false); break;
                case ServiceStats64: statistics.Read(attribute.Nested, wide: true); break;
            }
        }
        var persistent = (flags & IpvsServiceFlags.Persistent) != 0;
        return new IpvsServiceState(new IpvsService
        {
            Key = mark != 0 ? IpvsServiceKey.OfMark(family, mark) : IpvsServiceKey.Of(protocol, ReadAddress(family, address), port),
            Scheduler = scheduler,
            Flags = flags & ~IpvsServiceFlags.Hashed,
            PersistenceSeconds = persistent ? (int)timeout : 0,
            PersistencePrefix = persistent ? ReadPrefix(family, netmask) : null,
            PersistenceEngine = engine,
        }, statistics.Value);
    }

    /// <param name="serviceFamily">Of the service asked about: kernels before 3.18 do not send the destination's own.</param>
    internal static IpvsDestinationState ParseDestination(in NetlinkMessage message, AddressFamily serviceFamily)
    {
        var family = serviceFamily;
        scoped ReadOnlySpan<byte> address = [];
        ushort port = 0, tunnelPort = 0, tunnelFlags = 0;
        uint forwarding = 0, weight = 0, upper = 0, lower = 0, active = 0, inactive = 0, persistent = 0;
        byte tunnelType = 0;
        var statistics = new Statistics();
        foreach (var attribute in Nest(message, AttrDestination))
        {
            switch (attribute.Type)
            {
                case DestinationFamily: family = Family(attribute.U16); break;
                case DestinationAddress: address = attribute.Payload; break;
                case DestinationPort: port = attribute.U16BigEndian; break;
                case DestinationForwarding: forwarding = attribute.U32; break;
                case DestinationWeight: weight = attribute.U32; break;
                case DestinationUpper: upper = attribute.U32; break;
                case DestinationLower: lower = attribute.U32; break;
                case DestinationActive: active = attribute.U32; break;
                case DestinationInactive: inactive = attribute.U32; break;
                case DestinationPersistent: persistent = attribute.U32; break;
                case DestinationTunnelType: tunnelType = attribute.U8; break;
                case DestinationTunnelPort: tunnelPort = attribute.U16BigEndian; break;
                case DestinationTunnelFlags: tunnelFlags = attribute.U16; break;
                case DestinationStats: statistics.Read(attribute.Nested, wide: false); break;
                case DestinationStats64: statistics.Read(attribute.Nested, wide: true); break;
            }
        }
        return new IpvsDestinationState(new IpvsDestination
        {
            Address = ReadAddress(family, address),
            Port = port,
            Forwarding = (IpvsForwarding)(forwarding & 7),
            Weight = (int)weight,
            UpperThreshold = upper,
            LowerThreshold = lower,
            TunnelType = (IpvsTunnel)tunnelType,
            TunnelPort = tunnelPort,
            TunnelFlags = tunnelFlags,
        }, active, inactive, persistent, statistics.Value);
    }

    internal static IpvsTimeouts ParseTimeouts(in NetlinkMessage message)
    {
        uint tcp = 0, fin = 0, udp = 0;
        foreach (var attribute in message.Attributes<GenericHeader>())
        {
            switch (attribute.Type)
            {
                case AttrTimeoutTcp: tcp = attribute.U32; break;
                case AttrTimeoutTcpFin: fin = attribute.U32; break;
                case AttrTimeoutUdp: udp = attribute.U32; break;
            }
        }
        return new IpvsTimeouts(TimeSpan.FromSeconds(tcp), TimeSpan.FromSeconds(fin), TimeSpan.FromSeconds(udp));
    }

    internal static IpvsInfo ParseInfo(in NetlinkMessage message)
    {
        uint version = 0, size = 0;
        foreach (var attribute in message.Attributes<GenericHeader>())
        {
            if (attribute.Type == InfoVersion)
                version = attribute.U32;
            else if (attribute.Type == InfoTableSize)
                size = attribute.U32;
        }
        return new IpvsInfo(new Version((int)(version >> 16 & 0xff), (int)(version >> 8 & 0xff), (int)(version & 0xff)), size);
    }

    private static void Begin(ref NetlinkMessageWriter writer, ushort family, byte command)
    {
        writer.Begin(family, NetlinkFlags.Request);
        writer.Struct(new GenericHeader(command, Version));
    }

    private static void WriteService(ref NetlinkMessageWriter writer, IpvsServiceKey key, IpvsService? service)
    {
        var nest = writer.BeginNest(AttrService);
        writer.U16(ServiceFamily, Family(key.Family));
        if (key.Address is null)
        {
            writer.U32(ServiceMark, key.Mark);
        }
        else
        {
            writer.U16(ServiceProtocol, key.Protocol);
            WriteAddress(ref writer, ServiceAddress, key.Address);
            writer.U16BigEndian(ServicePort, key.Port);
        }
        if (service is not null)
        {
            writer.String(ServiceScheduler, service.Scheduler);
            if (service.PersistenceEngine is not null)
                writer.String(ServiceEngine, service.PersistenceEngine);
            writer.StructAttribute(ServiceFlags, new Flags((uint)service.Flags, ~(uint)IpvsServiceFlags.Hashed));
            writer.U32(ServiceTimeout, (uint)service.PersistenceSeconds);
            WritePrefix(ref writer, key.Family, service.PersistencePrefix);
        }
        writer.EndNest(nest);
    }

    private static void WriteDestination(ref NetlinkMessageWriter writer, IpvsDestination destination, bool whole)
    {
        var nest = writer.BeginNest(AttrDestination);
        writer.U16(DestinationFamily, Family(destination.Address.AddressFamily));
        WriteAddress(ref writer, DestinationAddress, destination.Address);
        writer.U16BigEndian(DestinationPort, destination.Port);
        if (whole)
        {
            writer.U32(DestinationForwarding, (uint)destination.Forwarding);
            writer.I32(DestinationWeight, destination.Weight);
            writer.U32(DestinationUpper, destination.UpperThreshold);
            writer.U32(DestinationLower, destination.LowerThreshold);
            if (destination.Forwarding == IpvsForwarding.Tunnel)
            {
                writer.U8(DestinationTunnelType, (byte)destination.TunnelType);
                writer.U16BigEndian(DestinationTunnelPort, destination.TunnelPort);
                writer.U16(DestinationTunnelFlags, destination.TunnelFlags);
            }
        }
        writer.EndNest(nest);
    }

    private static void WriteSeconds(ref NetlinkMessageWriter writer, ushort type, TimeSpan value)
    {
        if (value > TimeSpan.Zero)
            writer.U32(type, (uint)Math.Ceiling(value.TotalSeconds));
    }

    /// <summary>union nf_inet_addr: 16 octets, of which IPv4 uses the first four.</summary>
    private static void WriteAddress(ref NetlinkMessageWriter writer, ushort type, IPAddress address)
    {
        Span<byte> octets = stackalloc byte[AddressLength];
        octets.Clear();
        address.TryWriteBytes(octets, out _);
        writer.Attribute(type, octets);
    }

    private static IPAddress ReadAddress(AddressFamily family, ReadOnlySpan<byte> octets)
    {
        var length = family == AddressFamily.InterNetworkV6 ? AddressLength : 4;
        return octets.Length >= length
            ? new IPAddress(octets[..length])
            : throw new InvalidDataException($"IPVS sent an address of {octets.Length} octets; {length} are needed");
    }

    /// <summary>The kernel keeps an IPv4 mask in network byte order, but an IPv6 prefix length in host byte order.</summary>
    private static void WritePrefix(ref NetlinkMessageWriter writer, AddressFamily family, int? prefix)
    {
        if (family == AddressFamily.InterNetworkV6)
            writer.U32(ServiceNetmask, (uint)(prefix ?? 128));
        else
            writer.U32BigEndian(ServiceNetmask, prefix is 0 ? 0 : ~0u << 32 - (prefix ?? 32));
    }

    private static int? ReadPrefix(AddressFamily family, ReadOnlySpan<byte> netmask)
    {
        if (netmask.Length < sizeof(uint))
            return null;
        if (family == AddressFamily.InterNetworkV6)
            return BitConverter.ToUInt32(netmask) is var prefix and < 128 ? (int)prefix : null;
        return BitOperations.LeadingZeroCount(~BinaryPrimitives.ReadUInt32BigEndian(netmask)) is var bits and < 32 ? bits : null;
    }

    private static NetlinkAttributes Nest(in NetlinkMessage message, ushort type)
    {
        foreach (var attribute in message.Attributes<GenericHeader>())
        {
            if (attribute.Type == type)
                return attribute.Nested;
        }
        throw new InvalidDataException($"IPVS answered without attribute {type}");
    }

    private static ushort Family(AddressFamily family) => family == AddressFamily.InterNetworkV6 ? (ushort)Libc.AF_INET6 : (ushort)Libc.AF_INET;

    private static AddressFamily Family(ushort family) => family switch
    {
        Libc.AF_INET => AddressFamily.InterNetwork,
        Libc.AF_INET6 => AddressFamily.InterNetworkV6,
        _ => throw new InvalidDataException($"IPVS sent address family {family}"),
    };

    /// <summary>Newer kernels send the counters twice; the 64-bit ones win over those that wrap at 32 bits.</summary>
    private ref struct Statistics
    {
        private bool haveWide;

        internal IpvsStatistics Value { get; private set; }

        internal void Read(scoped NetlinkAttributes attributes, bool wide)
        {
            if (haveWide && !wide)
                return;
            haveWide = wide;
            foreach (var attribute in attributes)
            {
                // The old form mixes widths: octet counters have 64 bits, all others 32.
                if (attribute.Payload.Length < sizeof(uint))
                    continue;
                ulong value = attribute.Payload.Length >= sizeof(ulong) ? attribute.U64 : attribute.U32;
                Value = attribute.Type switch
                {
                    StatsConnections => Value with { Connections = value },
                    StatsPacketsIn => Value with { PacketsIn = value },
                    StatsPacketsOut => Value with { PacketsOut = value },
                    StatsBytesIn => Value with { BytesIn = value },
                    StatsBytesOut => Value with { BytesOut = value },
                    StatsConnectionRate => Value with { ConnectionRate = value },
                    StatsPacketRateIn => Value with { PacketRateIn = value },
                    StatsPacketRateOut => Value with { PacketRateOut = value },
                    StatsByteRateIn => Value with { ByteRateIn = value },
                    StatsByteRateOut => Value with { ByteRateOut = value },
                    _ => Value,
                };
            }
        }
    }
}
