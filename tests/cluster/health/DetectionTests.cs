using System.Diagnostics;
using OverlayNet.ClusterTests.Harness;
using Xunit.Abstractions;

namespace OverlayNet.ClusterTests.Health;

/// <summary>How soon a backend that does not serve is out of names and balancers of every node, and what takes none out.</summary>
[Collection(HealthClusterTests.Name)]
public sealed class DetectionTests(HealthCluster health, ITestOutputHelper output)
{
    [Fact]
    public void Default_checks_see_a_black_hole_within_16_s_and_a_one_sided_loss_as_such()
    {
        using var late = new Lateness();
        using var holed = health.Service("http:/");
        using var sided = health.Service("http:/");
        var own = OwnAddresses();

        // Replies of two of three backends are lost on the way to their own nodes, and to nobody else.
        var lost = Stopwatch.GetTimestamp();
        foreach (var backend in sided.Backends.Take(2))
            CheckedService.LoseRepliesTo(backend, own[backend.Node.Index]);
        var since = CheckedService.BlackHole(holed.Backends[1]);

        Wait.Until("both one-sided losses are told", () => sided.Backends.Take(2).All(backend =>
            ((string?)health.Apis[0].Backend(sided.Name, backend.Name)["held"])?.Contains("one-sided", StringComparison.Ordinal) == true), TimeSpan.FromSeconds(60));
        var alarm = Stopwatch.GetElapsedTime(lost);
        var took = holed.AwaitOut(holed.Backends[1], since, TimeSpan.FromSeconds(60));
        output.WriteLine($"black hole out everywhere after {took.TotalSeconds:0.00} s, one-sided loss told after {alarm.TotalSeconds:0.00} s, machine late by {late.Worst.TotalMilliseconds:0} ms");

        Assert.InRange(took, TimeSpan.FromSeconds(10), late.Allow(TimeSpan.FromSeconds(16)));
        Assert.InRange(alarm, TimeSpan.Zero, late.Allow(TimeSpan.FromSeconds(16)));
        // Those cut off from their own nodes serve everybody else: nothing is concentrated on the third.
        Assert.All(health.Apis[0].Backends(sided.Name), backend => Assert.Equal(1 / 3.0, (double)backend!["share"]!, 3));
        var answers = health.Clients[2].Ask($"http://{sided.Name}/", 90);
        Assert.All(sided.Backends, backend => Assert.InRange(answers.Count(answer => answer.StartsWith(backend.Name, StringComparison.Ordinal)), 15, 45));
        Assert.Contains("held", health.Manager.Cli("events", "--since", "2m").Output, StringComparison.Ordinal);
    }

    [Fact]
    public void Fast_checks_see_a_black_hole_within_a_second_and_one_lost_reply_changes_nothing()
    {
        using var late = new Lateness();
        using var service = health.Service("http:/", "--health-interval", "200ms");
        var backend = service.Backends[1];
        // The next SYN is lost, and only that one: the limit's bucket holds one packet, and is refilled in an hour.
        backend.Exec("nft", "add table inet fault; add chain inet fault in { type filter hook input priority -200; }; add rule inet fault in tcp dport 80 tcp flags & (syn|ack) == syn limit rate 1/hour burst 1 packets counter drop").Succeeded();
        Wait.Until("a SYN was dropped", () => !backend.Exec("nft", "list", "table", "inet", "fault").Output.Contains("counter packets 0 ", StringComparison.Ordinal));
        var lostAt = Stopwatch.GetTimestamp();
        Wait.Until("five more checks' time has gone by", () =>
        {
            Assert.Equal("healthy", health.Apis[0].State(service.Name, backend.Name));
            return Stopwatch.GetElapsedTime(lostAt) > TimeSpan.FromSeconds(1);
        });
        CheckedService.Mend(backend);

        var since = CheckedService.BlackHole(backend);
        var took = service.AwaitOut(backend, since, TimeSpan.FromSeconds(30));
        output.WriteLine($"out everywhere after {took.TotalMilliseconds:0} ms, machine late by {late.Worst.TotalMilliseconds:0} ms");
        // Sooner than one check at the default interval; how soon is printed above, and measured by bench/withdrawal.
        Assert.InRange(took, TimeSpan.Zero, late.Allow(TimeSpan.FromSeconds(5)));
        Assert.DoesNotContain(backend.Address!, health.Clients[0].Exec("dig", "+short", $"tasks.{service.Name}").Output, StringComparison.Ordinal);

        CheckedService.Mend(backend);
        service.AwaitState(backend.Name, "recovering");
    }

