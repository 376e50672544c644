namespace OverlayNet.Kernel.Netlink;

/// <summary>What to listen to.</summary>
[Flags]
public enum RouteGroups
{
    None = 0,
    Links = 1,
    Neighbours = 2,
    Addresses = 4,
    Routes = 8,
    All = Links | Neighbours | Addresses | Routes,
}

/// <summary>One thing that changed in a namespace's network configuration.</summary>
/// <param name="Removed">True when it went away, false when it is new or changed.</param>
/// <param name="Subject">A <see cref="Link"/>, <see cref="LinkAddress"/>, <see cref="Neighbour"/>, <see cref="FdbEntry"/> or <see cref="Route"/>.</param>
public sealed record RouteNotification(bool Removed, object Subject);

/// <summary>
/// Listens to the changes of one namespace on a thread of its own. Its socket keeps that namespace alive:
/// never point it at a container's.
/// </summary>
public sealed class NetlinkMonitor : IDisposable
{
    // RTNLGRP_* (linux/rtnetlink.h).
    private const uint GroupLink = 1, GroupNeighbour = 3, GroupAddress4 = 5, GroupRoute4 = 7, GroupAddress6 = 9, GroupRoute6 = 11;
    private readonly NetlinkSocket socket;
    private readonly Action<RouteNotification> changed;
    private readonly Action resync;
    private readonly Thread thread;
    private bool disposed;

    /// <summary>Starts listening; what changes after this returns is heard.</summary>
    /// <param name="netns">The namespace; null: the calling thread's.</param>
    /// <param name="changed">Called for every change, on the monitor's thread.</param>
    /// <param name="resync">Called when changes were lost (or could not be read): look at everything again.</param>
    /// <exception cref="KernelException">The socket could not be made.</exception>
    public NetlinkMonitor(NetworkNamespace? netns, RouteGroups groups, Action<RouteNotification> changed, Action resync)
        : this(NetlinkSocket.Open(NetlinkProtocol.Route, netns), groups, changed, resync)
    {
    }

    internal NetlinkMonitor(NetlinkSocket socket, RouteGroups groups, Action<RouteNotification> changed, Action resync)
    {
        this.socket = socket;
        this.changed = changed;
        this.resync = resync;
        try
        {
            if (groups.HasFlag(RouteGroups.Links))
                socket.Join(GroupLink);
            if (groups.HasFlag(RouteGroups.Neighbours))
                socket.Join(GroupNeighbour);
            if (groups.HasFlag(RouteGroups.Addresses))
            {
                socket.Join(GroupAddress4);
                socket.Join(GroupAddress6);
            }
            if (groups.HasFlag(RouteGroups.Routes))
            {
                socket.Join(GroupRoute4);
                socket.Join(GroupRoute6);
            }
        }
        catch
        {
            socket.Dispose();
            throw;
        }
        thread = new Thread(Listen) { IsBackground = true, Name = "netlink monitor" };
        thread.Start();
    }

    /// <summary>Stops listening; no callback runs after it returns (unless it is called from one).</summary>
    public void Dispose()
    {
        if (disposed)
            return;
        disposed = true;
        socket.Stop();
        if (thread != Thread.CurrentThread)
            thread.Join();
        socket.Dispose();
    }

    private void Listen()
    {
        while (true)
        {
            try
            {
                if (!socket.ReceiveNotifications(Handle))
                    return;
            }
            catch (Exception e) when (e is NetlinkOverrunException or InvalidDataException)
            {
                NetlinkMetrics.Overruns.Add(1);
                resync();
            }
            catch (KernelException) when (disposed)
            {
                return;
            }
        }
    }

    private void Handle(in NetlinkMessage message)
    {
        if (Parse(message) is { } notification)
            changed(notification);
    }

    internal static RouteNotification? Parse(in NetlinkMessage message) => message.Type switch
    {
        // A port that leaves its bridge is announced as an AF_BRIDGE link deletion: the link itself lives on.
        RouteMessageType.NewLink or RouteMessageType.DelLink => new RouteNotification(
            message.Type == RouteMessageType.DelLink && message.Header<LinkHeader>().Family == Libc.AF_UNSPEC, RouteLinkCodec.Parse(message)),
        RouteMessageType.NewAddr or RouteMessageType.DelAddr => new RouteNotification(message.Type == RouteMessageType.DelAddr, RouteAddresses.Parse(message)),
        RouteMessageType.NewNeigh or RouteMessageType.DelNeigh => new RouteNotification(
            message.Type == RouteMessageType.DelNeigh,
            message.Header<NeighbourHeader>().Family == Libc.AF_BRIDGE ? RouteFdb.Parse(message) : RouteNeighbours.Parse(message)),
        RouteMessageType.NewRoute or RouteMessageType.DelRoute => new RouteNotification(message.Type == RouteMessageType.DelRoute, RouteRoutes.Parse(message)),
        _ => null,
    };
}
