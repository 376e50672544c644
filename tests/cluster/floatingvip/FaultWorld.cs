using System.Globalization;
using System.Net;
using System.Text.RegularExpressions;
using OverlayNet.ClusterTests.Harness;
using OverlayNet.Daemon.Registry;
using Stopwatch = System.Diagnostics.Stopwatch;

namespace OverlayNet.ClusterTests.FloatingVip;

/// <summary>
/// Three real daemons (node 1 the manager, nodes 2 and 3 take part in a fenced VIP of both families), a switch that can lose traffic, and the
/// judge. Runs faults one after the other and holds every run against the invariants.
/// </summary>
public sealed partial class FaultWorld : IDisposable
{
    private const string Vip4 = "192.0.2.100", Vip6 = "2001:db8:2::100";
    private const int ApiPort = 7373;

    // A loaded machine may take so long to start a daemon; the VIP's own budget is measured by the failover benchmark.
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(60), Settle = TimeSpan.FromSeconds(5);
    private readonly Cluster _cluster;
    private readonly UnderlayJudge _judge;
    private long _judgedEpoch;
    private double _judgedUntil;

    public FaultWorld(string profile = "fast", params string[] more)
    {
        _cluster = Cluster.Start(3);
        try
        {
            foreach (var node in _cluster.Nodes)
                Commands.In(node.Netns, "sysctl", "-q", "-w", "net.ipv6.conf.eth0.keep_addr_on_down=1").Succeeded();
            string[] create = ["vip", "create", "--address", $"{Vip4}/24", "--address", $"{Vip6}/64", "--vrid", "51", "--interface", "eth0",
                "--priority", "node2=150", "--priority", "node3=100", "--no-preempt", "--advert", "100", "--profile", profile, .. more, "front"];
            _cluster.Nodes[0].Cli(create);
            _judge = new UnderlayJudge(_cluster.Lan, _cluster.Outside, IPAddress.Parse(Vip4), IPAddress.Parse("192.0.2.254"), IPAddress.Parse(Vip6), IPAddress.Parse("2001:db8:2::fe"));
            AwaitOwner("the VIP is held at first");
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    public ClusterNode Manager => _cluster.Nodes[0];

    public UnderlayJudge Judge => _judge;

    public ClusterNode NodeOf(string port) => _cluster.Nodes[int.Parse(port[1..], CultureInfo.InvariantCulture) - 1];

    /// <summary>The port of who answers now and goes on answering.</summary>
    public string AwaitOwner(string what)
    {
        string? owner = null;
        Wait.Until(what, () =>
        {
            owner = _judge.Owner();
            var since = _judge.Since(UnderlayJudge.Now - 0.4);
            return owner is not null && since.Count > 10 && since.All(seen => seen.Port == owner) && since[0].At < UnderlayJudge.Now - 0.3;
        }, Patience, () => Describe());
        return owner!;
    }

    /// <summary>Runs one fault to its end and judges it.</summary>
    public FaultRun Run(FaultPlan plan)
    {
        var owner = AwaitOwner($"an owner before {plan}");
        var other = owner == "n2" ? "n3" : "n2";
        var victim = plan.VictimHolds ? owner : other;
        // From where the last run was judged to: no moment goes unseen.
        var begin = _judgedUntil;
        Thread.Sleep(plan.BeforeMs);
        var undo = new Stack<Action>();
        try
        {
            if (plan.Path != LostPath.None)
                Lose(plan, victim, undo);
            if (plan.Path != LostPath.None && plan.Process != ProcessFault.None)
                Thread.Sleep(plan.SecondAfterMs);
            Harm(plan.Process, victim, undo);
            Thread.Sleep(plan.HoldMs);
        }
        finally
        {
            while (undo.TryPop(out var heal))
                heal();
        }
        var healed = UnderlayJudge.Now;
        // Whoever was heard last may have fallen silent since, and its successor have an epoch that it has yet to speak by: that is no
        // fault if it does speak. What the old one says from then on is one.
        var (last, settling) = ("", Stopwatch.StartNew());
        Wait.Until($"the owner after {plan} has the highest epoch, or is judged without", () =>
        {
            last = AwaitOwner($"an owner after {plan}");
            return Epochs().Values.Last().Node == last || settling.Elapsed >= Settle;
        });
        _judgedUntil = UnderlayJudge.Now;
        return JudgeRun(plan, begin, healed, last);
    }

    /// <summary>For how long the VIP has run on the node on which it has run the shortest: holder or fenced.</summary>
    public double UptimeSeconds() => _cluster.Nodes.Skip(1).Min(node => (double?)node.CliJson("vip", "explain", "front")[0]!["secondsInState"] ?? 0);

    public void Dispose()
    {
        _judge?.Dispose();
        _cluster.Dispose();
    }

    /// <summary>Who was given which epoch, in order: by the manager's events, and by the nodes' own logs where a killed manager wrote none.</summary>
    /// <remarks>When, in seconds since 1970: by the event, which is written after the commit; infinite where only a log tells of it.</remarks>
    public SortedDictionary<long, (string Node, double At)> Epochs()
    {
        var epochs = new SortedDictionary<long, (string Node, double At)>();
        foreach (var recorded in EventLog.ReadFrom(Manager.State).Where(e => e is { Kind: "vip", Action: "acquire" }))
        {
            if (EpochInEvent().Match(recorded.Message) is { Success: true } match)
                epochs[long.Parse(match.Groups[2].Value, CultureInfo.InvariantCulture)] = ($"n{match.Groups[1].Value}", (recorded.Time - DateTimeOffset.UnixEpoch).TotalSeconds);
        }
        foreach (var node in _cluster.Nodes)
        {
            foreach (Match match in EpochInLog().Matches(node.Log))
                epochs.TryAdd(long.Parse(match.Groups[1].Value, CultureInfo.InvariantCulture), ($"n{Cluster.Number(node.Index)}", double.PositiveInfinity));
        }
        return epochs;
    }

    private FaultRun JudgeRun(FaultPlan plan, double begin, double healed, string last)
    {
        var sightings = _judge.Since(begin).Where(seen => seen.At <= _judgedUntil).ToList();
        var reigns = UnderlayJudge.Reigns(sightings);
        var epochs = Epochs().ToList();
        var violation = FirstViolation(reigns, epochs, sightings, last);
        var silent = 0.0;
        for (var i = 1; i < sightings.Count; i++)
            silent = Math.Max(silent, sightings[i].At - sightings[i - 1].At);
        // The first answer after the last silence of note.
        var recovered = healed;
        for (var i = 1; i < sightings.Count; i++)
        {
            if (sightings[i].At - sightings[i - 1].At > 0.25 && sightings[i].At > healed)
                recovered = sightings[i].At;
        }
        return new FaultRun(plan, violation, reigns.Count - 1, silent * 1000, (recovered - healed) * 1000);
    }

    // Every reign on the wire needs an epoch of its own, later than that of the reign before: two owners at once, or an owner that
    // comes back without a new epoch, have none.
    private string? FirstViolation(List<(string Port, double From, double To)> reigns, List<KeyValuePair<long, (string Node, double At)>> epochs, IReadOnlyList<Sighting> sightings, string last)
    {
        var at = epochs.FindLastIndex(entry => entry.Key <= _judgedEpoch);
        at = Math.Max(at, 0);
        foreach (var (port, from, to) in reigns)
        {
            while (at < epochs.Count && epochs[at].Value.Node != port)
                at++;
            if (at == epochs.Count)
                return string.Create(CultureInfo.InvariantCulture, $"{port} spoke for the VIP from {from:0.000} to {to:0.000} without an epoch of its own after {_judgedEpoch}; "
                    + $"reigns {string.Join(", ", reigns.Select(r => $"{r.Port} {r.From:0.000}-{r.To:0.000}"))}; epochs {string.Join(", ", epochs.TakeLast(8).Select(e => $"{e.Key} {e.Value.Node}"))}");
            // From a successor's commit on the one before must not speak, even while that one has yet to begin.
            var newest = epochs.FindLastIndex(entry => entry.Value.At < to);
            if (newest > at && epochs[newest].Value.Node != port && !epochs.Skip(newest).Any(entry => entry.Value.Node == port))
                return string.Create(CultureInfo.InvariantCulture, $"{port} spoke for the VIP until {to:0.000}, but epoch {epochs[newest].Key} was {epochs[newest].Value.Node}'s from {epochs[newest].Value.At:0.000} on");
        }
        var highest = epochs[^1];
        _judgedEpoch = highest.Key;
        if (highest.Value.Node != last)
            return $"{last} owns the VIP, but the highest epoch {highest.Key} is {highest.Value.Node}'s";
        if (sightings.LastOrDefault(seen => seen.Announcement) is { Port: { } announcer } && announcer != last)
            return $"the last announcement was {announcer}'s, the owner is {last}";
        return null;
    }

    private void Lose(FaultPlan plan, string victim, Stack<Action> undo)
    {
        var rules = new List<string>();
        foreach (var hook in plan.Direction switch { LostDirection.Out => ["ingress"], LostDirection.In => ["egress"], _ => (string[])["ingress", "egress"] })
        {
            rules.Add($"add chain netdev fault {hook} {{ type filter hook {hook} device \"{victim}\" priority 0; }}");
            if (plan.Path is LostPath.Data or LostPath.Both)
            {
                rules.Add($"add rule netdev fault {hook} meta protocol arp arp saddr ip {Vip4} drop");
                rules.Add($"add rule netdev fault {hook} meta protocol arp arp daddr ip {Vip4} drop");
                rules.Add($"add rule netdev fault {hook} ip saddr {Vip4} drop");
                rules.Add($"add rule netdev fault {hook} ip daddr {Vip4} drop");
                rules.Add($"add rule netdev fault {hook} ip6 saddr {Vip6} drop");
                rules.Add($"add rule netdev fault {hook} ip6 daddr {Vip6} drop");
                rules.Add($"add rule netdev fault {hook} meta l4proto 112 drop");
            }
            if (plan.Path is LostPath.Store or LostPath.Both)
                rules.Add($"add rule netdev fault {hook} tcp {(hook == "ingress" ? "dport" : "sport")} {Cluster.Number(ApiPort)} drop");
        }
        Nft(["add table netdev fault", .. rules]);
        undo.Push(() => Nft(["delete table netdev fault"]));
    }

    private void Nft(IEnumerable<string> commands) => Commands.In(_cluster.Lan, "nft", string.Join("; ", commands)).Succeeded();

    private void Harm(ProcessFault fault, string victim, Stack<Action> undo)
    {
        var node = NodeOf(victim);
        switch (fault)
        {
            case ProcessFault.Frozen:
                Freeze(node, undo);
                break;
            case ProcessFault.ManagerFrozen:
                Freeze(Manager, undo);
                break;
            case ProcessFault.Killed:
                node.Kill();
                undo.Push(node.Start);
                break;
            case ProcessFault.ManagerKilled:
                Manager.Kill();
                undo.Push(Manager.Start);
                break;
            case ProcessFault.InterfaceDown:
                // At the switch's end: the node loses the carrier.
                Commands.Run("ip", "-n", _cluster.Lan, "link", "set", victim, "down").Succeeded();
                undo.Push(() => Commands.Run("ip", "-n", _cluster.Lan, "link", "set", victim, "up").Succeeded());
                break;
            case ProcessFault.Starved:
                var starved = new CpuQuota($"{_cluster.Prefix}starved", 1, node.Pid);
                undo.Push(starved.Dispose);
                break;
        }
    }

    private static void Freeze(ClusterNode node, Stack<Action> undo)
    {
        var pid = Cluster.Number(node.Pid);
        Commands.Run("kill", "-STOP", pid).Succeeded();
        undo.Push(() => Commands.Run("kill", "-CONT", pid));
    }

    private string Describe() => string.Join('\n', _cluster.Nodes.Select(node => $"{node.Name}: {node.TryCli("vip", "explain").Output}\n{string.Join('\n', node.Log.Split('\n').TakeLast(6))}"));

    [GeneratedRegex(@"^node(\d+), epoch \d+\.(\d+)")]
    private static partial Regex EpochInEvent();

    [GeneratedRegex(@"-> Holder: acquired version \d+\.(\d+)")]
    private static partial Regex EpochInLog();
}