    [Fact]
    public void A_host_that_is_cut_off_is_out_within_six_seconds_and_one_whose_daemon_is_frozen_loses_nothing()
    {
        using var late = new Lateness();
        using var service = health.Service("tcp", "--health-interval", "1s", "--health-option", "ramp=2s");
        var (frozen, dead) = (health.Cluster.Nodes[1], health.Cluster.Nodes[2]);
        try
        {
            Commands.Run("kill", "-STOP", Cluster.Number(frozen.Pid)).Succeeded();
            var frozenAt = Stopwatch.GetTimestamp();
            Wait.Until("others look after its endpoints", () => ((string?)health.Apis[0].Backend(service.Name, service.Backends[1].Name)["held"])?.Contains("silent", StringComparison.Ordinal) == true);
            Wait.Until("longer than a dead host would take", () => Stopwatch.GetElapsedTime(frozenAt) > TimeSpan.FromSeconds(8), TimeSpan.FromSeconds(15));
            Assert.Equal("healthy", health.Apis[0].State(service.Name, service.Backends[1].Name));
            Commands.Run("kill", "-CONT", Cluster.Number(frozen.Pid)).Succeeded();
            Wait.Until("it is heard again", () => health.Apis[0].Backend(service.Name, service.Backends[1].Name)["held"] is null);

            Commands.In(dead.Netns, "ip", "link", "set", "eth0", "down").Succeeded();
            var since = Stopwatch.GetTimestamp();
            var backend = service.Backends[2];
            Wait.Until("its endpoints are out", () => health.Apis.Take(2).All(api => api.IsOut(service.Name, backend.Name, backend.Address!)));
            var took = Stopwatch.GetElapsedTime(since);
            output.WriteLine($"dead host out after {took.TotalSeconds:0.00} s, machine late by {late.Worst.TotalMilliseconds:0} ms");
            Assert.Equal("unreachable", health.Apis[0].State(service.Name, backend.Name));
            Assert.InRange(took, TimeSpan.Zero, late.Allow(TimeSpan.FromSeconds(6)));
        }
        finally
        {
            Commands.Run("kill", "-CONT", Cluster.Number(frozen.Pid));
            Commands.In(dead.Netns, "ip", "link", "set", "eth0", "up");
            Commands.In(dead.Netns, "ip", "route", "replace", "default", "via", "192.0.2.254");
            Commands.In(dead.Netns, "ip", "address", "replace", $"{dead.Address6}/64", "dev", "eth0", "nodad");
            Commands.In(dead.Netns, "ip", "-6", "route", "replace", "default", "via", "2001:db8:2::fe");
        }
        Wait.Until("it comes back as recovering, after passing", () => health.Apis[0].State(service.Name, service.Backends[2].Name) is "recovering" or "healthy");
        Assert.Contains("unreachable to recovering", health.Manager.Cli("events", "--since", "2m").Output, StringComparison.Ordinal);
        service.AwaitState(service.Backends[2].Name, "healthy");
    }

    [Fact]
    public void A_frozen_registry_removes_nobody()
    {
        using var service = health.Service("http:/", "--health-interval", "500ms");
        Freeze(TimeSpan.FromSeconds(8));
        Assert.All(service.Backends, backend => Assert.Equal("healthy", health.Apis[1].State(service.Name, backend.Name)));
    }

    [Fact]
    [Trait("Category", "Soak")]
    public void A_registry_frozen_for_four_minutes_removes_nobody()
    {
        using var service = health.Service("http:/");
        Freeze(TimeSpan.FromMinutes(4));
        Assert.All(service.Backends, backend => Assert.Equal("healthy", health.Apis[1].State(service.Name, backend.Name)));
    }

    private void Freeze(TimeSpan time)
    {
        var manager = Cluster.Number(health.Manager.Pid);
        Commands.Run("kill", "-STOP", manager).Succeeded();
        try
        {
            var since = Stopwatch.GetTimestamp();
            Wait.Until("the freeze is over", () =>
            {
                Assert.All(health.Apis.Skip(1), api => Assert.All(api.Backends($"s{health.LastService}"), backend => Assert.Equal("healthy", (string)backend!["state"]!)));
                return Stopwatch.GetElapsedTime(since) > time;
            }, time + TimeSpan.FromSeconds(30));
        }
        finally
        {
            Commands.Run("kill", "-CONT", manager).Succeeded();
        }
        // The moment of its return is the dangerous one: all it knows is old.
        var returned = Stopwatch.GetTimestamp();
        Wait.Until("it works again", () =>
        {
            Assert.All(health.Apis[0].Backends($"s{health.LastService}"), backend => Assert.Equal("healthy", (string)backend!["state"]!));
            return Stopwatch.GetElapsedTime(returned) > TimeSpan.FromSeconds(4);
        });
    }

    /// <summary>Each node's own address in the network: where probes come from.</summary>
    private Dictionary<int, string> OwnAddresses() => health.Manager.CliJson("endpoint", "ls", "--network", HealthCluster.Network).AsArray()
        .Where(endpoint => (string?)endpoint!["kind"] == "node")
        .ToDictionary(endpoint => int.Parse(((string)endpoint!["name"]!)["node-node".Length..], System.Globalization.CultureInfo.InvariantCulture), endpoint => (string)endpoint!["address4"]!);
}
