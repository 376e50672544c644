using Microsoft.Extensions.Logging.Abstractions;
using OverlayNet.Contracts;
using OverlayNet.Daemon.Health;
using OverlayNet.Daemon.Planners;
using OverlayNet.Daemon.Registry;
using OverlayNet.UnitTests.Daemon.Registry;

namespace OverlayNet.UnitTests.Daemon.Health;

/// <summary>What a manager makes of reports, on a registry whose clock the test moves. Each endpoint is on its own node unless said.</summary>
public sealed class HealthDeskTests : IAsyncLifetime
{
    private readonly Dictionary<string, CheckStanding> _standings = [];
    private IReadOnlyList<PassiveSign> _signs = [];
    private RegistryFixture _fixture = null!;
    private HealthDesk _desk = null!;
    private Service _service = null!;

    public async Task InitializeAsync()
    {
        _fixture = await RegistryFixture.StartAsync(nodes: 3);
        await _fixture.NetworkAsync(subnet: "10.1.0.0/16");
        _service = (await _fixture.Registry.CreateServiceAsync(new ServiceCreateRequest { Name = "web", Network = "net", Ports = ["80"], Health = ["http:/"] })).Value;
        _desk = new HealthDesk(_fixture.Registry, new HealthDeskOptions(), _fixture.Events, _fixture.Time, NullLogger<HealthDesk>.Instance);
        for (var node = 1; node <= 3; node++)
            await AddAsync($"web{node}", node);
        await Round();
    }

    public async Task DisposeAsync()
    {
        await _desk.DisposeAsync();
        await _fixture.DisposeAsync();
    }

    [Fact]
    public async Task An_endpoint_begins_with_its_first_successes()
    {
        await AddAsync("late", 1, passing: null);
        await Round();
        Assert.Equal(EndpointState.Starting, State("late"));
        Say("late", 1, true, CheckOutcome.Pass);
        await Round();
        Assert.Equal(EndpointState.Healthy, State("late"));
    }

    [Fact]
    public async Task A_refusal_takes_one_of_three_out_by_itself()
    {
        await Pass(TimeSpan.FromSeconds(20));
        Say("web2", 2, false, CheckOutcome.Refused);
        await Round();
        Assert.Equal(EndpointState.Unhealthy, State("web2"));
    }

    [Fact]
    public async Task Silence_is_believed_when_peers_hear_it_too()
    {
        await Pass(TimeSpan.FromSeconds(20));
        Say("web2", 2, null, CheckOutcome.NoAnswer);
        await Round();
        Assert.Contains("web2-net", Asked(1));
        Say("web2", 2, false, CheckOutcome.NoAnswer);
        await Round();
        Assert.Equal(EndpointState.Healthy, State("web2"));
        Say("web2", 1, false, CheckOutcome.NoAnswer);
        Say("web2", 3, false, CheckOutcome.NoAnswer);
        await Round();
        Assert.Equal(EndpointState.Unhealthy, State("web2"));
        Assert.DoesNotContain("web2-net", Asked(1));
    }

    [Fact]
    public async Task Replies_of_two_of_three_lost_on_the_way_to_their_own_nodes_change_nothing_and_raise_an_alarm()
    {
        await Pass(TimeSpan.FromSeconds(20));
        foreach (var (name, node) in new[] { ("web1", 1), ("web2", 2) })
        {
            Say(name, node, null, CheckOutcome.NoAnswer);
            await Round();
            for (var peer = 1; peer <= 3; peer++)
            {
                if (peer != node && Asked(peer).Contains($"{name}-net"))
                    Say(name, peer, null, CheckOutcome.Pass);
            }
            Say(name, node, false, CheckOutcome.NoAnswer);
        }
        await Round();
        Assert.All(["web1", "web2", "web3"], name => Assert.Equal(EndpointState.Healthy, State(name)));
        Assert.Contains("one-sided", _desk.Held("id-web1-net"), StringComparison.Ordinal);
        Assert.Equal(2, _fixture.Events.Since(0).Count(e => e is { Kind: "endpoint", Action: "held" }));
    }

    [Fact]
    public async Task A_registry_that_hears_nothing_for_four_minutes_removes_nobody()
    {
        // No heartbeat, no report: all this manager knows is that it knows nothing.
        for (var i = 0; i < 240; i++)
        {
            _fixture.Time.Advance(TimeSpan.FromSeconds(1));
            await _desk.DecideOnceAsync();
        }
        Assert.All(["web1", "web2", "web3"], name => Assert.Equal(EndpointState.Healthy, State(name)));
    }

