using System.Collections.Concurrent;
using System.Diagnostics;
using OverlayNet.ClusterTests.Kernel;
using OverlayNet.Kernel;
using OverlayNet.Overlay;

namespace OverlayNet.ClusterTests.Overlay;

/// <summary>What the monitor hears, and how soon.</summary>
public sealed class MonitorTests : IDisposable
{
    private readonly Underlay underlay = new(2);
    private readonly BlockingCollection<OverlayEvent> events = [];
    private readonly OverlayMonitor monitor;

    public MonitorTests() => monitor = new OverlayMonitor(NamedNamespaces.PathOf(underlay.Hosts[0].Name), events.Add);

    public void Dispose()
    {
        monitor.Dispose();
        underlay.Dispose();
        events.Dispose();
    }

    [Fact]
    public void TheEndOfANamespaceIsHeardAtOnceByItsNameAndByItsLink()
    {
        var host = underlay.Hosts[0];
        var named = underlay.Container("named");
        // A container of a runtime: a process in a namespace without a name.
        using var process = Shell.Start("unshare", "-n", "sleep", "1000");
        var path = $"/proc/{process.Id}/ns/net";
        WaitUntil(() => File.ResolveLinkTarget(path, false)?.Name != File.ResolveLinkTarget("/proc/self/ns/net", false)?.Name);
        var network = new TestNetwork("web", 5201).With(host, named, 11);
        var config = network.For(host, underlay.Hosts);
        config = config with { Endpoints = [.. config.Endpoints, config.Endpoints[0] with { Id = "web-12", HostInterface = "ve12", Netns = path, Mac = network.Mac(12), Address4 = network.Address4(12), Address6 = network.Address6(12) }] };
        host.Config = host.Config with { Networks = [config] };
        monitor.Watch(host.Config);
        Assert.All(host.Apply().Endpoints.Values, report => Assert.Equal(EndpointOutcome.Ready, report.Outcome));
        monitor.Watch(host.Config);

        process.Kill();
        process.WaitForExit();
        var clock = Stopwatch.StartNew();
        Assert.Equal(new EndpointVanished("web", "web-12"), Wait<EndpointVanished>());
        var byLink = clock.Elapsed;
        clock.Restart();
        underlay.RemoveContainer(named);
        Assert.Equal(new EndpointVanished("web", "web-11"), Wait<EndpointVanished>());
        Console.WriteLine($"heard the end of a process's namespace after {byLink.TotalMilliseconds:f1} ms, of a named one after {clock.Elapsed.TotalMilliseconds:f1} ms");
    }

    [Fact]
    public void ChangesByHandAreHeardAndMended()
    {
        var host = underlay.Hosts[0];
        var (a, b) = (underlay.Container("a"), underlay.Container("b"));
        var network = new TestNetwork("web", 5202).With(host, a, 11).With(underlay.Hosts[1], b, 12);
        underlay.Apply(network);
        monitor.Watch(host.Config);
        var netns = host.Netns("web");
        foreach (var damage in new[]
        {
            $"bridge -n {netns} fdb del 02:42:00:01:00:0c dev vx0 self",
            $"ip -n {netns} neigh del 10.96.1.12 dev br0",
            $"ip -n {netns} addr flush dev br0",
            $"ip -n {netns} link set vx0 down",
            $"ip -n {netns} link set vx0 type bridge_slave flood on",
            $"ip -n {netns} route del 10.96.1.0/24",
            $"ip -n {host.Name} link del oe{host.Config.NodeShortId}{5202:x6}",
            $"ip netns del {netns}",
        })
        {
            while (events.TryTake(out _, TimeSpan.FromMilliseconds(100)))
            {
            }
            Shell.Run(damage);
            Wait<OverlayChanged>(damage);
            Assert.NotEmpty(host.Apply().Changes);
            Assert.True(host.Apply().InSync, damage);
            monitor.Watch(host.Config);
            Cluster.AssertPing(a, network.Address4(12));
        }
    }

    [Fact]
    public void AnEndpointThatWasGoneBeforeWatchingIsReported()
    {
        var host = underlay.Hosts[0];
        var network = new TestNetwork("web", 5203).With(host, "ovt-no-such-container", 11);
        underlay.Apply(network);
        monitor.Watch(host.Config);
        Assert.Equal(new EndpointVanished("web", "web-11"), Wait<EndpointVanished>());
    }

    private T Wait<T>(string after = "") where T : OverlayEvent
    {
        while (events.TryTake(out var item, TimeSpan.FromSeconds(20)))
        {
            if (item is T wanted)
                return wanted;
        }
        throw new TimeoutException($"no {typeof(T).Name} after {after}");
    }

    private static void WaitUntil(Func<bool> condition)
    {
        var clock = Stopwatch.StartNew();
        while (!condition())
        {
            if (clock.Elapsed > TimeSpan.FromSeconds(20))
                throw new TimeoutException();
            Thread.Sleep(5);
        }
    }
}
