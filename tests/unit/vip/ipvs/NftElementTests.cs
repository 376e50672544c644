using System.Net;
using OverlayNet.Kernel;
using OverlayNet.Vip;
using OverlayNet.Vip.Balancers.Ipvs;
using static OverlayNet.UnitTests.Vip.Ipvs.IpvsPlanTests;

namespace OverlayNet.UnitTests.Vip.Ipvs;

public sealed class NftElementTests
{
    private static readonly VipTask Task = new()
    {
        EndpointId = "a",
        NetnsPath = "/run/netns/a",
        Interface = "eth0",
        BridgePort = "p1",
        Address4 = IPAddress.Parse("10.42.0.1"),
        Address6 = IPAddress.Parse("fd00:42::1"),
        Mac = new MacAddress(1),
    };

    [Fact]
    public void A_task_translates_the_ports_of_its_services_in_the_families_it_has()
    {
        var network = Network(
            Service("web") with { Addresses = [IPAddress.Parse("10.96.0.1"), IPAddress.Parse("fd00:96::1")], Ports = [new VipPort(VipPort.Tcp, 80, 8080)], RealServers = [Server("a", 1, 1)] },
            Service("all") with { Addresses = [IPAddress.Parse("10.96.0.2")], RealServers = [Server("a", 1, 0)] },
            Service("other") with { Addresses = [IPAddress.Parse("10.96.0.3")], RealServers = [Server("b", 2, 1)] });
        Assert.Equal(
            ["allports4 10.96.0.2", "tcp 10.96.0.1:80 to port 8080", "tcp [fd00:96::1]:80 to port 8080", "vips4 10.96.0.1", "vips4 10.96.0.2", "vips6 fd00:96::1"],
            TaskTable.Elements(network, Task).Select(TaskTable.Describe).Order(StringComparer.Ordinal));
        Assert.DoesNotContain(TaskTable.Elements(network, Task with { Address6 = null }), element => element.Set.EndsWith('6'));
        Assert.Empty(TaskTable.Elements(network, Task with { EndpointId = "c" }));
    }

    [Fact]
    public void Another_address_of_the_task_is_another_layout()
    {
        var layout = TaskTable.Layout(42, Task);
        Assert.NotEqual(layout.Comment, TaskTable.Layout(42, Task with { Address4 = IPAddress.Parse("10.42.0.9") }).Comment);
        Assert.Equal(8, layout.Rules.Count);
        Assert.Equal(4, TaskTable.Layout(42, Task with { Address6 = null }).Rules.Count);
    }

    [Fact]
    public void The_director_marks_what_has_no_ports_and_closes_what_has_no_servers()
    {
        var vip = IPAddress.Parse("10.96.0.1");
        Assert.Equal(["closed4", "marks4", "marks4"], Sets(Service("all") with { Addresses = [vip], RealServers = [Server("a", 1, 0)] }));
        Assert.Equal(["marks4", "marks4"], Sets(Service("all") with { Addresses = [vip], RealServers = [Server("a", 1, 1)] }));
        Assert.Equal(["closedports4"], Sets(Service("web") with { Addresses = [vip], Ports = [new VipPort(VipPort.Tcp, 80, 80), new VipPort(VipPort.Udp, 53, 53)] }));
        Assert.Empty(Sets(Service("web") with { Addresses = [vip], Ports = [new VipPort(VipPort.Tcp, 80, 80)], RealServers = [Server("a", 1, 1)] }));

        static IEnumerable<string> Sets(VipService service) => DirectorTable.Elements(IpvsPlan.Of(Network(service))).Select(element => element.Set).Order(StringComparer.Ordinal);
    }
}