    [Fact]
    public async Task A_dead_host_is_out_within_six_seconds_when_its_peers_say_so()
    {
        var died = _fixture.Time.GetUtcNow();
        while (State("web2") == EndpointState.Healthy && _fixture.Time.GetUtcNow() - died < TimeSpan.FromSeconds(30))
        {
            await Pass(TimeSpan.FromMilliseconds(500), except: 2);
            foreach (var peer in new[] { 1, 3 }.Where(peer => Asked(peer).Contains("web2-net")))
                Say("web2", peer, false, CheckOutcome.NoAnswer);
        }
        Assert.Equal(EndpointState.Unreachable, State("web2"));
        Assert.InRange(_fixture.Time.GetUtcNow() - died, TimeSpan.FromSeconds(4), TimeSpan.FromSeconds(6));
        await _desk.DecideOnceAsync();
        Assert.Equal(NodeState.Down, _fixture.Registry.Current.Nodes[RegistryFixture.Node(2).Id].State);

        // It returns: by passing, and with a quarter of its weight.
        await Pass(TimeSpan.FromSeconds(12));
        Assert.Equal((EndpointState.Recovering, 2), (State("web2"), Of("web2").RampEighths));
    }

    [Fact]
    public async Task Where_nobody_else_can_be_asked_the_nodes_lease_decides()
    {
        await _fixture.NetworkAsync("alone", "10.2.0.0/16");
        await _fixture.Registry.CreateServiceAsync(new ServiceCreateRequest { Name = "lonely", Network = "alone", Ports = ["80"] });
        foreach (var name in new[] { "lonely1", "lonely2", "lonely3" })
        {
            await _fixture.EndpointAsync(name, "alone", node: name == "lonely1" ? 2 : 1, service: "lonely");
            await _fixture.Registry.UpdateEndpointAsync(name, null, new EndpointUpdateRequest { State = EndpointState.Healthy });
        }
        var died = _fixture.Time.GetUtcNow();
        bool IsOut() => _fixture.Registry.Current.Endpoints["id-lonely1-alone"].State == EndpointState.Unreachable;
        // Node 3 has nothing in that network, and node 1 distrusts itself.
        while (_fixture.Time.GetUtcNow() - died < TimeSpan.FromSeconds(29))
        {
            await Pass(TimeSpan.FromMilliseconds(500), except: 2, distrusted: 1);
            Assert.False(IsOut());
        }
        // The registry looks for nodes whose lease is over on a timer of its own.
        for (var i = 0; i < 1000 && !IsOut(); i++)
        {
            await Pass(TimeSpan.FromMilliseconds(500), except: 2, distrusted: 1);
            await Task.Delay(5);
        }
        Assert.True(IsOut());
    }

