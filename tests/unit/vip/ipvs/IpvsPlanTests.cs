using System.Net;
using System.Net.Sockets;
using OverlayNet.Kernel.Netlink;
using OverlayNet.Vip;
using OverlayNet.Vip.Balancers.Ipvs;

namespace OverlayNet.UnitTests.Vip.Ipvs;

public sealed class IpvsPlanTests
{
    private static readonly IPAddress Vip4 = IPAddress.Parse("10.96.0.10"), Vip6 = IPAddress.Parse("fd00:96::10");

    [Fact]
    public void One_service_for_each_port_and_family()
    {
        var plan = IpvsPlan.Of(Network(Service("web") with
        {
            Addresses = [Vip4, Vip6],
            Ports = [new VipPort(VipPort.Tcp, 80, 8080), new VipPort(VipPort.Udp, 53, 53)],
            RealServers = [Server("a", 1, 3), Server("b", 2, 0)],
        }));
        Assert.Equal(4, plan.Services.Count);
        Assert.Equal([Vip4, Vip6], plan.Addresses.OrderBy(address => address.AddressFamily));
        var web = plan.Services[IpvsServiceKey.Of(VipPort.Tcp, Vip4, 80)];
        Assert.Equal(
            [new IpvsDestination { Address = IPAddress.Parse("10.42.0.1"), Port = 80, Weight = 3 }, new IpvsDestination { Address = IPAddress.Parse("10.42.0.2"), Port = 80, Weight = 0 }],
            web.Destinations.Select(planned => planned.Destination));
        Assert.Equal(IPAddress.Parse("fd00:42::1"), plan.Services[IpvsServiceKey.Of(VipPort.Tcp, Vip6, 80)].Destinations[0].Destination.Address);
    }

    [Fact]
    public void A_udp_server_with_weight_zero_is_out_at_once()
    {
        var plan = IpvsPlan.Of(Network(Service("dns") with
        {
            Ports = [new VipPort(VipPort.Udp, 53, 53)],
            RealServers = [Server("a", 1, 1), Server("b", 2, 0)],
        }));
        Assert.Equal("a", Assert.Single(Assert.Single(plan.Services.Values).Destinations).Server.EndpointId);
    }

    [Fact]
    public void A_service_without_ports_gets_a_mark_for_each_protocol()
    {
        var plan = IpvsPlan.Of(Network(Service("all") with { Addresses = [Vip4, Vip6], RealServers = [Server("a", 1, 1)] }));
        Assert.Equal(4, plan.Marks.Count);
        var tcp = plan.Marks[(Vip4, VipPort.Tcp)];
        Assert.Equal(tcp, plan.Marks[(Vip6, VipPort.Tcp)]);
        Assert.Equal(tcp | 1, plan.Marks[(Vip4, VipPort.Udp)]);
        Assert.NotEqual(tcp, tcp | 1);
        Assert.Equal(0, plan.Services[IpvsServiceKey.OfMark(AddressFamily.InterNetwork, tcp)].Destinations[0].Destination.Port);
    }

    [Fact]
    public void Marks_never_collide_and_stay_when_others_come()
    {
        var few = Enumerable.Range(0, 50).Select(i => Service($"s{i}") with { Addresses = [new IPAddress([10, 96, 1, (byte)i])] }).ToArray();
        var many = few.Concat(Enumerable.Range(0, 3000).Select(i => Service($"x{i}") with { Addresses = [new IPAddress([10, 97, (byte)(i >> 8), (byte)i])] })).ToArray();
        var before = IpvsPlan.Of(Network(few)).Marks;
        var after = IpvsPlan.Of(Network(many)).Marks;
        Assert.Equal(after.Count, after.Values.Distinct().Count());
        Assert.All(before, mark => Assert.Equal(mark.Value, after[mark.Key]));
    }

    [Theory]
    [InlineData("wrr", 0, IpvsServiceFlags.None)]
    [InlineData("wrr", 300, IpvsServiceFlags.Persistent)]
    [InlineData("sh", 0, IpvsServiceFlags.SchedulerFallback)]
    [InlineData("mh", 60, IpvsServiceFlags.SchedulerFallback | IpvsServiceFlags.Persistent)]
    public void Scheduler_and_affinity_become_flags(string scheduler, int affinity, IpvsServiceFlags flags)
    {
        var plan = IpvsPlan.Of(Network(Service("web") with { Ports = [new VipPort(VipPort.Tcp, 80, 80)], Scheduler = scheduler, AffinitySeconds = affinity }));
        var service = Assert.Single(plan.Services.Values).Service;
        Assert.Equal((scheduler, flags, affinity), (service.Scheduler, service.Flags, service.PersistenceSeconds));
    }

    [Fact]
    public void A_server_without_an_address_of_the_family_is_left_out()
    {
        var plan = IpvsPlan.Of(Network(Service("web") with
        {
            Addresses = [Vip6],
            Ports = [new VipPort(VipPort.Tcp, 80, 80)],
            RealServers = [Server("a", 1, 1) with { Address6 = null }],
        }));
        Assert.Empty(Assert.Single(plan.Services.Values).Destinations);
    }

    internal static VipNetwork Network(params VipService[] services) =>
        new() { Id = "n1", Name = "front", Vni = 42, Netns = "on-test-front", Services = services };

    internal static VipService Service(string id) => new() { Id = id, Name = id, Addresses = [Vip4] };

    internal static RealServer Server(string id, byte host, int weight) => new()
    {
        EndpointId = id,
        Address4 = new IPAddress([10, 42, 0, host]),
        Address6 = IPAddress.Parse($"fd00:42::{host:x}"),
        Weight = weight,
    };
}
