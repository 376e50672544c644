using Microsoft.Extensions.Logging.Abstractions;
using OverlayNet.Contracts;
using OverlayNet.Daemon.Health;
using OverlayNet.Daemon.Registry;
using OverlayNet.UnitTests.Daemon.Registry;

namespace OverlayNet.UnitTests.Daemon.Health;

/// <summary>Two managers on one store: each node reports to one of them, which passes it on, and both decide.</summary>
public sealed class SeveralDesksTests : IAsyncLifetime
{
    private static readonly string[] Names = ["web1", "web2", "web3"];
    private readonly Dictionary<(int Node, string Name), CheckOutcome> _found = [];
    private RegistryFixture _fixture = null!;
    private ClusterRegistry _other = null!;
    private HealthDesk _first = null!, _second = null!;

    public async Task InitializeAsync()
    {
        _fixture = await RegistryFixture.StartAsync(nodes: 3);
        await _fixture.NetworkAsync(subnet: "10.1.0.0/16");
        await _fixture.Registry.CreateServiceAsync(new ServiceCreateRequest { Name = "web", Network = "net", Ports = ["80"], Health = ["http:/"] });
        _other = await ClusterRegistry.StartAsync(_fixture.Store, new ClusterRegistryOptions { Time = _fixture.Time, Events = _fixture.Events });
        _first = new HealthDesk(_fixture.Registry, new HealthDeskOptions(), _fixture.Events, _fixture.Time, NullLogger<HealthDesk>.Instance);
        _second = new HealthDesk(_other, new HealthDeskOptions(), _fixture.Events, _fixture.Time, NullLogger<HealthDesk>.Instance);
        for (var node = 1; node <= 3; node++)
        {
            await _fixture.EndpointAsync(Names[node - 1], node: node, service: "web");
            _found[(node, Names[node - 1])] = CheckOutcome.Pass;
        }
        await Pass(20, _first, _second);
        Assert.All(Names, name => Assert.Equal(EndpointState.Healthy, State(name)));
    }

    public async Task DisposeAsync()
    {
        await _first.DisposeAsync();
        await _second.DisposeAsync();
        await _other.DisposeAsync();
        await _fixture.DisposeAsync();
    }

    [Fact]
    public async Task Both_come_to_the_same_verdict_and_it_is_written_once()
    {
        _found[(2, "web2")] = CheckOutcome.NoAnswer;
        await Pass(1, _first, _second);
        // Nodes 1 and 3 are at home with different managers, and both are asked.
        Assert.Contains("id-web2-net", await Asked(_first, 1));
        Assert.Contains("id-web2-net", await Asked(_second, 3));
        (_found[(1, "web2")], _found[(3, "web2")]) = (CheckOutcome.NoAnswer, CheckOutcome.NoAnswer);
        await Pass(2, _first, _second);
        Assert.Equal(EndpointState.Unhealthy, State("web2"));

        foreach (var node in new[] { 1, 2, 3 })
            _found[(node, "web2")] = CheckOutcome.Pass;
        await Pass(60, _first, _second);
        Assert.Equal(EndpointState.Healthy, State("web2"));
        var told = _fixture.Events.Since(0).Where(e => e is { Action: "health", Object: "web2" }).Select(e => e.Message.Split(':', ',')[0]).ToList();
        Assert.Equal(["starting to healthy", "healthy to unhealthy", "unhealthy to recovering", "recovering to healthy"], told);
    }

    [Fact]
    public async Task What_is_held_is_held_by_the_one_that_is_left_and_told_once()
    {
        (_found[(1, "web1")], _found[(2, "web2")]) = (CheckOutcome.BadAnswer, CheckOutcome.BadAnswer);
        await Pass(1, _first, _second);
        Assert.All([_first, _second], desk => Assert.Contains("too much would go at once", desk.Held("id-web1-net"), StringComparison.Ordinal));
        Assert.Single(_fixture.Events.Since(0), e => e is { Action: "held", Object: "web1" });

        // The manager that heard both is gone; what it knew, and the answers that come now, are with the other.
        (_found[(2, "web1")], _found[(3, "web1")]) = (CheckOutcome.BadAnswer, CheckOutcome.BadAnswer);
        (_found[(1, "web2")], _found[(3, "web2")]) = (CheckOutcome.Pass, CheckOutcome.Pass);
        await Pass(2, _second);
        Assert.Equal((EndpointState.Unhealthy, EndpointState.Healthy), (State("web1"), State("web2")));
        Assert.Contains("one-sided", _second.Held("id-web2-net"), StringComparison.Ordinal);
    }

    /// <summary>Seconds with reports; nodes 1 and 2 are at home with the first manager that lives, node 3 with the last.</summary>
    private async Task Pass(int seconds, params HealthDesk[] alive)
    {
        for (var second = 0; second < seconds; second++)
        {
            _fixture.Time.Advance(TimeSpan.FromSeconds(1));
            for (var node = 1; node <= 3; node++)
            {
                var id = RegistryFixture.Node(node).Id;
                var beat = new HeartbeatRequest { NodeId = id, AppliedRevision = _fixture.Registry.Current.Revision };
                await _fixture.Registry.HeartbeatAsync(beat);
                await _other.HeartbeatAsync(beat);
                var home = node < 3 ? alive[0] : alive[^1];
                foreach (var desk in alive)
                    desk.Report(Report(node, id), direct: desk == home);
            }
            foreach (var desk in alive.Concat(alive))
            {
                await desk.DecideOnceAsync();
                // What one has written reaches the other by the store's watch.
                for (var waited = 0; _other.Current.Revision != _fixture.Registry.Current.Revision; waited++)
                {
                    Assert.True(waited < 5000, "the registries do not come to one revision");
                    await Task.Delay(1);
                }
            }
        }
    }

    private HealthReport Report(int node, string id) => new()
    {
        NodeId = id,
        Full = true,
        Standings = [.. _found.Where(entry => entry.Key.Node == node).Select(entry => new CheckStanding
        {
            EndpointId = $"id-{entry.Key.Name}-net",
            Passing = entry.Value == CheckOutcome.Pass,
            Outcome = entry.Value,
            InARow = 3,
            Reason = entry.Value == CheckOutcome.Pass ? "" : $"{entry.Value}",
            AtUnixMs = _fixture.Time.GetUtcNow().ToUnixTimeMilliseconds(),
        })],
        FlowsRevision = _fixture.Registry.Current.Revision,
    };

    private static async Task<IReadOnlyList<string>> Asked(HealthDesk desk, int node) =>
        [.. (await desk.TasksAsync(RegistryFixture.Node(node).Id, -1, TimeSpan.Zero, CancellationToken.None)).Tasks.Select(task => task.EndpointId)];

    private EndpointState State(string name) => _fixture.Registry.Current.Endpoints[$"id-{name}-net"].State;
}
