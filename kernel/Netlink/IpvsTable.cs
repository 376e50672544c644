namespace OverlayNet.Kernel.Netlink;

/// <summary>
/// The table of the kernel's load balancer (generic netlink family IPVS). There is one in each network namespace; this is that of
/// the socket. Not thread-safe: one user at a time.
/// </summary>
public sealed class IpvsTable : IDisposable
{
    private readonly NetlinkSocket socket;
    private readonly ushort family;

    private IpvsTable(NetlinkSocket socket, ushort family)
    {
        this.socket = socket;
        this.family = family;
    }

    /// <summary>Opens the table of a namespace (null: the calling thread's). Asking loads the module <c>ip_vs</c> where there is one.</summary>
    /// <returns>Null when this kernel has no IPVS.</returns>
    /// <exception cref="KernelException">What the kernel said when the socket was opened.</exception>
    public static IpvsTable? TryOpen(NetworkNamespace? netns = null)
    {
        var socket = NetlinkSocket.Open(NetlinkProtocol.Generic, netns);
        var opened = TryOpen(socket);
        if (opened is null)
            socket.Dispose();
        return opened;
    }

    /// <summary>As <see cref="TryOpen(NetworkNamespace?)"/> over a socket that this object owns from then on when it is not null.</summary>
    public static IpvsTable? TryOpen(NetlinkSocket socket) =>
        GenericNetlink.Resolve(socket, IpvsMessages.FamilyName) is { } resolved ? new IpvsTable(socket, resolved.Id) : null;

    /// <summary>Version and size of the connection table.</summary>
    public IpvsInfo Info()
    {
        var writer = new NetlinkMessageWriter(stackalloc byte[64]);
        IpvsMessages.WriteQuery(ref writer, family, IpvsMessages.CommandGetInfo);
        return socket.Get(ref writer, IpvsMessages.ParseInfo, "IPVS info");
    }

    /// <summary>Every virtual service, in no order.</summary>
    /// <exception cref="NetlinkException">The kernel refused.</exception>
    public IReadOnlyList<IpvsServiceState> Services()
    {
        var writer = new NetlinkMessageWriter(stackalloc byte[64]);
        IpvsMessages.WriteQuery(ref writer, family, IpvsMessages.CommandGetService);
        return socket.Dump(ref writer, IpvsMessages.ParseService, "list virtual services");
    }

    /// <returns>The service, or null when there is none by that key.</returns>
    public IpvsServiceState? Service(IpvsServiceKey key)
    {
        var writer = new NetlinkMessageWriter(stackalloc byte[128]);
        IpvsMessages.WriteQuery(ref writer, family, IpvsMessages.CommandGetService, key);
        try
        {
            return socket.Get(ref writer, IpvsMessages.ParseService, $"virtual service {key}");
        }
        catch (NetlinkException e) when (e.NotFound)
        {
            return null;
        }
    }

    /// <summary>The real servers of a service; none when there is no such service.</summary>
    /// <exception cref="NetlinkException">The kernel refused.</exception>
    public IReadOnlyList<IpvsDestinationState> Destinations(IpvsServiceKey service)
    {
        var writer = new NetlinkMessageWriter(stackalloc byte[128]);
        IpvsMessages.WriteQuery(ref writer, family, IpvsMessages.CommandGetDestination, service);
        return socket.Dump(ref writer, (in NetlinkMessage message) => IpvsMessages.ParseDestination(message, service.Family),
            $"list real servers of virtual service {service}");
    }

    /// <summary>Sends all changes, many in flight at a time. Each is applied or refused on its own; the order is kept.</summary>
    /// <returns>One result a change.</returns>
    public IReadOnlyList<NetlinkResult> Batch(IReadOnlyList<IpvsChange> changes)
    {
        if (changes.Count == 0)
            return [];
        var writer = new NetlinkMessageWriter(stackalloc byte[1024]);
        try
        {
            foreach (var change in changes)
                IpvsMessages.Write(ref writer, family, change);
            return socket.Batch(ref writer);
        }
        finally
        {
            writer.Dispose();
        }
    }

    /// <summary>Makes one change.</summary>
    /// <exception cref="NetlinkException">The kernel refused.</exception>
    public void Apply(IpvsChange change)
    {
        var writer = new NetlinkMessageWriter(stackalloc byte[256]);
        IpvsMessages.Write(ref writer, family, change);
        socket.Request(ref writer, change.ToString());
    }

    /// <summary>Sets a service's counters, or all, to zero.</summary>
    /// <exception cref="NetlinkException">The kernel refused: no such service.</exception>
    public void Zero(IpvsServiceKey? service = null)
    {
        var writer = new NetlinkMessageWriter(stackalloc byte[128]);
        IpvsMessages.WriteQuery(ref writer, family, IpvsMessages.CommandZero, service);
        socket.Request(ref writer, service is { } key ? $"zero virtual service {key}" : "zero all virtual services");
    }

    /// <summary>The namespace's timeouts.</summary>
    public IpvsTimeouts Timeouts()
    {
        var writer = new NetlinkMessageWriter(stackalloc byte[64]);
        IpvsMessages.WriteQuery(ref writer, family, IpvsMessages.CommandGetConfig);
        return socket.Get(ref writer, IpvsMessages.ParseTimeouts, "IPVS timeouts");
    }

    /// <summary>Sets the timeouts that are not zero, in whole seconds, for connections that change state from then on.</summary>
    /// <exception cref="NetlinkException">The kernel refused.</exception>
    public void SetTimeouts(IpvsTimeouts timeouts)
    {
        var writer = new NetlinkMessageWriter(stackalloc byte[64]);
        IpvsMessages.WriteTimeouts(ref writer, family, timeouts);
        socket.Request(ref writer, "set IPVS timeouts");
    }

    public void Dispose() => socket.Dispose();
}
