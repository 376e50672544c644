namespace OverlayNet.Kernel.Netlink;

/// <summary>Network interfaces by rtnetlink (linux/if_link.h), in the namespace of the socket.</summary>
public sealed class RouteLinks(NetlinkSocket socket)
{
    /// <summary>All links, with the settings of bridges, bridge ports and VXLAN devices.</summary>
    /// <exception cref="NetlinkException">The kernel refused.</exception>
    public List<Link> Dump()
    {
        var writer = new NetlinkMessageWriter(stackalloc byte[64]);
        writer.Begin(RouteMessageType.GetLink, NetlinkFlags.Request);
        writer.Struct(new LinkHeader());
        return socket.Dump(ref writer, RouteLinkCodec.Parse, "list links");
    }

    /// <summary>The link of a name that must be there.</summary>
    /// <exception cref="KernelException">ENODEV: there is none; or any other refusal.</exception>
    public Link Require(string name) => Get(name) ?? throw new KernelException($"interface {name}", Libc.ENODEV, "there is no such interface");

    /// <returns>The link, or null when there is none of that name or index.</returns>
    /// <exception cref="NetlinkException">Any other refusal.</exception>
    public Link? Get(LinkRef link)
    {
        var writer = new NetlinkMessageWriter(stackalloc byte[128]);
        writer.Begin(RouteMessageType.GetLink, NetlinkFlags.Request);
        writer.Struct(new LinkHeader { Index = link.Index });
        if (link.Name is not null)
            writer.String(RouteLinkCodec.IfName, link.Name);
        try
        {
            return socket.Get(ref writer, RouteLinkCodec.Parse, $"link {link}");
        }
        catch (NetlinkException e) when (e.NotFound)
        {
            return null;
        }
    }

    /// <exception cref="NetlinkException">The kernel refused; EEXIST when the name is taken.</exception>
    public void Add(LinkSpec spec) => Adding(spec).Send(socket);

    /// <inheritdoc cref="Changing"/>
    /// <exception cref="NetlinkException">The kernel refused.</exception>
    public void Set(LinkRef link, LinkChange change) => Changing(link, change).Send(socket);

    /// <exception cref="NetlinkException">The kernel refused.</exception>
    public void Delete(LinkRef link) => Deleting(link).Send(socket);

    /// <summary>
    /// This namespace's number for another one (RTM_GETNSID), as <see cref="Link.LinkNetnsId"/> uses it.
    /// </summary>
    /// <returns>Null when none is assigned: then no link here refers to that namespace.</returns>
    /// <exception cref="NetlinkException">The kernel refused.</exception>
    public int? NetnsId(NetworkNamespace other)
    {
        var writer = new NetlinkMessageWriter(stackalloc byte[64]);
        writer.Begin(RouteMessageType.GetNsId, NetlinkFlags.Request);
        writer.Struct(new GenericRouteHeader());
        writer.U32(3, (uint)other.Fd); // NETNSA_FD
        return socket.Get(ref writer, static (in NetlinkMessage message) =>
        {
            foreach (var attribute in message.Attributes<GenericRouteHeader>())
            {
                if (attribute.Type == 1 && attribute.I32 >= 0) // NETNSA_NSID; -1: not assigned
                    return (int?)attribute.I32;
            }
            return null;
        }, $"number of network namespace {other.Path}");
    }

    public static RouteRequest Adding(LinkSpec spec) => new("add", spec, (ref NetlinkMessageWriter writer) => RouteLinkCodec.WriteAdd(ref writer, spec));

    /// <summary>
    /// Changes a link. Port settings need the link to be a port already: in a batch, join the bridge in one change
    /// and set the port in the next (the kernel looks at the master before it sets a new one).
    /// </summary>
    public static RouteRequest Changing(LinkRef link, LinkChange change) =>
        new("change link", link, (ref NetlinkMessageWriter writer) => RouteLinkCodec.WriteChange(ref writer, link, change));

    public static RouteRequest Deleting(LinkRef link) => new("delete link", link, (ref NetlinkMessageWriter writer) =>
    {
        writer.Begin(RouteMessageType.DelLink, NetlinkFlags.Request);
        writer.Struct(new LinkHeader { Index = link.Index });
        if (link.Name is not null)
            writer.String(RouteLinkCodec.IfName, link.Name);
    });
}
