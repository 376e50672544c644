using OverlayNet.Kernel;

namespace OverlayNet.Vip.Balancers.Ipvs;

/// <summary>Collects what one pass over the node did and could not do.</summary>
/// <param name="write">False: look only.</param>
internal sealed class Findings(bool write, DateTimeOffset now)
{
    private readonly List<VipChange> changes = [];
    private readonly List<VipError> errors = [];

    internal bool Write { get; } = write;
    internal DateTimeOffset Now { get; } = now;
    internal DateTimeOffset? NextDue { get; private set; }

    internal void Changed(VipNetwork network, string where, string what, bool mended = false) =>
        changes.Add(new VipChange(BalancerNames.Ipvs, network.Name, where, what, mended));

    internal void Failed(VipNetwork network, string? service, string where, string message, bool gone = false) =>
        errors.Add(new VipError(BalancerNames.Ipvs, network.Name, service, where, message, gone));

    internal void Due(DateTimeOffset? time)
    {
        if (time is { } next && (NextDue is null || next < NextDue))
            NextDue = next;
    }

    /// <summary>Runs the work on one namespace: its failure is reported and stops nothing else.</summary>
    internal void Guard(VipNetwork network, string where, Action work)
    {
        try
        {
            work();
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // ENOENT: no such path; EINVAL: a named namespace whose mount has gone.
            var gone = e is KernelException { Errno: 2 or 22 } kernel && kernel.What.StartsWith("network namespace ", StringComparison.Ordinal);
            Failed(network, null, where, e.Message, gone);
        }
    }

    internal BalancerReport Report() => new() { Changes = changes, Errors = errors, NextDue = NextDue };
}
