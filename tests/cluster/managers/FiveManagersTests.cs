using System.Net;
using OverlayNet.ClusterTests.Harness;

namespace OverlayNet.ClusterTests.Managers;

/// <summary>Five managers bear the loss of two; of three only names and VIPs.</summary>
public sealed class FiveManagersTests
{
    [Fact]
    public async Task Two_of_five_managers_may_die_and_with_the_third_only_writing_ends()
    {
        using var world = new ManagersCluster(workers: 1, count: 5);
        var nodes = world.Nodes;
        var client = world.Populate(nodes[5]);
        ManagersCluster.UntilVoters(nodes[0], 5);
        Assert.Equal(2, (int)ManagersCluster.Managers(nodes[0])["canLose"]!);
        var steady = client.AskSteadily("http://web/");

        using (var writer = new SteadyWriter("five", nodes[0], nodes[1], nodes[2]))
        {
            Wait.Until("some writes", () => writer.Acknowledged.Count > 5);
            ManagersCluster.KillManager(nodes[3]);
            ManagersCluster.KillManager(nodes[4]);
            var before = writer.Acknowledged.Count;
            Wait.Until("writes go on", () => writer.Acknowledged.Count > before + 20, seen: () => string.Join('\n', writer.Refusals));
            writer.Stop();
            Assert.Empty(writer.Refusals);
        }
        Assert.Equal(0, (int)ManagersCluster.Managers(nodes[0])["canLose"]!);

        ManagersCluster.KillManager(nodes[2]);
        using var api = new NodeApi(nodes[0]);
        Wait.Until("reads say that they are stale", () => api.SendAsync(HttpMethod.Get, "/v1/networks").GetAwaiter().GetResult() is { Status: HttpStatusCode.OK, Read: "stale" });
        var (status, error, _) = await api.CreateNetworkAsync("refused", "10.99.0.0/24");
        Assert.Equal((HttpStatusCode.ServiceUnavailable, "no-store"), (status, (string?)error!["code"]));
        Assert.NotNull(error["remedy"]);
        Assert.Equal(20, client.Ask("http://web/", 20).Count);
        var fared = steady.Finish();
        Assert.True(fared.Failed == 0 && fared.HeldError is null, $"{string.Join('\n', fared.Errors)}\n{fared.HeldError}");
    }
}
