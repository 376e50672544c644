using System.Net;
using OverlayNet.Kernel;
using OverlayNet.Kernel.Netlink;
using OverlayNet.Overlay;

namespace OverlayNet.UnitTests.Overlay;

/// <summary>The difference of the static tables, against a model of what the kernel does with requests.</summary>
public sealed class ForwardingTablesTests
{
    private const int Bridge = 2, Vxlan = 3, Port = 4, Node = 5;

    [Fact]
    public void ARemoteEndpointIsOneFdbRequestAndOneNeighbourForEachAddress()
    {
        var tables = new ForwardingTables(Bridge, Vxlan);
        tables.Remote(new RemoteEndpoint { Mac = Mac(9), Vtep = Vtep(2), Addresses = [IPAddress.Parse("10.96.0.9"), IPAddress.Parse("fd00::9")] });
        var requests = tables.Difference([], []);
        var entry = Assert.IsType<FdbEntry>(requests[0].Subject);
        Assert.Equal((Vxlan, Mac(9), Vtep(2), NeighbourFlags.Self | NeighbourFlags.Master), (entry.Interface, entry.Mac, entry.Vtep, entry.Flags));
        Assert.Equal(["10.96.0.9", "fd00::9"], requests[1..].Select(request => ((Neighbour)request.Subject).Address.ToString()));
        Assert.All(requests[1..], request => Assert.Equal((Bridge, Mac(9), NeighbourState.Permanent), Parts((Neighbour)request.Subject)));
    }

    [Fact]
    public void OnlyTheTableThatDiffersIsWritten()
    {
        var tables = new ForwardingTables(Bridge, Vxlan);
        tables.Remote(new RemoteEndpoint { Mac = Mac(9), Vtep = Vtep(2) });
        var master = new FdbEntry { Interface = Vxlan, Mac = Mac(9), State = NeighbourState.NoArp, Flags = NeighbourFlags.None, Bridge = Bridge };
        var self = new FdbEntry { Interface = Vxlan, Mac = Mac(9), State = NeighbourState.Permanent, Flags = NeighbourFlags.Self, Vtep = Vtep(2) };
        Assert.Empty(tables.Difference([master, self], []));
        Assert.Equal(NeighbourFlags.Self, Assert.IsType<FdbEntry>(Assert.Single(tables.Difference([master], [])).Subject).Flags);
        Assert.Equal(NeighbourFlags.Master, Assert.IsType<FdbEntry>(Assert.Single(tables.Difference([self], [])).Subject).Flags);
        Assert.Equal(Vtep(2), Assert.IsType<FdbEntry>(Assert.Single(tables.Difference([master, self with { Vtep = Vtep(7) }], [])).Subject).Vtep);
    }

    [Fact]
    public void WhatTheBridgeItselfHasAndWhatWasResolvedIsLeftAlone()
    {
        var tables = new ForwardingTables(Bridge, Vxlan);
        FdbEntry own = new() { Interface = Bridge, Mac = Mac(1), State = NeighbourState.Permanent, Flags = NeighbourFlags.None, Bridge = Bridge };
        FdbEntry multicast = new() { Interface = Bridge, Mac = MacAddress.Parse("33:33:00:00:00:01"), State = NeighbourState.Permanent, Flags = NeighbourFlags.Self };
        Neighbour resolved = new(Bridge, IPAddress.Parse("10.96.0.7"), Mac(7), NeighbourState.Reachable);
        Neighbour elsewhere = new(Node, IPAddress.Parse("10.96.0.8"), Mac(8));
        Assert.Empty(tables.Difference([own, multicast], [resolved, elsewhere]));
        // Learnt while learning was on by accident, and the default entry that would flood.
        FdbEntry learnt = new() { Interface = Port, Mac = Mac(66), State = NeighbourState.Reachable, Flags = NeighbourFlags.None, Bridge = Bridge };
        FdbEntry flood = new() { Interface = Vxlan, Mac = default, State = NeighbourState.Permanent, Flags = NeighbourFlags.Self, Vtep = Vtep(2) };
        Assert.Equal(2, tables.Difference([learnt, flood], []).Count(request => request.Verb.StartsWith("delete", StringComparison.Ordinal)));
    }

    [Fact]
    public void APortWinsOverAnOlderPlaceElsewhere()
    {
        var tables = new ForwardingTables(Bridge, Vxlan);
        tables.Local(Mac(9), Port);
        tables.Remote(new RemoteEndpoint { Mac = Mac(9), Vtep = Vtep(2), Addresses = [IPAddress.Parse("10.96.0.9")] });
        var entry = Assert.IsType<FdbEntry>(Assert.Single(tables.Difference([], [])).Subject);
        Assert.Equal((Port, null, NeighbourFlags.Master), (entry.Interface, entry.Vtep, entry.Flags));
    }

