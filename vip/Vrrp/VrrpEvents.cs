using System.Net;

namespace OverlayNet.Vip.Vrrp;

/// <summary>States of RFC 9568 §6.3. A tracked fault holds a router in <see cref="Initialize"/>.</summary>
public enum VrrpState
{
    Initialize,
    Backup,
    Active,
}

/// <summary>What can happen to a virtual router.</summary>
public abstract record VrrpInput
{
    private VrrpInput()
    {
    }

    /// <summary>The Startup event: the interface is up and the router may take part.</summary>
    public sealed record Startup : VrrpInput;

    /// <summary>The Shutdown event: hand over and leave.</summary>
    public sealed record Shutdown(string Reason) : VrrpInput;

    /// <summary>An advertisement that passed <see cref="VrrpPacket.TryParse"/> and carries this router's VRID.</summary>
    public sealed record Received(VrrpAdvertisement Advertisement) : VrrpInput;

    /// <summary>Time has reached <see cref="VrrpRouter.NextTimer"/>; harmless when it has not.</summary>
    public sealed record TimersDue : VrrpInput;

    /// <summary>Tracking has a new verdict; 0 is a fault: the router must not own the addresses.</summary>
    public sealed record PriorityChanged(int Priority, string Reason) : VrrpInput;

    /// <summary>The interface has another primary address.</summary>
    public sealed record LocalAddressChanged(IPAddress Address) : VrrpInput;

    /// <summary>A reload. State and timers stay: changing a peer's list must not move the addresses.</summary>
    public sealed record Reconfigured(VrrpConfig Config) : VrrpInput;

    /// <summary>The link or a partition healed: neighbours may have learnt another owner meanwhile.</summary>
    public sealed record Healed(string Reason) : VrrpInput;

    /// <summary>Fenced mode: the lease is ours and the gate is open.</summary>
    public sealed record Permit(string Reason) : VrrpInput;

    /// <summary>Fenced mode: the lease is going.</summary>
    /// <param name="Graceful">True while the gate is still open, so that the priority-0 advertisement may be sent.</param>
    public sealed record Revoke(bool Graceful, string Reason) : VrrpInput;

    /// <summary>Unfenced: another member of the sync group became Active, and so does this one.</summary>
    public sealed record GroupBecameActive(string Reason) : VrrpInput;

    /// <summary>Unfenced: another member of the sync group left Active, and so does this one.</summary>
    public sealed record GroupLeftActive(string Reason) : VrrpInput;
}

/// <summary>What a virtual router asks of the world, to be done in order.</summary>
public abstract record VrrpOutput
{
    private VrrpOutput()
    {
    }

    public sealed record SendAdvertisement(byte Priority) : VrrpOutput;

    public sealed record AddAddresses(IReadOnlyList<VirtualAddress> Addresses) : VrrpOutput;

    public sealed record RemoveAddresses(IReadOnlyList<VirtualAddress> Addresses) : VrrpOutput;

    /// <summary>Gratuitous ARP or unsolicited neighbour advertisements, <paramref name="Count"/> per address.</summary>
    public sealed record Announce(int Count) : VrrpOutput;

    public sealed record Transition(VrrpState From, VrrpState To, string Reason) : VrrpOutput;

    /// <summary>Something an operator must mend; never changes the state.</summary>
    public sealed record Alarm(VrrpAlarm Kind, IPAddress Peer, string Detail) : VrrpOutput;
}

/// <summary>What a peer's advertisements can say about the configuration.</summary>
public enum VrrpAlarm
{
    VersionMismatch,
    IntervalMismatch,
    AddressListMismatch,

    /// <summary>Equal priorities: the election falls back to addresses, which nobody chose.</summary>
    EqualPriority,

    /// <summary>Our own address as source: a loop, or a second machine with our address.</summary>
    OwnSourceAddress,

    /// <summary>Two owners (priority 255) of the same addresses.</summary>
    SecondOwner,

    /// <summary>On a fenced VRID someone advertises who does not hold the lease.</summary>
    UnfencedPeer,
}
