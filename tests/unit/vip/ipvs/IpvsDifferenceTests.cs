using System.Net;
using FsCheck;
using FsCheck.Fluent;
using OverlayNet.Kernel.Netlink;
using OverlayNet.Vip;
using OverlayNet.Vip.Balancers.Ipvs;
using static OverlayNet.UnitTests.Vip.Ipvs.IpvsPlanTests;

namespace OverlayNet.UnitTests.Vip.Ipvs;

public sealed class IpvsDifferenceTests
{
    private static readonly DateTimeOffset Start = new(2026, 1, 1, 0, 0, 0, TimeSpan.Zero);
    private readonly FakeTable table = new();
    private readonly DrainClock drains = new();

    [Fact]
    public void A_server_taken_away_drains_and_goes_with_its_last_connection()
    {
        Apply(Web(Server("a", 1, 1), Server("b", 2, 1)), Start);
        table.Connections(2, 3);
        var due = Apply(Web(Server("a", 1, 1)), Start.AddSeconds(1));
        Assert.Equal(["10.42.0.1 w1", "10.42.0.2 w0"], table.Lines());
        Assert.Equal(Start.AddSeconds(3), due);
        table.Connections(2, 0);
        Assert.Null(Apply(Web(Server("a", 1, 1)), Start.AddSeconds(3)));
        Assert.Equal(["10.42.0.1 w1"], table.Lines());
    }

    [Fact]
    public void At_the_deadline_a_server_goes_with_connections_left()
    {
        Apply(Web(Server("a", 1, 1), Server("b", 2, 1)), Start);
        table.Connections(2, 3);
        Apply(Web(Server("a", 1, 1)), Start);
        Apply(Web(Server("a", 1, 1)), Start.AddSeconds(29.9));
        Assert.Equal(2, table.Lines().Count);
        Apply(Web(Server("a", 1, 1)), Start.AddSeconds(30));
        Assert.Equal(["10.42.0.1 w1"], table.Lines());
    }

    [Fact]
    public void A_server_that_comes_back_while_it_drains_keeps_its_connections_and_its_next_deadline()
    {
        Apply(Web(Server("a", 1, 1), Server("b", 2, 1)), Start);
        table.Connections(2, 3);
        Apply(Web(Server("a", 1, 1)), Start);
        Apply(Web(Server("a", 1, 1), Server("b", 2, 5)), Start.AddSeconds(20));
        Assert.Equal(["10.42.0.1 w1", "10.42.0.2 w5"], table.Lines());
        Apply(Web(Server("a", 1, 1)), Start.AddSeconds(25));
        Apply(Web(Server("a", 1, 1)), Start.AddSeconds(50));
        Assert.Equal(2, table.Lines().Count);
    }

    [Fact]
    public void Weight_zero_ends_what_is_left_at_the_deadline_and_stays_out()
    {
        Apply(Web(Server("a", 1, 1), Server("b", 2, 1)), Start);
        table.Connections(2, 1);
        Assert.Equal(Start.AddSeconds(30), Apply(Web(Server("a", 1, 1), Server("b", 2, 0)), Start));
        Assert.Equal(["10.42.0.1 w1", "10.42.0.2 w0"], table.Lines());
        Apply(Web(Server("a", 1, 1), Server("b", 2, 0)), Start.AddSeconds(30));
        Assert.Equal(["10.42.0.1 w1"], table.Lines());
        Apply(Web(Server("a", 1, 1), Server("b", 2, 0)), Start.AddSeconds(35));
        Assert.Equal(["10.42.0.1 w1"], table.Lines());
        Apply(Web(Server("a", 1, 1), Server("b", 2, 2)), Start.AddSeconds(40));
        Assert.Equal(["10.42.0.1 w1", "10.42.0.2 w2"], table.Lines());
    }

