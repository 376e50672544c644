using OverlayNet.Contracts;
using OverlayNet.Daemon.Registry;

namespace OverlayNet.UnitTests.Daemon.Registry;

/// <summary>Every refusal names field, value and remedy, and leaves nothing behind.</summary>
public sealed class ValidationTests
{
    private static NetworkCreateRequest Net(string name = "net") => new() { Name = name };

    private static ServiceCreateRequest Svc(string name = "web") => new() { Name = name, Network = "base" };

    private static EndpointCreateRequest Ep(string name = "c1") => RegistryFixture.Endpoint(name, "base");

    public static TheoryData<string, string, string> Networks() => new()
    {
        { nameof(NetworkCreateRequest.Name), "", "invalid-name" },
        { nameof(NetworkCreateRequest.Name), "Web", "invalid-name" },
        { nameof(NetworkCreateRequest.Name), "-web", "invalid-name" },
        { nameof(NetworkCreateRequest.Name), "web.x", "invalid-name" },
        { nameof(NetworkCreateRequest.Name), "tasks", "invalid-name" },
        { nameof(NetworkCreateRequest.Name), new string('a', 64), "invalid-name" },
        { nameof(NetworkCreateRequest.Name), "wéb", "invalid-name" },
        { nameof(NetworkCreateRequest.Subnet), "10.1.0.0", "invalid-subnet" },
        { nameof(NetworkCreateRequest.Subnet), "10.1.0.0/33", "invalid-subnet" },
        { nameof(NetworkCreateRequest.Subnet), "10.1.0.0/-1", "invalid-subnet" },
        { nameof(NetworkCreateRequest.Subnet), "10.1.0.0/+24", "invalid-subnet" },
        { nameof(NetworkCreateRequest.Subnet), "10.1/16", "invalid-subnet" },
        { nameof(NetworkCreateRequest.Subnet), "010.1.0.0/16", "invalid-subnet" },
        { nameof(NetworkCreateRequest.Subnet), "10.1.0.5/24", "invalid-subnet" },
        { nameof(NetworkCreateRequest.Subnet), "10.1.0.0/30", "invalid-subnet" },
        { nameof(NetworkCreateRequest.Subnet), "10.0.0.0/7", "invalid-subnet" },
        { nameof(NetworkCreateRequest.Subnet), "127.0.0.0/24", "invalid-subnet" },
        { nameof(NetworkCreateRequest.Subnet), "169.254.1.0/24", "invalid-subnet" },
        { nameof(NetworkCreateRequest.Subnet), "239.0.0.0/24", "invalid-subnet" },
        { nameof(NetworkCreateRequest.Subnet), "fd00::/64", "invalid-subnet" },
        { nameof(NetworkCreateRequest.Subnet), "rubbish", "invalid-subnet" },
        { nameof(NetworkCreateRequest.Subnet), "172.17.5.0/24", "subnet-overlaps-host" },
        { nameof(NetworkCreateRequest.Subnet), "192.0.0.0/8", "subnet-overlaps-host" },
        { nameof(NetworkCreateRequest.Subnet), "10.200.0.0/25", "subnet-overlap" },
        { nameof(NetworkCreateRequest.Subnet6), "10.1.0.0/24", "invalid-subnet" },
        { nameof(NetworkCreateRequest.Subnet6), "fe80::/64", "invalid-subnet" },
        { nameof(NetworkCreateRequest.Subnet6), "fd00::1/64", "invalid-subnet" },
        { nameof(NetworkCreateRequest.Subnet6), "fd00::/127", "invalid-subnet" },
        { nameof(NetworkCreateRequest.Subnet6), "fd00:200::/80", "subnet-overlap" },
        { nameof(NetworkCreateRequest.IpRange), "10.1.0.0/25", "invalid-ip-range" },
        { nameof(NetworkCreateRequest.Gateway), "10.1.0.1", "invalid-gateway" },
        { nameof(NetworkCreateRequest.Gateway), "10.1.0", "invalid-address" },
        { nameof(NetworkCreateRequest.Gateway6), "10.1.0.1", "invalid-address" },
        { nameof(NetworkCreateRequest.Vni), "0", "invalid-vni" },
        { nameof(NetworkCreateRequest.Vni), "16777216", "invalid-vni" },
        { nameof(NetworkCreateRequest.Vni), "7", "vni-taken" },
        { nameof(NetworkCreateRequest.Mtu), "100", "invalid-mtu" },
        { nameof(NetworkCreateRequest.Mtu), "70000", "invalid-mtu" },
        { nameof(NetworkCreateRequest.Mtu), "1451", "mtu-too-large" },
        { nameof(NetworkCreateRequest.Encrypted), "true", "encrypted-unsupported" },
    };

