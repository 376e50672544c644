using OverlayNet.Daemon.Agent;

namespace OverlayNet.UnitTests.Daemon.Agent;

/// <summary>Three thousand agents and three managers that are restarted one after the other, by simulation: each agent uses its own selector once a second.</summary>
public sealed class HomingTests
{
    private const int Agents = 3000;
    private static readonly Uri[] Managers = [new("https://192.0.2.1:7373"), new("https://192.0.2.2:7373"), new("https://192.0.2.3:7373")];

    [Fact]
    public void AfterARollingRestartEveryManagerHasItsShareAgainAndMeanwhileOnlyTheLostOnesAgentsMove()
    {
        var time = new ManualTime();
        var agents = Enumerable.Range(0, Agents).Select(i => new ManagerSelector(() => Managers, $"{i * 7919:x12}", () => null, time)).ToList();
        var home = Settle(agents, time, down: null, seconds: 1);
        AssertShares(home, Managers, 0.10);
        foreach (var restarted in Managers)
        {
            var during = Settle(agents, time, restarted, seconds: 20);
            // Who had another manager stays with it; the lost one's spread over both others.
            Assert.All(Enumerable.Range(0, Agents).Where(i => home[i] != restarted), i => Assert.Equal(home[i], during[i]));
            AssertShares([.. Enumerable.Range(0, Agents).Where(i => home[i] == restarted).Select(i => during[i])], [.. Managers.Where(m => m != restarted)], 0.15);
            Assert.Equal(home, Settle(agents, time, down: null, seconds: 60));
        }
    }

    private static List<Uri> Settle(List<ManagerSelector> agents, ManualTime time, Uri? down, int seconds)
    {
        var used = new List<Uri>();
        for (var second = 0; second < seconds; second++)
        {
            time.Advance(TimeSpan.FromSeconds(1));
            used.Clear();
            foreach (var agent in agents)
            {
                var order = agent.Order();
                var manager = order[0];
                if (manager == down)
                {
                    agent.Failed(manager);
                    manager = order[1];
                }
                agent.Succeeded(manager);
                used.Add(manager);
            }
        }
        return used;
    }

    private static void AssertShares(List<Uri> used, IReadOnlyList<Uri> managers, double tolerance)
    {
        var fair = (double)used.Count / managers.Count;
        Assert.All(managers, manager => Assert.InRange(used.Count(u => u == manager), fair * (1 - tolerance), fair * (1 + tolerance)));
    }
}