    [Fact]
    public void Weight_zero_without_connections_stays_listed()
    {
        Apply(Web(Server("a", 1, 0)), Start);
        Apply(Web(Server("a", 1, 0)), Start.AddHours(1));
        Assert.Equal(["10.42.0.1 w0"], table.Lines());
        table.Clear();
        Apply(Web(Server("a", 1, 0)), Start.AddHours(2));
        Assert.Equal(["10.42.0.1 w0"], table.Lines());
    }

    [Fact]
    public void Udp_goes_at_once()
    {
        var dns = Service("dns") with { Ports = [new VipPort(VipPort.Udp, 53, 53)] };
        Apply(dns with { RealServers = [Server("a", 1, 1), Server("b", 2, 1)] }, Start);
        table.Connections(2, 9);
        Assert.Null(Apply(dns with { RealServers = [Server("a", 1, 1)] }, Start));
        Assert.Equal(["10.42.0.1 w1"], table.Lines());
    }

    [Fact]
    public void What_comes_is_in_place_before_anything_goes()
    {
        Apply(Web(Server("a", 1, 1)), Start);
        var changes = Changes(Web(Server("b", 2, 1)), Start);
        Assert.Equal([IpvsCommand.NewDestination, IpvsCommand.DeleteDestination], changes.Select(change => change.Command));
    }

    [Fact]
    public void A_process_that_adopts_a_table_grants_a_whole_deadline_again()
    {
        Apply(Web(Server("a", 1, 1), Server("b", 2, 1)), Start);
        table.Connections(2, 1);
        Apply(Web(Server("a", 1, 1)), Start);
        var successor = new DrainClock();
        table.Apply(Difference(Web(Server("a", 1, 1)), successor, Start.AddSeconds(29)));
        table.Apply(Difference(Web(Server("a", 1, 1)), successor, Start.AddSeconds(58)));
        Assert.Equal(2, table.Lines().Count);
        table.Apply(Difference(Web(Server("a", 1, 1)), successor, Start.AddSeconds(59)));
        Assert.Single(table.Lines());
    }

    [Fact]
    public void A_look_does_not_move_the_clock()
    {
        Apply(Web(Server("a", 1, 1), Server("b", 2, 1)), Start);
        table.Connections(2, 1);
        Difference(Web(Server("a", 1, 1)), drains.Copy(), Start);
        Apply(Web(Server("a", 1, 1)), Start.AddSeconds(20));
        Apply(Web(Server("a", 1, 1)), Start.AddSeconds(45));
        Assert.Equal(2, table.Lines().Count);
    }

    /// <summary>Whatever the table held, and whatever is wanted: one pass makes it so (up to what drains), and a second finds nothing to do.</summary>
    [Fact]
    public void One_pass_reaches_the_plan_and_a_second_changes_nothing() => Prop.ForAll(
        ArbMap.Default.ArbFor<(byte[], byte[])>(), sample =>
        {
            var from = IpvsPlan.Of(Network(Random(sample.Item1)));
            var to = IpvsPlan.Of(Network(Random(sample.Item2)));
            var kernel = new FakeTable();
            kernel.Apply(IpvsDifference.Between(from, kernel.Services, new DrainClock(), Start));
            var clock = new DrainClock();
            kernel.Apply(IpvsDifference.Between(to, kernel.Services, clock, Start));
            Assert.Equal(to.Services.Keys.ToHashSet(), kernel.Services.Keys.ToHashSet());
            foreach (var (key, planned) in to.Services)
            {
                Assert.Equal(planned.Service, kernel.Services[key].Service);
                Assert.Equal(planned.Destinations.Select(one => one.Destination).ToHashSet(), kernel.Services[key].Destinations.Select(one => one.Destination).ToHashSet());
            }
            Assert.Empty(IpvsDifference.Between(to, kernel.Services, clock, Start).Changes);
        }).Check(Config.QuickThrowOnFailure.WithReplay(0x51, 0x53));

