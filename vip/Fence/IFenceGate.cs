namespace OverlayNet.Vip.Fence;

/// <summary>The kernel's hand on a VIP set: what answers for it does so only before the deadline.</summary>
public interface IFenceGate : IDisposable
{
    /// <summary>Which gate, for status output.</summary>
    string Name { get; }

    /// <summary>
    /// Sets the absolute moment, on the boot-time clock, from which nothing passes; zero or less: shut now;
    /// <see cref="TimeSpan.MaxValue"/>: open (unfenced). The kernel keeps to it whatever becomes of this process.
    /// </summary>
    /// <exception cref="Kernel.KernelException">The kernel refused: the gate is where it was.</exception>
    void SetDeadline(TimeSpan bootTime);

    /// <summary>Takes the gate away: for a VIP set that is no longer fenced on this node.</summary>
    void Remove();
}

/// <summary>What a gate has to keep: whose traffic, and where announcements go out.</summary>
public sealed record FenceGateConfig
{
    /// <summary>Names kernel objects; letters, digits and dashes, at most 40.</summary>
    public required string Name { get; init; }
    /// <summary>Where the virtual routers run and announcements go out; everything else is kept on every interface.</summary>
    public required IReadOnlyList<string> Interfaces { get; init; }
    public required IReadOnlyList<System.Net.IPAddress> Addresses { get; init; }

    /// <summary>VRIDs whose advertisements must not leave.</summary>
    public required IReadOnlyList<byte> VirtualRouterIds { get; init; }
}

/// <summary>Several gates as one: a packet passes only where all are open.</summary>
public sealed class CombinedGate(params IReadOnlyList<IFenceGate> gates) : IFenceGate
{
    public string Name => string.Join(" + ", gates.Select(g => g.Name));

    public void SetDeadline(TimeSpan bootTime)
    {
        foreach (var gate in gates)
            gate.SetDeadline(bootTime);
    }

    public void Remove()
    {
        foreach (var gate in gates)
            gate.Remove();
    }

    public void Dispose()
    {
        foreach (var gate in gates)
            gate.Dispose();
    }
}
