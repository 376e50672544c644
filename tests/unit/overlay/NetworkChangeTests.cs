using System.Net;
using OverlayNet.Kernel;
using OverlayNet.Overlay;

namespace OverlayNet.UnitTests.Overlay;

/// <summary>What is written without a look at the kernel, and what is left to a comparison.</summary>
public sealed class NetworkChangeTests
{
    private const int Bridge = 2, Vxlan = 3;
    private static readonly RemoteEndpoint Far = Remote(1), Farther = Remote(2);
    private static readonly LocalEndpoint Near = new() { Id = "near", HostInterface = "venear", Netns = "/run/netns/near", Mac = Mac(9), Address4 = IPAddress.Parse("10.1.0.9") };

    private static readonly OverlayNetwork Network = new()
    {
        Name = "app",
        Netns = "on-n1-app",
        Vni = 4242,
        Subnet4 = IPNetwork.Parse("10.1.0.0/24"),
        GatewayMac = Mac(254),
        Endpoints = [Near],
        Remotes = [Far],
    };

    [Fact]
    public void AnEndpointThatComesElsewhereIsItsTunnelEntryAndItsAddresses()
    {
        var change = NetworkChange.Between(Network, Network with { Remotes = [Far, Farther] })!;
        Assert.Equal(
            [$"replace FDB entry {Farther.Mac} at {Farther.Vtep} on link #{Vxlan}", $"replace neighbour {Describe(Farther, 0)}", $"replace neighbour {Describe(Farther, 1)}"],
            change.Additions(Bridge, Vxlan).Select(request => request.What));
        Assert.Empty(change.Removals(Bridge, Vxlan));
    }

    [Fact]
    public void AnEndpointThatGoesElsewhereTakesBothEntriesAndItsAddressesAlong()
    {
        var change = NetworkChange.Between(Network, Network with { Remotes = [] })!;
        Assert.Empty(change.Additions(Bridge, Vxlan));
        Assert.Equal(4, change.Removals(Bridge, Vxlan).Count);
    }

    [Fact]
    public void AnAddressThatIsGivenToAnotherKeepsItsNewEntry()
    {
        var heir = Far with { Mac = Mac(7) };
        var change = NetworkChange.Between(Network, Network with { Remotes = [heir] })!;
        Assert.Equal(3, change.Additions(Bridge, Vxlan).Count);
        Assert.DoesNotContain(change.Removals(Bridge, Vxlan), request => request.What.StartsWith("delete neighbour", StringComparison.Ordinal));
    }

    [Fact]
    public void AContainerThatLeavesNeedsNoComparison() =>
        Assert.NotNull(NetworkChange.Between(Network, Network with { Endpoints = [] }));

    [Fact]
    public void EverythingElseIsLeftToAComparison()
    {
        var other = Near with { Id = "other", HostInterface = "veother", Mac = Mac(8) };
        foreach (var after in new[]
        {
            Network with { Endpoints = [Near, other] },
            Network with { Endpoints = [Near with { Netns = "/run/netns/elsewhere" }] },
            Network with { Mtu = 1400 },
            Network with { Internal = true },
            Network with { Remotes = [Far with { Vtep = IPAddress.Parse("192.0.2.99") }] },
            Network with { Remotes = [Far with { Addresses = [] }] },
            // It moves: from this node to another.
            Network with { Endpoints = [], Remotes = [Far, Remote(3) with { Mac = Near.Mac }] },
        })
            Assert.Null(NetworkChange.Between(Network, after));
    }

    private static MacAddress Mac(int last) => MacAddress.Parse($"02:42:00:00:00:{last:x2}");

    private static RemoteEndpoint Remote(int number) => new()
    {
        Mac = Mac(number),
        Vtep = IPAddress.Parse($"192.0.2.{number}"),
        Addresses = [IPAddress.Parse($"10.1.0.{number}"), IPAddress.Parse($"fd00:1::{number}")],
    };

    private static string Describe(RemoteEndpoint remote, int address) => new OverlayNet.Kernel.Netlink.Neighbour(Bridge, remote.Addresses[address], remote.Mac).ToString();
}