    [Fact]
    public void AnAddressOfNobodyIsAnsweredForAndLeadsNowhere()
    {
        var tables = new ForwardingTables(Bridge, Vxlan);
        tables.Extra(new ExtraNeighbour(IPAddress.Parse("10.96.0.200"), Mac(200)));
        var requests = tables.Difference([], []);
        Assert.Equal(NeighbourFlags.Master, ((FdbEntry)requests[0].Subject).Flags);
        Assert.Equal(Mac(200), ((Neighbour)requests[1].Subject).Mac);
    }

    [Fact]
    public void FromAnyStateOneDifferenceLeadsToTheDesiredOneAndASecondIsEmpty()
    {
        var random = new Random(4711);
        for (var round = 0; round < 2000; round++)
        {
            var kernel = new Model();
            kernel.Do(Random(random).Difference([], []));
            kernel.Damage(random);
            var desired = Random(random);
            kernel.Do(desired.Difference(kernel.Fdb, kernel.Neighbours));
            Assert.Empty(desired.Difference(kernel.Fdb, kernel.Neighbours));
            var fresh = new Model();
            fresh.Do(desired.Difference([], []));
            Assert.Equal(fresh.Fdb.Select(Text).Order(), kernel.Fdb.Select(Text).Order());
            Assert.Equal(fresh.Neighbours.Select(n => n.ToString()).Order(), kernel.Neighbours.Select(n => n.ToString()).Order());
        }
    }

    private static string Text(FdbEntry entry) => $"{entry.Mac} {entry.Interface} {entry.Vtep} {entry.Flags & NeighbourFlags.Self}";

    private static ForwardingTables Random(Random random)
    {
        var tables = new ForwardingTables(Bridge, Vxlan);
        for (var i = random.Next(4); i > 0; i--)
            tables.Local(Mac(random.Next(8)), random.Next(2) == 0 ? Port : Node);
        for (var i = random.Next(6); i > 0; i--)
            tables.Remote(new RemoteEndpoint { Mac = Mac(random.Next(8)), Vtep = Vtep(random.Next(3)), Addresses = [new IPAddress([10, 96, 0, (byte)random.Next(8)])] });
        for (var i = random.Next(2); i > 0; i--)
            tables.Extra(new ExtraNeighbour(new IPAddress([10, 96, 1, (byte)random.Next(4)]), Mac(random.Next(8)), random.Next(2) == 0 ? null : Vtep(1)));
        return tables;
    }

    private static MacAddress Mac(int number) => new(0x024200000000ul | (uint)number);

    private static IPAddress Vtep(int number) => new([198, 51, 100, (byte)number]);

    private static (int, MacAddress?, NeighbourState) Parts(Neighbour neighbour) => (neighbour.Interface, neighbour.Mac, neighbour.State);

    /// <summary>The kernel's tables, as far as static entries go.</summary>
    private sealed class Model
    {
        private readonly Dictionary<MacAddress, int> bridge = [];
        private readonly Dictionary<MacAddress, IPAddress?> vxlan = [];
        private readonly Dictionary<IPAddress, Neighbour> table = [];

        internal IEnumerable<FdbEntry> Fdb =>
        [
            .. bridge.Select(pair => new FdbEntry { Interface = pair.Value, Mac = pair.Key, State = NeighbourState.NoArp, Flags = NeighbourFlags.None, Bridge = Bridge }),
            .. vxlan.Select(pair => new FdbEntry { Interface = Vxlan, Mac = pair.Key, State = NeighbourState.Permanent, Flags = NeighbourFlags.Self, Vtep = pair.Value }),
        ];

        internal IEnumerable<Neighbour> Neighbours => table.Values;

        internal void Do(IEnumerable<RouteRequest> requests)
        {
            foreach (var request in requests)
            {
                var deletes = request.Verb.StartsWith("delete", StringComparison.Ordinal);
                switch (request.Subject)
                {
                    case FdbEntry entry when deletes:
                        Assert.True(!entry.Flags.HasFlag(NeighbourFlags.Master) || bridge.Remove(entry.Mac));
                        Assert.True(!entry.Flags.HasFlag(NeighbourFlags.Self) || vxlan.Remove(entry.Mac));
                        break;
                    case FdbEntry entry:
                        if (entry.Flags.HasFlag(NeighbourFlags.Master))
                            bridge[entry.Mac] = entry.Interface;
                        if (entry.Flags.HasFlag(NeighbourFlags.Self))
                            vxlan[entry.Mac] = Assert.IsType<IPAddress>(entry.Vtep);
                        break;
                    case Neighbour neighbour when deletes:
                        Assert.True(table.Remove(neighbour.Address));
                        break;
                    case Neighbour neighbour:
                        table[neighbour.Address] = neighbour;
                        break;
                }
            }
        }

        internal void Damage(Random random)
        {
            foreach (var mac in bridge.Keys.Where(_ => random.Next(3) == 0).ToList())
                bridge.Remove(mac);
            foreach (var mac in vxlan.Keys.Where(_ => random.Next(3) == 0).ToList())
                vxlan[mac] = Vtep(random.Next(10));
            foreach (var address in table.Keys.Where(_ => random.Next(3) == 0).ToList())
                table.Remove(address);
        }
    }
}
