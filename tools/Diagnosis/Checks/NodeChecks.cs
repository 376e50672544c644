using System.Globalization;
using OverlayNet.Contracts;

namespace OverlayNet.Tools.Diagnosis.Checks;

/// <summary>Other nodes, as the daemon's status has them: silent, behind, with another clock. Pure.</summary>
internal static class NodeChecks
{
    /// <summary>Five heartbeats.</summary>
    private const double SilentSeconds = 5;

    /// <summary>Leases and certificates bear less than this; logs are hard to read above it.</summary>
    private const double SkewMilliseconds = 1000;

    public static IEnumerable<Diagnosed> Run(CheckupInput input) => input.Node.Status is { } status ? Judge(status) : [];

    public static IEnumerable<Diagnosed> Judge(StatusReport status)
    {
        foreach (var node in status.Nodes.Where(node => node.Name != status.NodeName))
        {
            var silence = node.SecondsSinceHeartbeat;
            if (node.State != NodeState.Ready || silence > SilentSeconds)
            {
                yield return Diagnosed.Error("node.silent", node.Name, $"its daemon is not heard{(silence is { } s ? string.Create(CultureInfo.InvariantCulture, $" for {s:0} s") : "")}: dead, frozen or cut off; what it has in its kernel goes on",
                    $"state {Cli.Text.Word(node.State)}", $"run 'overlaynet doctor' on {node.Name}; it works without its daemon");
            }
            if (node.Lag > 0 && silence is not null)
            {
                yield return Diagnosed.Warning("node.lag", node.Name, string.Create(CultureInfo.InvariantCulture, $"it is {node.Lag} revisions behind: at {node.AppliedRevision}"), null, $"overlaynet status on {node.Name} says what it cannot apply");
            }
            if (node.ClockSkewMs is { } skew && Math.Abs(skew) > SkewMilliseconds)
                yield return Skewed(node.Name, skew);
        }
        if (status.ClockSkewMs is { } own && Math.Abs(own) > SkewMilliseconds)
            yield return Skewed(status.NodeName ?? "this node", own);
    }

    private static Diagnosed Skewed(string node, double milliseconds) => Diagnosed.Error(
        "clock.skew", node, string.Create(CultureInfo.InvariantCulture, $"its clock is {Math.Abs(milliseconds) / 1000:0.0} s {(milliseconds > 0 ? "ahead of" : "behind")} the manager's"),
        null, $"start time synchronisation on {node} (chrony, systemd-timesyncd); certificates and event times depend on it");
}
