using System.Text.Json;
using System.Text.Json.Nodes;
using OverlayNet.Daemon.Runtimes.Cni;
using OverlayNet.UnitTests.Daemon.Planners;

namespace OverlayNet.UnitTests.Daemon.Runtimes;

public sealed class CniResultTests
{
    private static JsonObject Write(string version, string more = "", bool @internal = false)
    {
        var config = CniConfig.Parse(JsonDocument.Parse($$"""{"cniVersion":"{{version}}","name":"app"{{more}}}""").RootElement, null);
        var endpoint = TestRegistry.Endpoint("eeeeeeeeeeee", TestRegistry.NodeA, 7);
        return JsonNode.Parse(CniResult.Write(config, endpoint, TestRegistry.Network() with { Internal = @internal }, "overlay.internal", "/run/netns/x", "eth0", 1450))!.AsObject();
    }

    [Fact]
    public void Version_1_1_has_the_mtu_and_no_family()
    {
        var result = Write("1.1.0");

        Assert.Equal("""{"name":"eth0","mac":"02:00:00:00:00:07","sandbox":"/run/netns/x","mtu":1450}""", result["interfaces"]![0]!.ToJsonString());
        Assert.Equal("""{"address":"10.96.0.7/24","interface":0,"gateway":"10.96.0.1"}""", result["ips"]![0]!.ToJsonString());
        Assert.Equal("""{"address":"fd00:96::7/64","interface":0,"gateway":"fd00:96::1"}""", result["ips"]![1]!.ToJsonString());
        Assert.Equal("""[{"dst":"0.0.0.0/0","gw":"10.96.0.1"},{"dst":"::/0","gw":"fd00:96::1"}]""", result["routes"]!.ToJsonString());
        Assert.Equal("""{"nameservers":["10.96.0.1","fd00:96::1"],"search":["app.overlay.internal"],"options":["ndots:0"]}""", result["dns"]!.ToJsonString());
    }

    [Theory]
    [InlineData("0.3.1")]
    [InlineData("0.4.0")]
    public void Before_1_0_each_address_says_its_family(string version)
    {
        var result = Write(version);

        Assert.Equal(version, (string)result["cniVersion"]!);
        Assert.Equal(["4", "6"], result["ips"]!.AsArray().Select(ip => (string)ip!["version"]!));
        Assert.Null(result["interfaces"]![0]!["mtu"]);
    }

    [Fact]
    public void An_internal_network_has_no_default_route() => Assert.Empty(Write("1.0.0", @internal: true)["routes"]!.AsArray());

    [Fact]
    public void A_plugin_before_in_the_chain_keeps_what_it_did()
    {
        var result = Write("1.0.0", ""","prevResult":{"cniVersion":"1.0.0","interfaces":[{"name":"lo","sandbox":"/run/netns/x"}],"ips":[{"address":"127.0.0.1/8","interface":0}]}""");

        Assert.Equal(["lo", "eth0"], result["interfaces"]!.AsArray().Select(i => (string)i!["name"]!));
        Assert.Equal(["127.0.0.1/8", "10.96.0.7/24", "fd00:96::7/64"], result["ips"]!.AsArray().Select(i => (string)i!["address"]!));
        Assert.Equal([0, 1, 1], result["ips"]!.AsArray().Select(i => (int)i!["interface"]!));
    }

    [Fact]
    public void A_result_is_found_again_by_its_interface()
    {
        var result = JsonDocument.Parse(Write("1.0.0").ToJsonString()).RootElement;

        Assert.Equal(["10.96.0.7/24", "fd00:96::7/64"], CniResult.Find(result, "eth0")!.Value.Addresses);
        Assert.Null(CniResult.Find(result, "eth1"));
    }

    [Theory]
    [InlineData(null, "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef", "0123456789ab")]
    [InlineData(null, "default-Web_1", "default-web-1")]
    [InlineData("my_DB.example", "c1", "my-db-example")]
    public void Endpoints_are_named_after_their_containers(string? name, string containerId, string expected) =>
        Assert.Equal(expected, CniNames.EndpointName(name, containerId));

    [Fact]
    public void A_name_that_is_no_label_at_all_gives_way_to_the_container()
    {
        Assert.StartsWith("container-", CniNames.EndpointName("___", "c1"), StringComparison.Ordinal);
        Assert.StartsWith("container-", CniNames.EndpointName("tasks", "c1"), StringComparison.Ordinal);
        Assert.Equal(63, CniNames.Distinguished(new string('a', 63), "0123456789ab").Length);
    }

    [Fact]
    public void Ids_differ_by_node_network_container_and_interface()
    {
        var ids = new[] { CniNames.EndpointId("n", "a", "c", "eth0"), CniNames.EndpointId("m", "a", "c", "eth0"), CniNames.EndpointId("n", "b", "c", "eth0"), CniNames.EndpointId("n", "a", "d", "eth0"), CniNames.EndpointId("n", "a", "c", "eth1") };

        Assert.Equal(ids.Length, ids.Distinct().Count());
        Assert.Equal(ids[0], CniNames.EndpointId("n", "a", "c", "eth0"));
    }
}
