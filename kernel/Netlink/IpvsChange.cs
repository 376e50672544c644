namespace OverlayNet.Kernel.Netlink;

/// <summary>Commands that change something (linux/ip_vs.h: IPVS_CMD_*).</summary>
public enum IpvsCommand : byte
{
    NewService = 1,
    SetService = 2,
    DeleteService = 3,
    NewDestination = 5,
    SetDestination = 6,
    DeleteDestination = 7,
}

/// <summary>One change to the kernel's table; a list of them goes down in one batch.</summary>
public sealed record IpvsChange
{
    private IpvsChange(IpvsCommand command, IpvsServiceKey key, IpvsService? service, IpvsDestination? destination)
    {
        Command = command;
        Key = key;
        Service = service;
        Destination = destination;
    }

    public IpvsCommand Command { get; }
    public IpvsServiceKey Key { get; }

    /// <summary>For new and changed services.</summary>
    public IpvsService? Service { get; }

    /// <summary>For everything about a destination.</summary>
    public IpvsDestination? Destination { get; }

    public static IpvsChange Add(IpvsService service) => new(IpvsCommand.NewService, service.Key, service, null);

    /// <summary>Takes another scheduler, flags or persistence; connections and destinations stay.</summary>
    public static IpvsChange Set(IpvsService service) => new(IpvsCommand.SetService, service.Key, service, null);

    /// <summary>Takes the destinations along.</summary>
    public static IpvsChange Delete(IpvsServiceKey service) => new(IpvsCommand.DeleteService, service, null, null);

    public static IpvsChange Add(IpvsServiceKey service, IpvsDestination destination) => new(IpvsCommand.NewDestination, service, null, destination);

    /// <summary>Takes another weight, forwarding or thresholds; live connections stay.</summary>
    public static IpvsChange Set(IpvsServiceKey service, IpvsDestination destination) => new(IpvsCommand.SetDestination, service, null, destination);

    /// <summary>Live connections end at their next packet where net.ipv4.vs.expire_nodest_conn is set, else they are silently lost.</summary>
    public static IpvsChange Delete(IpvsServiceKey service, IpvsDestination destination) => new(IpvsCommand.DeleteDestination, service, null, destination);

    public override string ToString()
    {
        var verb = Command switch
        {
            IpvsCommand.NewService or IpvsCommand.NewDestination => "add",
            IpvsCommand.SetService or IpvsCommand.SetDestination => "set",
            _ => "delete",
        };
        return Destination is null ? $"{verb} virtual service {Key}" : $"{verb} real server {Destination} of virtual service {Key}";
    }
}