    private static VipService[] Random(byte[] bytes) =>
    [
        .. bytes.Take(6).Select((seed, i) => Service($"s{seed % 9}-{i}") with
        {
            Addresses = [new IPAddress([10, 96, 0, (byte)(seed % 9)])],
            Ports = seed % 4 == 0 ? [] : [new VipPort(seed % 3 == 0 ? VipPort.Udp : VipPort.Tcp, (ushort)(80 + seed % 3), 80)],
            Scheduler = seed % 5 == 0 ? "sh" : "wrr",
            AffinitySeconds = seed % 7 == 0 ? 60 : 0,
            RealServers = [.. bytes.Skip(i).Take(5).Distinct().Select(server => Server($"e{server}", server, server % 4))],
        }),
    ];

    private static VipService Web(params RealServer[] servers) => Service("web") with { Ports = [new VipPort(VipPort.Tcp, 80, 80)], RealServers = servers };

    private IpvsDifference Difference(VipService service, DrainClock clock, DateTimeOffset now) =>
        IpvsDifference.Between(IpvsPlan.Of(Network(service)), table.Services, clock, now);

    private DateTimeOffset? Apply(VipService service, DateTimeOffset now)
    {
        var difference = Difference(service, drains, now);
        table.Apply(difference);
        return difference.NextDue;
    }

    private List<IpvsChange> Changes(VipService service, DateTimeOffset now) => [.. Difference(service, drains, now).Changes.Select(change => change.Change)];

    /// <summary>The kernel's rules about its table, and nothing else of it.</summary>
    private sealed class FakeTable
    {
        internal Dictionary<IpvsServiceKey, DirectorService> Services { get; } = [];

        internal void Clear() => Services.Clear();

        internal void Apply(IpvsDifference difference)
        {
            foreach (var (change, _) in difference.Changes)
            {
                var there = Services.GetValueOrDefault(change.Key);
                switch (change.Command)
                {
                    case IpvsCommand.NewService:
                        Assert.Null(there);
                        Services[change.Key] = new DirectorService(change.Service!, []);
                        break;
                    case IpvsCommand.SetService:
                        Services[change.Key] = there! with { Service = change.Service! };
                        break;
                    case IpvsCommand.DeleteService:
                        Assert.True(Services.Remove(change.Key));
                        break;
                    case IpvsCommand.NewDestination:
                        Assert.DoesNotContain(there!.Destinations, state => Same(state, change));
                        Services[change.Key] = there with { Destinations = [.. there.Destinations, new IpvsDestinationState(change.Destination!, 0, 0, 0, default)] };
                        break;
                    case IpvsCommand.SetDestination:
                        Assert.Single(there!.Destinations, state => Same(state, change));
                        Services[change.Key] = there with
                        {
                            Destinations = [.. there.Destinations.Select(state => Same(state, change) ? state with { Destination = change.Destination! } : state)],
                        };
                        break;
                    case IpvsCommand.DeleteDestination:
                        Assert.Single(there!.Destinations, state => Same(state, change));
                        Services[change.Key] = there with { Destinations = [.. there.Destinations.Where(state => !Same(state, change))] };
                        break;
                }
            }
        }

        internal void Connections(byte host, uint count)
        {
            foreach (var (key, service) in Services)
            {
                Services[key] = service with
                {
                    Destinations = [.. service.Destinations.Select(state => state.Destination.Address.GetAddressBytes()[^1] == host ? state with { ActiveConnections = count } : state)],
                };
            }
        }

        internal List<string> Lines() => [.. Services.Values.SelectMany(service => service.Destinations)
            .Select(state => $"{state.Destination.Address} w{state.Destination.Weight}").Order(StringComparer.Ordinal)];

        private static bool Same(IpvsDestinationState state, IpvsChange change) =>
            state.Destination.Address.Equals(change.Destination!.Address) && state.Destination.Port == change.Destination.Port;
    }
}