    [Theory]
    [MemberData(nameof(Networks))]
    public Task ANetworkIsRefused(string field, string value, string code)
    {
        var request = field switch
        {
            nameof(NetworkCreateRequest.Name) => Net(value),
            nameof(NetworkCreateRequest.Subnet) => Net() with { Subnet = value },
            nameof(NetworkCreateRequest.Subnet6) => Net() with { Subnet6 = value },
            nameof(NetworkCreateRequest.IpRange) => Net() with { IpRange = value },
            nameof(NetworkCreateRequest.Gateway) => Net() with { Gateway = value },
            nameof(NetworkCreateRequest.Gateway6) => Net() with { Gateway6 = value, Subnet6 = "fd00::/64" },
            nameof(NetworkCreateRequest.Vni) => Net() with { Vni = int.Parse(value) },
            nameof(NetworkCreateRequest.Mtu) => Net() with { Mtu = int.Parse(value) },
            _ => Net() with { Encrypted = true },
        };
        return RefusedAsync(f => f.Registry.CreateNetworkAsync(request), field, value, code);
    }

    [Theory]
    [InlineData("10.2.0.0/25", "invalid-ip-range")]
    [InlineData("10.1.0.0/16", "invalid-ip-range")]
    [InlineData("10.1.0.5/25", "invalid-ip-range")]
    [InlineData("fd00::/64", "invalid-ip-range")]
    public Task AnIpRangeOutsideItsSubnetIsRefused(string range, string code) => RefusedAsync(
        f => f.Registry.CreateNetworkAsync(Net() with { Subnet = "10.1.0.0/24", IpRange = range }), "ipRange", range, code);

    [Theory]
    [InlineData("10.1.0.0", "invalid-gateway")]
    [InlineData("10.1.0.255", "invalid-gateway")]
    [InlineData("10.1.1.1", "invalid-gateway")]
    public Task AGatewayOutsideItsSubnetIsRefused(string gateway, string code) => RefusedAsync(
        f => f.Registry.CreateNetworkAsync(Net() with { Subnet = "10.1.0.0/24", Gateway = gateway }), "gateway", gateway, code);

    public static TheoryData<string, string, string> Services() => new()
    {
        { "name", "Web!", "invalid-name" },
        { "name", "taken", "name-taken" },
        { "name", "nick", "name-taken" },
        { "network", "nowhere", "not-found" },
        { "aliases", "a_b", "invalid-name" },
        { "aliases", "taken", "name-taken" },
        { "ports", "", "invalid-port" },
        { "ports", "0", "invalid-port" },
        { "ports", "65536", "invalid-port" },
        { "ports", "80/sctp", "invalid-port" },
        { "ports", "80:", "invalid-port" },
        { "ports", ":80", "invalid-port" },
        { "ports", "1:2:3", "invalid-port" },
        { "ports", "=80", "invalid-port" },
        { "ports", "123=80", "invalid-port" },
        { "ports", " 80", "invalid-port" },
        { "ports", "9000:90", "port-taken" },
        { "scheduler", "best", "invalid-scheduler" },
        { "affinitySeconds", "-1", "invalid-seconds" },
        { "drainSeconds", "86401", "invalid-seconds" },
        { "vip", "10.9.9.9", "address-outside-subnet" },
        { "vip", "10.200.0.1", "address-reserved" },
        { "vip", "10.200.0.2", "address-taken" },
        { "vip", "rubbish", "invalid-address" },
        { "vip6", "10.200.0.9", "invalid-address" },
    };

    [Theory]
    [MemberData(nameof(Services))]
    public Task AServiceIsRefused(string field, string value, string code)
    {
        var request = field switch
        {
            "name" => Svc(value),
            "network" => Svc() with { Network = value },
            "aliases" => Svc() with { Aliases = [value] },
            "ports" => Svc() with { Ports = [value] },
            "scheduler" => Svc() with { Scheduler = value },
            "affinitySeconds" => Svc() with { AffinitySeconds = int.Parse(value) },
            "drainSeconds" => Svc() with { DrainSeconds = int.Parse(value) },
            "vip" => Svc() with { Vip = value },
            _ => Svc() with { Vip6 = value },
        };
        return RefusedAsync(f => f.Registry.CreateServiceAsync(request), field, value, code);
    }

