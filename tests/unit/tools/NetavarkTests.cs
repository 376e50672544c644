using System.Net;
using System.Text.Json.Nodes;
using OverlayNet.Contracts;
using OverlayNet.Tools.Cli;
using OverlayNet.Tools.Netavark;

namespace OverlayNet.UnitTests.Tools;

public sealed class NetavarkTests
{
    // As podman 5.4 passes them through netavark 1.14 for a network of driver overlaynet.
    private const string Created = """{"name":"front","id":"aa11","driver":"overlaynet","network_interface":"","subnets":null,"ipv6_enabled":false,"internal":false,"dns_enabled":true,"ipam_options":{"driver":"none"},"options":{"network":"app","service":"web"}}""";

    private const string Call =
        """
        {"container_id":"752947ff91f961eb3cb47ffe9315016979f3ffbec09e4d96a4fae3fb03391697","container_name":"My_Web.1","port_mappings":[],
         "network":{"name":"front","id":"aa11","driver":"overlaynet","options":{"network":"app","service":"web"}},
         "network_options":{"aliases":["752947ff91f9","db"],"interface_name":"eth1","static_ips":["10.10.0.50","fd00:10::50"],"static_mac":"0a:00:00:00:00:01"}}
        """;

    private static readonly Network App = new()
    {
        Id = "n",
        Name = "app",
        Vni = 4097,
        Subnet4 = IPNetwork.Parse("10.10.0.0/24"),
        Subnet6 = IPNetwork.Parse("fd00:10::/64"),
        Gateway4 = IPAddress.Parse("10.10.0.1"),
        Gateway6 = IPAddress.Parse("fd00:10::1"),
        GatewayMac = "02:00:00:00:00:01",
    };

    [Fact]
    public void Create_completes_the_network_and_leaves_podman_no_addresses_to_give()
    {
        var result = NetavarkPlugin.Create(NetavarkPlugin.Parse(Created), App);

        Assert.Equal(("front", "aa11", "overlaynet"), ((string)result["name"]!, (string)result["id"]!, (string)result["driver"]!));
        Assert.Equal("none", (string)result["ipam_options"]!["driver"]!);
        Assert.Equal("""[{"subnet":"10.10.0.0/24","gateway":"10.10.0.1"},{"subnet":"fd00:10::/64","gateway":"fd00:10::1"}]""", result["subnets"]!.ToJsonString());
        Assert.True((bool)result["ipv6_enabled"]!);
    }

    [Theory]
    [InlineData("""{"name":"app","options":{"colour":"blue"}}""", "colour=blue")]
    [InlineData("""{"name":"app","subnets":[{"subnet":"10.99.0.0/24"}]}""", "10.99.0.0/24")]
    public void Create_refuses_what_the_overlay_network_is_not(string podman, string named) =>
        Assert.Contains(named, Assert.Throws<CommandFailure>(() => NetavarkPlugin.Create(NetavarkPlugin.Parse(podman), App)).Message, StringComparison.Ordinal);

    [Fact]
    public void Setup_asks_for_what_podman_was_asked_for()
    {
        var request = NetavarkPlugin.Attach(NetavarkPlugin.Parse(Call), "/run/netns/x");

        Assert.Equal(("app", "web", "/run/netns/x", "my-web-1", "eth1"), (request.Network, request.Service, request.Netns, request.Name, request.Interface));
        Assert.Equal(("10.10.0.50", "fd00:10::50", "0a:00:00:00:00:01"), (request.Ip, request.Ip6, request.Mac));
        Assert.Equal("752947ff91f9,db", string.Join(',', request.Aliases!));
    }

    [Fact]
    public void Setups_answer_is_a_status_block()
    {
        var status = NetavarkPlugin.Status(new AttachResponse
        {
            Endpoint = new Endpoint { Id = "e", Name = "web", NodeId = "a", NetworkId = "n", Mac = "0a:00:00:00:00:01", Interface = "eth1", Address4 = IPAddress.Parse("10.10.0.50"), Address6 = IPAddress.Parse("fd00:10::50") },
            Network = App,
            Dns = [App.Gateway4!, App.Gateway6!],
            ClusterDomain = "overlay.internal",
        });

        Assert.Equal(
            """{"dns_search_domains":["app.overlay.internal"],"dns_server_ips":["10.10.0.1","fd00:10::1"],"interfaces":{"eth1":{"mac_address":"0a:00:00:00:00:01","subnets":[{"ipnet":"10.10.0.50/24","gateway":"10.10.0.1"},{"ipnet":"fd00:10::50/64","gateway":"fd00:10::1"}]}}}""",
            status.ToJsonString());
    }

    [Theory]
    [InlineData("")]
    [InlineData("[]")]
    public void Input_that_is_no_object_is_said_so(string input) => Assert.Throws<CommandFailure>(() => NetavarkPlugin.Parse(input));

    [Fact]
    public void The_network_is_podmans_name_where_no_option_says_another() =>
        Assert.Equal("app", NetavarkPlugin.NetworkOf(new JsonObject { ["name"] = "app", ["options"] = null }));
}
