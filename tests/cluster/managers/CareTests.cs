using System.Net;
using System.Text.Json.Nodes;
using OverlayNet.ClusterTests.Harness;

namespace OverlayNet.ClusterTests.Managers;

/// <summary>What managers see to without being asked, and that two of them never give the same thing away.</summary>
public sealed class CareTests
{
    [Fact]
    public async Task Two_managers_give_nothing_away_twice_a_full_store_is_mended_and_a_dead_member_removed_as_far_as_it_is_safe()
    {
        using var world = new ManagersCluster(workers: 0, settings: "manager:\n  deadAfter: 12\n  storeQuota: 16777216\n");
        var nodes = world.Nodes;
        ManagersCluster.UntilVoters(nodes[0], 3);
        using var one = new NodeApi(nodes[0]);
        using var two = new NodeApi(nodes[1]);

        await CreateAtBothAsync(one, two);
        await FillAsync(one, two);

        // A member that is away for long loses its place; the next one may not, since no majority would be left.
        ManagersCluster.KillManager(nodes[2]);
        ManagersCluster.UntilVoters(nodes[0], 2);
        ManagersCluster.KillManager(nodes[1]);
        Wait.Until("writes are refused", () => !(bool)ManagersCluster.Managers(nodes[0])["writable"]!);
        await Task.Delay(TimeSpan.FromSeconds(15));
        Assert.Equal(2, (int)ManagersCluster.Managers(nodes[0])["voters"]!);
        nodes[1].Start();
        ManagersCluster.UntilVoters(nodes[0], 2);
        // Who lost its place comes back as a new member by itself.
        nodes[2].Start();
        ManagersCluster.UntilVoters(nodes[0], 3);
        Wait.Until("it has the registry", () => nodes[2].TryCli("network", "ls").Output.Contains("once0", StringComparison.Ordinal));
    }

    private static async Task CreateAtBothAsync(NodeApi one, NodeApi two)
    {
        for (var round = 0; round < 8; round++)
        {
            var i = round;
            await OnceAsync($"name {i}", api => api.SendAsync(HttpMethod.Post, "/v1/networks", new JsonObject { ["name"] = $"once{i}" }));
            await OnceAsync($"VNI {i}", api => api.SendAsync(HttpMethod.Post, "/v1/networks", new JsonObject { ["name"] = Either(api, $"vni{i}"), ["vni"] = 7000 + i }));
            await OnceAsync($"subnet {i}", api => api.SendAsync(HttpMethod.Post, "/v1/networks", new JsonObject { ["name"] = Either(api, $"subnet{i}"), ["subnet"] = $"10.77.{i}.0/24" }));
            await OnceAsync($"address {i}", api => api.SendAsync(HttpMethod.Post, "/v1/services", new JsonObject { ["name"] = Either(api, $"address{i}"), ["network"] = ManagersCluster.Network, ["ports"] = new JsonArray("80"), ["vip"] = $"10.10.0.{200 + i}" }));
        }
        // Addresses nobody asked for by name: all different, and every request gets one.
        var answers = await Task.WhenAll(Enumerable.Range(0, 20).SelectMany(i => new[] { one, two }.Select(api =>
            api.SendAsync(HttpMethod.Post, "/v1/services", new JsonObject { ["name"] = Either(api, $"many{i}"), ["network"] = ManagersCluster.Network, ["ports"] = new JsonArray("80") }))));
        Assert.All(answers, a => Assert.True(a.Status == HttpStatusCode.Created, $"{a.Status} {a.Body}"));
        Assert.Equal(answers.Length, answers.Select(a => (string)a.Body!["vip4"]!).Distinct().Count());

        string Either(NodeApi api, string name) => name + (api == one ? "a" : "b");
        async Task OnceAsync(string what, Func<NodeApi, Task<(HttpStatusCode Status, JsonNode? Body, string Read)>> create)
        {
            var both = await Task.WhenAll(create(one), create(two));
            var said = $"{what}: {string.Join(" and ", both.Select(b => $"{(int)b.Status} {b.Body?["code"]}"))}";
            Assert.True(both.Count(b => b.Status == HttpStatusCode.Created) == 1, said);
            Assert.True(both.Count(b => b.Status == HttpStatusCode.Conflict) == 1, said);
        }
    }

    /// <summary>Superseded values fill the store; what is refused passes again without anybody's help.</summary>
    private static async Task FillAsync(NodeApi one, NodeApi two)
    {
        var refused = false;
        for (var i = 0; i < 400 && !refused; i++)
        {
            var labels = new JsonObject();
            for (var label = 0; label < 40; label++)
                labels[$"filler{label}"] = new string((char)('a' + (i % 26)), 3000);
            var (status, body, _) = await one.SendAsync(HttpMethod.Patch, "/v1/nodes/node1", new JsonObject { ["labels"] = labels });
            refused = status != HttpStatusCode.OK;
            if (refused)
                Assert.True(status == HttpStatusCode.ServiceUnavailable && body!.ToString().Contains("space", StringComparison.Ordinal), $"{status} {body}");
        }
        Assert.True(refused, "the store took everything");
        Wait.Until("writes pass again", () => two.SendAsync(HttpMethod.Patch, "/v1/nodes/node1", new JsonObject { ["labels"] = new JsonObject() }).GetAwaiter().GetResult().Status == HttpStatusCode.OK, TimeSpan.FromSeconds(60));
    }
}
