using System.Net;

namespace OverlayNet.Kernel.Netlink;

/// <summary>IFA_F_* (linux/if_addr.h).</summary>
[Flags]
public enum AddressFlags : uint
{
    None = 0,
    Secondary = 0x1,

    /// <summary>IPv6: usable at once, without duplicate address detection.</summary>
    NoDad = 0x2,
    DadFailed = 0x8,
    Deprecated = 0x20,
    Tentative = 0x40,
    Permanent = 0x80,

    /// <summary>No route to the prefix is made with the address.</summary>
    NoPrefixRoute = 0x200,
}

/// <summary>An address of a link.</summary>
public sealed record LinkAddress
{
    /// <summary>Index of the link.</summary>
    public required int Interface { get; init; }
    public required IPAddress Address { get; init; }

    /// <summary>Bits of the prefix.</summary>
    public required int PrefixLength { get; init; }

    /// <summary>The other end of a point-to-point link (<c>peer</c> in ip-address(8)).</summary>
    public IPAddress? Peer { get; init; }
    public AddressFlags Flags { get; init; }

    /// <summary>RT_SCOPE_*: 0 universe, 253 link, 254 host.</summary>
    public byte Scope { get; init; }

    /// <summary>Who made it, IFAPROT_* or a number of one's own (Linux 5.18; older kernels do not keep it); 0: nobody said.</summary>
    public byte Protocol { get; init; }

    /// <summary>How long the address may be used; null: for ever. The kernel counts whole seconds.</summary>
    public TimeSpan? ValidLifetime { get; init; }

    /// <summary>How long it is preferred as a source; null: for ever.</summary>
    public TimeSpan? PreferredLifetime { get; init; }

    public override string ToString() => $"{Address}/{PrefixLength} on link #{Interface}";
}

/// <summary>Addresses of links by rtnetlink (linux/if_addr.h), both families.</summary>
public sealed class RouteAddresses(NetlinkSocket socket)
{
    private const ushort AttrAddress = 1, AttrLocal = 2, AttrCacheInfo = 6, AttrFlags = 8, AttrProtocol = 11;
    private const uint Forever = uint.MaxValue;

    /// <exception cref="NetlinkException">The kernel refused.</exception>
    public List<LinkAddress> Dump()
    {
        var writer = new NetlinkMessageWriter(stackalloc byte[64]);
        writer.Begin(RouteMessageType.GetAddr, NetlinkFlags.Request);
        writer.Struct(new AddressHeader());
        return socket.Dump(ref writer, Parse, "list addresses");
    }

    /// <exception cref="NetlinkException">The kernel refused; EEXIST when the link has it.</exception>
    public void Add(LinkAddress address) => Adding(address).Send(socket);

    /// <summary>Adds the address, or sets the flags and lifetimes of one that is there.</summary>
    /// <exception cref="NetlinkException">The kernel refused.</exception>
    public void Replace(LinkAddress address) => Replacing(address).Send(socket);

    /// <exception cref="NetlinkException">The kernel refused; EADDRNOTAVAIL when the link has no such address.</exception>
    public void Delete(LinkAddress address) => Deleting(address).Send(socket);

    /// <summary>Deletes an address that may be gone already: its lifetime ended, or the link went with it.</summary>
    /// <exception cref="NetlinkException">The kernel refused for another reason.</exception>
    public void DeleteIfThere(LinkAddress address)
    {
        try
        {
            Delete(address);
        }
        catch (NetlinkException e) when (e.NotFound)
        {
            // As wanted.
        }
    }

    public static RouteRequest Adding(LinkAddress address) => Request("add address", address, RouteMessageType.NewAddr, NetlinkFlags.Create | NetlinkFlags.Exclusive);

    public static RouteRequest Replacing(LinkAddress address) => Request("replace address", address, RouteMessageType.NewAddr, NetlinkFlags.Create | NetlinkFlags.Replace);

    public static RouteRequest Deleting(LinkAddress address) => Request("delete address", address, RouteMessageType.DelAddr, NetlinkFlags.None);

    private static RouteRequest Request(string verb, LinkAddress address, ushort type, NetlinkFlags flags) => new(verb, address, (ref NetlinkMessageWriter writer) =>
    {
        writer.Begin(type, NetlinkFlags.Request | flags);
        writer.Struct(new AddressHeader
        {
            Family = RouteRequest.Family(address.Address),
            PrefixLength = (byte)address.PrefixLength,
            Flags = (byte)address.Flags,
            Scope = address.Scope,
            Index = address.Interface,
        });
        writer.Address(AttrLocal, address.Address);
        writer.Address(AttrAddress, address.Peer ?? address.Address);
        if (type == RouteMessageType.DelAddr)
            return;
        writer.U32(AttrFlags, (uint)address.Flags);
        if (address.Protocol != 0)
            writer.U8(AttrProtocol, address.Protocol);
        if (address.ValidLifetime is not null || address.PreferredLifetime is not null)
        {
            var valid = Seconds(address.ValidLifetime);
            writer.StructAttribute(AttrCacheInfo, new AddressCacheInfo { Valid = valid, Preferred = Math.Min(valid, Seconds(address.PreferredLifetime)) });
        }
    });

    internal static LinkAddress Parse(in NetlinkMessage message)
    {
        var header = message.Header<AddressHeader>();
        IPAddress? address = null, local = null;
        var flags = (AddressFlags)header.Flags;
        byte protocol = 0;
        TimeSpan? valid = null, preferred = null;
        foreach (var attribute in message.Attributes<AddressHeader>())
        {
            switch (attribute.Type)
            {
                case AttrAddress:
                    address = attribute.Address;
                    break;
                case AttrLocal:
                    local = attribute.Address;
                    break;
                case AttrFlags:
                    flags = (AddressFlags)attribute.U32;
                    break;
                case AttrProtocol:
                    protocol = attribute.U8;
                    break;
                case AttrCacheInfo:
                    var info = attribute.Struct<AddressCacheInfo>();
                    valid = info.Valid == Forever ? null : TimeSpan.FromSeconds(info.Valid);
                    preferred = info.Preferred == Forever ? null : TimeSpan.FromSeconds(info.Preferred);
                    break;
            }
        }
        return new LinkAddress
        {
            Interface = header.Index,
            // IPv6 sends IFA_LOCAL only for point-to-point addresses; IPv4 always.
            Address = local ?? address ?? throw new InvalidDataException("an address message of the kernel carries no address"),
            PrefixLength = header.PrefixLength,
            Peer = local is not null && address is not null && !local.Equals(address) ? address : null,
            Flags = flags,
            Scope = header.Scope,
            Protocol = protocol,
            ValidLifetime = valid,
            PreferredLifetime = preferred,
        };
    }

    private static uint Seconds(TimeSpan? time) => time is { } known ? (uint)Math.Clamp(Math.Ceiling(known.TotalSeconds), 0, Forever - 1) : Forever;
}
