using System.Collections.Immutable;

namespace OverlayNet.Vip.Vrrp;

/// <summary>
/// Virtual routers that are Active together or not at all (a service's IPv4 and IPv6 address, the two sides of a
/// gateway). One member's fault is every member's fault.
/// </summary>
public static class VrrpSyncGroup
{
    /// <summary>
    /// Gives one member an input and carries its consequences to the others until nothing changes.
    /// </summary>
    /// <returns>All members and, in order, who asks for what.</returns>
    public static (ImmutableArray<VrrpRouter> Members, ImmutableArray<(int Member, VrrpOutput Output)> Outputs) Step(
        ImmutableArray<VrrpRouter> members, int member, TimeSpan now, VrrpInput input)
    {
        var outputs = ImmutableArray.CreateBuilder<(int, VrrpOutput)>();
        var pending = new Queue<(int Member, VrrpInput Input)>();
        pending.Enqueue((member, input));
        while (pending.TryDequeue(out var next))
        {
            // A member may not become Active while another is at fault: it goes on waiting instead.
            var blocked = members.Any(m => m is { State: VrrpState.Initialize });
            var before = members[next.Member];
            var (after, said) = VrrpStateMachine.Step(before, now, next.Input);
            if (blocked && before.State == VrrpState.Backup && after.State == VrrpState.Active)
            {
                members = members.SetItem(next.Member, Wait(before, now));
                continue;
            }

            members = members.SetItem(next.Member, after);
            foreach (var output in said)
            {
                outputs.Add((next.Member, output));
                if (output is VrrpOutput.Transition transition && Consequence(before, transition) is { } consequence)
                    for (var other = 0; other < members.Length; other++)
                        if (other != next.Member)
                            pending.Enqueue((other, consequence));
            }
        }

        return (members, outputs.ToImmutable());
    }

    private static VrrpInput? Consequence(VrrpRouter router, VrrpOutput.Transition transition) => transition switch
    {
        { To: VrrpState.Active } => new VrrpInput.GroupBecameActive($"with VRID {router.Config.VirtualRouterId} of its group"),
        { From: VrrpState.Active } => new VrrpInput.GroupLeftActive($"with VRID {router.Config.VirtualRouterId} of its group: {transition.Reason}"),
        _ => null,
    };

    private static VrrpRouter Wait(VrrpRouter router, TimeSpan now) => router with
    {
        ActiveDownTimer = now + VrrpTimers.ActiveDownInterval(router.Config.Version, router.Priority, router.ActiveAdverIntervalCs),
    };
}
