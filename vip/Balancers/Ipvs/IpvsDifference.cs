using OverlayNet.Kernel.Netlink;

namespace OverlayNet.Vip.Balancers.Ipvs;

/// <summary>A virtual service as the kernel has it, with its real servers.</summary>
internal sealed record DirectorService(IpvsService Service, IReadOnlyList<IpvsDestinationState> Destinations);

/// <summary>What must change so that the kernel's table becomes the plan. Pure: the clock is given.</summary>
/// <param name="Changes">In the order to be made; the service's name with each (null: of no service we know).</param>
/// <param name="NextDue">When a drain must be looked at again.</param>
internal sealed record IpvsDifference(IReadOnlyList<(IpvsChange Change, string? Service)> Changes, DateTimeOffset? NextDue)
{
    /// <summary>How often a drain is looked at before its deadline: connections end at any time.</summary>
    private static readonly TimeSpan Look = TimeSpan.FromSeconds(2);

    internal static IpvsDifference Between(
        IpvsPlan plan, IReadOnlyDictionary<IpvsServiceKey, DirectorService> kernel, DrainClock drains, DateTimeOffset now)
    {
        // Capacity first, then whatever takes some away.
        List<(IpvsChange, string?)> more = [], less = [];
        DateTimeOffset? due = null;
        foreach (var (key, planned) in plan.Services)
        {
            var name = planned.Owner.Name;
            if (!kernel.TryGetValue(key, out var there))
            {
                more.Add((IpvsChange.Add(planned.Service), name));
                foreach (var (destination, _) in planned.Destinations)
                    more.Add((IpvsChange.Add(key, destination), name));
                continue;
            }
            if (there.Service != planned.Service)
                more.Add((IpvsChange.Set(planned.Service), name));
            Destinations(planned, there, name);
        }
        foreach (var (key, _) in kernel)
        {
            if (!plan.Services.ContainsKey(key))
                less.Add((IpvsChange.Delete(key), null));
        }
        drains.Settle();
        return new IpvsDifference([.. more, .. less], due);

        void Destinations(PlannedService planned, DirectorService there, string name)
        {
            var key = planned.Service.Key;
            var length = TimeSpan.FromSeconds(planned.Owner.DrainSeconds);
            var states = there.Destinations.ToDictionary(state => (state.Destination.Address, state.Destination.Port));
            foreach (var (destination, _) in planned.Destinations)
            {
                states.Remove((destination.Address, destination.Port), out var state);
                if (destination.Weight == 0)
                {
                    // Its flows may go on until the deadline; those that are left then end, and it stays out while its weight is 0.
                    var deadline = drains.Deadline(key, destination.Address, length, now);
                    if (state?.Connections > 0 && now >= deadline)
                        drains.Cut(key, destination.Address);
                    else if (state?.Connections > 0)
                        Due(deadline);
                    if (drains.IsCut(key, destination.Address))
                    {
                        if (state is not null)
                            less.Add((IpvsChange.Delete(key, destination), name));
                        continue;
                    }
                }
                if (state is null)
                    more.Add((IpvsChange.Add(key, destination), name));
                else if (state.Destination != destination)
                    (destination.Weight < state.Destination.Weight ? less : more).Add((IpvsChange.Set(key, destination), name));
            }
            foreach (var state in states.Values)
            {
                var deadline = drains.Deadline(key, state.Destination.Address, length, now);
                if (planned.Protocol == VipPort.Udp || state.Connections == 0 || now >= deadline)
                {
                    less.Add((IpvsChange.Delete(key, state.Destination), name));
                    continue;
                }
                if (state.Destination.Weight != 0)
                    less.Add((IpvsChange.Set(key, state.Destination with { Weight = 0 }), name));
                Due(deadline < now + Look ? deadline : now + Look);
            }
        }

        void Due(DateTimeOffset time) => due = due is { } earlier && earlier < time ? earlier : time;
    }
}