    [Fact]
    public async Task A_frozen_daemon_on_a_living_host_costs_no_endpoint()
    {
        for (var i = 0; i < 80; i++)
        {
            await Pass(TimeSpan.FromMilliseconds(500), except: 2);
            foreach (var peer in new[] { 1, 3 }.Where(peer => Asked(peer).Contains("web2-net")))
                Say("web2", peer, true, CheckOutcome.Pass);
        }
        Assert.Equal(EndpointState.Healthy, State("web2"));
        Assert.Contains("its node is silent", _desk.Held("id-web2-net"), StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_prober_most_of_whose_targets_are_silent_is_not_believed()
    {
        await AddAsync("web4", 1);
        await AddAsync("web5", 1);
        await Pass(TimeSpan.FromSeconds(20));
        foreach (var name in new[] { "web1", "web4", "web5" })
            Say(name, 1, false, CheckOutcome.NoAnswer);
        await Round(distrusted: 1);
        for (var i = 0; i < 10; i++)
            await Pass(TimeSpan.FromSeconds(1), distrusted: 1);
        Assert.All(["web1", "web4", "web5"], name => Assert.Equal(EndpointState.Healthy, State(name)));
        Assert.Contains("set aside", _desk.Held("id-web4-net"), StringComparison.Ordinal);
    }

    [Fact]
    public async Task Most_of_a_service_failing_at_once_is_confirmed_by_others_first()
    {
        await Pass(TimeSpan.FromSeconds(20));
        Say("web1", 1, false, CheckOutcome.BadAnswer);
        Say("web2", 2, false, CheckOutcome.BadAnswer);
        await Round();
        Assert.All(["web1", "web2"], name => Assert.Equal(EndpointState.Healthy, State(name)));
        Assert.Contains("too much would go at once", _desk.Held("id-web1-net"), StringComparison.Ordinal);
        Say("web1", 2, false, CheckOutcome.BadAnswer);
        Say("web1", 3, false, CheckOutcome.BadAnswer);
        Say("web2", 1, true, CheckOutcome.Pass);
        Say("web2", 3, true, CheckOutcome.Pass);
        await Round();
        Assert.Equal((EndpointState.Unhealthy, EndpointState.Healthy), (State("web1"), State("web2")));
    }

    [Fact]
    public async Task When_all_fail_all_are_used_and_people_are_told()
    {
        await Pass(TimeSpan.FromSeconds(20));
        for (var node = 1; node <= 3; node++)
            Say($"web{node}", node, false, CheckOutcome.BadAnswer);
        await Round();
        for (var node = 1; node <= 3; node++)
        {
            foreach (var peer in Enumerable.Range(1, 3).Where(peer => peer != node))
                Say($"web{node}", peer, false, CheckOutcome.BadAnswer);
        }
        await Round();
        Assert.All(["web1", "web2", "web3"], name => Assert.Equal(EndpointState.Unhealthy, State(name)));
        Assert.True(PanicMode.On(_fixture.Registry.Current, _service));
        var plan = VipPlanner.Plan(_fixture.Registry.Current, RegistryFixture.Node(1).Id, new HashSet<string>(), _fixture.Time.GetUtcNow());
        Assert.All(plan.Networks.Single().Services.Single().RealServers, server => Assert.Equal(8, server.Weight));
        Assert.Contains(_fixture.Events.Since(0), e => e is { Kind: "service", Action: "panic" });
    }

    [Fact]
    public async Task Whom_clients_fare_badly_with_goes_when_a_check_confirms_it_and_a_tenth_of_the_service_at_most()
    {
        await _fixture.Registry.UpdateServiceAsync("web", null, new ServiceUpdateRequest { Health = ["eject=10"] });
        for (var i = 4; i <= 10; i++)
            await AddAsync($"web{i}", 1);
        await Pass(TimeSpan.FromSeconds(20));
        _signs = [.. Enumerable.Range(1, 10).Select(i => new PassiveSign { EndpointId = $"id-web{i}-net", Flows = 20, Troubled = i switch { 4 => 15, 5 => 12, _ => 0 } })];
        await Round();
        Assert.Equal(EndpointState.Healthy, State("web4"));
        Assert.Contains("15 of 20 connections", _desk.Held("id-web4-net"), StringComparison.Ordinal);
        Assert.Contains("web4-net", Asked(2));

        // One failure each, which alone would be the first of three.
        Say("web4", 1, null, CheckOutcome.NoAnswer);
        Say("web5", 1, null, CheckOutcome.NoAnswer);
        await Round();
        Assert.Equal((EndpointState.Unhealthy, EndpointState.Healthy), (State("web4"), State("web5")));
        Assert.Contains("no more of the service", _desk.Held("id-web5-net"), StringComparison.Ordinal);
        Assert.Contains(_fixture.Events.Since(0), e => e is { Action: "health", Message: { } message } && message.Contains("ejected: clients have trouble", StringComparison.Ordinal));

        // It is over after the hold time, by passing.
        _signs = [];
        Say("web4", 1, true, CheckOutcome.Pass);
        Say("web5", 1, true, CheckOutcome.Pass);
        await Pass(TimeSpan.FromSeconds(9));
        Assert.Equal(EndpointState.Unhealthy, State("web4"));
        await Pass(TimeSpan.FromSeconds(2));
        Assert.Equal(EndpointState.Recovering, State("web4"));
    }

    [Fact]
    public async Task What_an_operator_decided_stays()
    {
        await Pass(TimeSpan.FromSeconds(20));
        await _fixture.Registry.UpdateEndpointAsync("web1", null, new EndpointUpdateRequest { State = EndpointState.Draining });
        Say("web1", 1, false, CheckOutcome.Refused);
        await Round();
        Assert.Equal(EndpointState.Draining, State("web1"));
        await _fixture.Registry.RemoveEndpointAsync("web1", null);
        await _fixture.Registry.RemoveEndpointAsync("web2", null);
        Assert.Single(_fixture.Registry.Current.EndpointsOf(_service));
    }

    [Fact]
    public async Task A_drain_is_done_when_every_node_has_it_and_no_flow_is_left()
    {
        await _fixture.Registry.UpdateEndpointAsync("web1", null, new EndpointUpdateRequest { State = EndpointState.Draining });
        Assert.Equal(["n1", "n2", "n3"], _desk.Drain(Of("web1")).Waiting);
        await Round(flows: 2);
        var report = _desk.Drain(Of("web1"));
        Assert.Equal((false, 0, 2L), (report.Done, report.Waiting.Count, report.Flows["n2"]));
        await Round();
        Assert.True(_desk.Drain(Of("web1")).Done);

        await Round(flows: 2);
        await Pass(TimeSpan.FromSeconds(31), flows: 2);
        report = _desk.Drain(Of("web1"));
        Assert.Equal((true, true), (report.Done, report.DeadlinePassed));
    }

    [Fact]
    public async Task Six_hundred_at_once_are_few_revisions()
    {
        for (var i = 0; i < 600; i++)
            await AddAsync($"many{i}", 1 + i % 3, passing: null);
        for (var i = 0; i < 600; i++)
            Say($"many{i}", 1 + i % 3, true, CheckOutcome.Pass);
        var before = _fixture.Registry.Current.Revision;
        await Round();
        Assert.All(Enumerable.Range(0, 600), i => Assert.Equal(EndpointState.Healthy, State($"many{i}")));
        Assert.InRange(_fixture.Registry.Current.Revision - before, 1, 8);
    }

    private async Task AddAsync(string name, int node, bool? passing = true)
    {
        await _fixture.EndpointAsync(name, node: node, service: "web");
        if (passing is { } verdict)
            Say(name, node, verdict, CheckOutcome.Pass);
    }

    private void Say(string name, int node, bool? passing, CheckOutcome outcome) => _standings[$"{node}/{name}"] = new CheckStanding
    {
        EndpointId = $"id-{name}-net",
        Passing = passing,
        Outcome = outcome,
        InARow = 3,
        Reason = outcome == CheckOutcome.Pass ? "" : $"{outcome}",
        AtUnixMs = _fixture.Time.GetUtcNow().ToUnixTimeMilliseconds(),
    };

    /// <summary>Time goes by, with heartbeats and reports each second.</summary>
    private async Task Pass(TimeSpan time, int except = 0, int distrusted = 0, long flows = 0)
    {
        var step = time < TimeSpan.FromSeconds(1) ? time : TimeSpan.FromSeconds(1);
        for (var gone = TimeSpan.Zero; gone < time; gone += step)
        {
            _fixture.Time.Advance(step);
            await Round(except, distrusted, flows);
        }
    }

    private async Task Round(int except = 0, int distrusted = 0, long flows = 0)
    {
        for (var node = 1; node <= 3; node++)
        {
            if (node == except)
                continue;
            var id = RegistryFixture.Node(node).Id;
            await _fixture.Registry.HeartbeatAsync(new HeartbeatRequest { NodeId = id, AppliedRevision = _fixture.Registry.Current.Revision });
            _desk.Report(new HealthReport
            {
                NodeId = id,
                Full = true,
                Distrusted = node == distrusted,
                Standings = [.. _standings.Where(entry => entry.Key.StartsWith($"{node}/", StringComparison.Ordinal)).Select(entry => entry.Value)],
                Signs = node == 3 ? _signs : [],
                Flows = node == 2 && flows > 0 ? new Dictionary<string, long> { ["id-web1-net"] = flows } : new Dictionary<string, long>(),
                FlowsRevision = _fixture.Registry.Current.Revision,
            });
        }
        // A second look: what the first one asked of peers may be answered already.
        await _desk.DecideOnceAsync();
        await _desk.DecideOnceAsync();
    }

    private IReadOnlyList<string> Asked(int node) =>
        [.. _desk.TasksAsync(RegistryFixture.Node(node).Id, -1, TimeSpan.Zero, CancellationToken.None).Result.Tasks.Select(task => task.EndpointId["id-".Length..])];

    private Endpoint Of(string name) => _fixture.Registry.Current.Endpoints[$"id-{name}-net"];

    private EndpointState State(string name) => Of(name).State;
}
