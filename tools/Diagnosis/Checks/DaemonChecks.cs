using System.Globalization;
using OverlayNet.Tools.Cli;

namespace OverlayNet.Tools.Diagnosis.Checks;

/// <summary>The daemon's process: alive, not stopped, with the rights it needs.</summary>
internal static class DaemonChecks
{
    // Bits of CapEff (linux/capability.h).
    private static readonly (int Bit, string Name, string Use)[] Needed =
    [
        (12, "CAP_NET_ADMIN", "links, routes, rules"),
        (13, "CAP_NET_RAW", "probes and VRRP"),
        (10, "CAP_NET_BIND_SERVICE", "DNS on port 53"),
        (21, "CAP_SYS_ADMIN", "network namespaces"),
    ];

    public static IEnumerable<Diagnosed> Run(CheckupInput input) =>
        [.. Condition(input.Node), .. input.Node.Pid is { } pid ? Capabilities($"overlaynetd (pid {Text.Number(pid)})", ReadCapabilities(pid)) : []];

    public static IEnumerable<Diagnosed> Condition(NodeView node)
    {
        var pid = node.Pid is { } known ? Text.Number(known) : "?";
        switch (node.Condition)
        {
            case DaemonCondition.Dead:
                yield return Diagnosed.Error("daemon.alive", "overlaynetd", node.Why!, null, "start overlaynetd: it adopts what is in the kernel");
                break;
            case DaemonCondition.Frozen:
                yield return Diagnosed.Error("daemon.frozen", "overlaynetd", $"process {pid} of node {node.Name} is stopped: nothing is mended, names are not answered, other nodes will call it unmanaged", $"State: T (stopped) in /proc/{pid}/status", $"kill -CONT {pid}, and find out who stopped it (a debugger, a frozen cgroup)");
                break;
            case DaemonCondition.Hung:
                yield return Diagnosed.Error("daemon.hung", "overlaynetd", $"process {pid} runs and does not answer: {node.Why}", null, $"look at its log and at /proc/{pid}/stack; killing and starting it again loses no connection");
                break;
        }
    }

    /// <param name="effective">CapEff; null: it could not be read.</param>
    public static IEnumerable<Diagnosed> Capabilities(string who, ulong? effective)
    {
        if (effective is not { } set)
            yield break;
        foreach (var (_, name, use) in Needed.Where(needed => (set >> needed.Bit & 1) == 0))
            yield return Diagnosed.Error("host.capability", name, $"{who} lacks {name}, needed for {use}", $"CapEff {set:x16}", $"give it back: AmbientCapabilities and CapabilityBoundingSet of its unit, or --cap-add {name["CAP_".Length..]} of its container");
    }

    /// <summary>Of a process, from <c>/proc/PID/status</c>.</summary>
    public static ulong? ReadCapabilities(int pid)
    {
        try
        {
            var line = File.ReadLines($"/proc/{Text.Number(pid)}/status").FirstOrDefault(text => text.StartsWith("CapEff:", StringComparison.Ordinal));
            return line is not null && ulong.TryParse(line.AsSpan("CapEff:".Length).Trim(), NumberStyles.HexNumber, CultureInfo.InvariantCulture, out var set) ? set : null;
        }
        catch (IOException)
        {
            return null;
        }
    }
}