    [Fact]
    public async Task ModesAndPortsThatContradictAreRefused()
    {
        await RefusedAsync(
            f => f.Registry.CreateServiceAsync(Svc() with { EndpointMode = EndpointMode.Dnsrr, Ports = ["8080:80"] }),
            "ports", "8080:80", "publish-needs-vip");
        await RefusedAsync(
            f => f.Registry.CreateServiceAsync(Svc() with { EndpointMode = EndpointMode.Dnsrr, Vip = "10.200.0.50" }),
            "vip", "10.200.0.50", "vip-without-vip-mode");
        foreach (var ports in new[] { new[] { "80", "81:80" }, ["80:1", "80:2"], ["x=1", "x=2"] })
            await RefusedAsync(f => f.Registry.CreateServiceAsync(Svc() with { Ports = [.. ports] }), "ports", ports[1], "duplicate-port");
    }

    public static TheoryData<string, string, string> Endpoints() => new()
    {
        { "id", "A", "invalid-id" },
        { "id", "../../etc", "invalid-id" },
        { "name", "a b", "invalid-name" },
        { "network", "nowhere", "not-found" },
        { "service", "nothing", "not-found" },
        { "node", "nobody", "node-unknown" },
        { "ip", "10.200.0.2", "address-taken" },
        { "ip", "10.200.0.0", "address-reserved" },
        { "ip", "10.200.0.255", "address-reserved" },
        { "ip", "10.1.1.1", "address-outside-subnet" },
        { "ip", "10.200.0.300", "invalid-address" },
        { "ip6", "fd00:200::", "address-reserved" },
        { "ip6", "fe80::1%eth0", "invalid-address" },
        { "ip6", "::ffff:10.0.0.1", "invalid-address" },
        { "weight", "-1", "invalid-weight" },
        { "weight", "65536", "invalid-weight" },
        { "interface", "lo", "invalid-interface" },
        { "interface", "a/b", "invalid-interface" },
        { "interface", "0123456789abcdef", "invalid-interface" },
        { "netns", "web", "invalid-netns" },
        { "kind", "node", "invalid-kind" },
    };

    [Theory]
    [MemberData(nameof(Endpoints))]
    public Task AnEndpointIsRefused(string field, string value, string code)
    {
        var request = field switch
        {
            "id" => Ep() with { Id = value },
            "name" => Ep() with { Name = value },
            "network" => Ep() with { Network = value },
            "service" => Ep() with { Service = value },
            "node" => Ep() with { NodeId = value },
            "ip" => Ep() with { Ip = value },
            "ip6" => Ep() with { Ip6 = value },
            "weight" => Ep() with { Weight = int.Parse(value) },
            "interface" => Ep() with { Interface = value },
            "netns" => Ep() with { Netns = value },
            _ => Ep() with { Kind = EndpointKind.Node },
        };
        return RefusedAsync(f => f.Registry.CreateEndpointAsync(request), field, value, code);
    }

    private static async Task RefusedAsync(Func<RegistryFixture, Task> action, string field, string value, string code)
    {
        await using var f = await RegistryFixture.StartAsync();
        await f.Registry.CreateNetworkAsync(new NetworkCreateRequest { Name = "base", Subnet = "10.200.0.0/24", Subnet6 = "fd00:200::/64", Vni = 7 });
        await f.Registry.CreateServiceAsync(new ServiceCreateRequest
        {
            Name = "taken",
            Network = "base",
            Ports = ["9000:90"],
            Aliases = ["nick"],
        });
        var before = f.Registry.Current.Revision;
        var refusal = await Assert.ThrowsAsync<RegistryException>(() => action(f));
        Assert.Equal(code, refusal.Error.Code);
        Assert.Equal(field, refusal.Error.Field, ignoreCase: true);
        Assert.StartsWith(refusal.Error.Field!, refusal.Error.Message);
        if (value.Length > 0)
        {
            Assert.Equal(value, refusal.Error.Value);
            Assert.Contains($"'{value}'", refusal.Error.Message);
        }
        Assert.False(string.IsNullOrWhiteSpace(refusal.Error.Remedy));
        Assert.InRange(refusal.Status, 400, 410);
        Assert.Equal(before, f.Registry.Current.Revision);
    }
}
