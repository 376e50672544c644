using OverlayNet.Contracts;
using OverlayNet.Kernel;
using OverlayNet.Tools.Diagnosis.Checks;
using OverlayNet.Tools.Diagnosis.Firewall;

namespace OverlayNet.Tools.Diagnosis;

/// <summary>Everything the checks look at, read once.</summary>
internal sealed record CheckupInput
{
    public required NodeView Node { get; init; }
    public required NamespaceReading Host { get; init; }

    /// <summary>Null where they cannot be read.</summary>
    public Ruleset? HostRules { get; init; }
    public IReadOnlyList<NetworkView> Networks { get; init; } = [];

    /// <summary>Upstream DNS servers, where the daemon says; null: not known.</summary>
    public IReadOnlyList<string>? Upstreams { get; init; }

    /// <summary>As the daemon has them.</summary>
    public IReadOnlyList<VipExplanation> Vips { get; init; } = [];

    /// <summary>Probes the way to a node (by name) and back through a network (by name), with IP of a version; null where the nodes' daemons cannot be asked.</summary>
    public Func<string, string, int, PathReport?> Way { get; init; } = (_, _, _) => null;
    public required DateTimeOffset Now { get; init; }

    /// <exception cref="KernelException">The host's namespace cannot be read.</exception>
    public static CheckupInput Read(NodeView node, IReadOnlyList<string>? upstreams, IReadOnlyList<VipExplanation> vips, TimeProvider time) => new()
    {
        Node = node,
        Host = NamespaceReading.Of(node.Host),
        HostRules = Ruleset.Read(node.Host),
        Networks = SideBySide.Run([.. node.Networks], network => NetworkView.Of(node, network)),
        Upstreams = upstreams,
        Vips = vips,
        Now = time.GetUtcNow(),
    };
}

/// <summary>What came of a checkup.</summary>
internal sealed record CheckupResult(IReadOnlyList<string> Checked, IReadOnlyList<Diagnosed> Found, IReadOnlyList<DoctorStage> Stages);

/// <summary>Runs the checks. None changes anything; one that fails is itself a finding.</summary>
internal static class Checkup
{
    private static readonly (string Name, Func<CheckupInput, IEnumerable<Diagnosed>> Check)[] All =
    [
        ("daemon", DaemonChecks.Run),
        ("nodes", NodeChecks.Run),
        ("state", StateChecks.Run),
        ("host", HostChecks.Run),
        ("firewall", FirewallChecks.Run),
        ("links", LinkChecks.Run),
        ("forwarding", ForwardingChecks.Run),
        ("addresses", AddressChecks.Run),
        ("balancer", BalancerChecks.Run),
        ("limits", LimitChecks.Run),
        ("paths", PathChecks.Run),
        ("vips", VipChecks.Run),
    ];

    public static CheckupResult Run(CheckupInput input)
    {
        var stages = new List<DoctorStage>();
        (string Name, Func<CheckupInput, IEnumerable<Diagnosed>> Check)[] checks = [.. All, ("dns", whole => DnsChecks.Run(whole, stages))];
        // Those that wait for answers do so side by side.
        var found = SideBySide.Run(checks, check => Try(check.Name, () => [.. check.Check(input)])).SelectMany(list => list).ToList();
        return new CheckupResult([.. checks.Select(check => check.Name)], found, stages);
    }

    private static List<Diagnosed> Try(string name, Func<List<Diagnosed>> check)
    {
        try
        {
            return check();
        }
        catch (Exception e) when (e is IOException or InvalidDataException or KernelException or UnauthorizedAccessException or System.Net.Sockets.SocketException)
        {
            return [Diagnosed.Error("doctor.failed", name, $"the check itself failed: {e.Message}", null, Environment.IsPrivilegedProcess ? "look at the message; the other checks are valid" : "run it as root")];
        }
    }
}
