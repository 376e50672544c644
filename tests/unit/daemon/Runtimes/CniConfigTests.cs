using System.Text.Json;
using OverlayNet.Daemon.Runtimes.Cni;

namespace OverlayNet.UnitTests.Daemon.Runtimes;

public sealed class CniConfigTests
{
    private static CniConfig Parse(string json, string? arguments = null) => CniConfig.Parse(JsonDocument.Parse(json).RootElement, arguments);

    [Fact]
    public void What_podman_sends_is_understood()
    {
        // As podman 4.3.1 calls a plugin that has these capabilities: aliases go by the network's name.
        var config = Parse(
            """{"cniVersion":"0.4.0","name":"app-web","type":"overlaynet","network":"app","service":"web","runtimeConfig":{"aliases":{"app-web":["db","0123456789ab"]},"ips":["10.10.0.50/24","fd00:10::50"],"mac":"0a:58:0a:0a:00:32"}}""",
            "IgnoreUnknown=1;K8S_POD_NAMESPACE=web1;K8S_POD_NAME=web1;K8S_POD_INFRA_CONTAINER_ID=x");

        Assert.Equal("app", config.Network);
        Assert.Equal("web", config.Service);
        Assert.Equal("web1", config.ContainerName);
        Assert.Equal(["db", "0123456789ab"], config.Aliases);
        Assert.Equal("10.10.0.50", config.Address4);
        Assert.Equal("fd00:10::50", config.Address6);
        Assert.Equal("0a:58:0a:0a:00:32", config.Mac);
    }

    [Fact]
    public void The_network_is_the_configurations_name_unless_said_otherwise() =>
        Assert.Equal("app", Parse("""{"cniVersion":"1.0.0","name":"app","type":"overlaynet"}""").Network);

    [Fact]
    public void Capabilities_beat_conventions_and_those_the_environment()
    {
        const string environment = "IP=10.0.0.3;MAC=0a:00:00:00:00:03";
        var conventional = Parse("""{"cniVersion":"1.0.0","name":"app","args":{"cni":{"ips":["10.0.0.2"],"labels":[{"key":"overlaynet.service","value":"web"}]}}}""", environment);
        Assert.Equal(("10.0.0.2", "0a:00:00:00:00:03", "web"), (conventional.Address4, conventional.Mac, conventional.Service));
        var capable = Parse("""{"cniVersion":"1.0.0","name":"app","args":{"cni":{"ips":["10.0.0.2"]}},"runtimeConfig":{"ips":["10.0.0.1"]}}""", environment);
        Assert.Equal("10.0.0.1", capable.Address4);
    }

    [Theory]
    [InlineData("""[]""", CniErrorCode.Decode, "not a JSON object")]
    [InlineData("""{"name":"app"}""", CniErrorCode.IncompatibleVersion, "0.1.0")]
    [InlineData("""{"cniVersion":"2.0.0","name":"app"}""", CniErrorCode.IncompatibleVersion, "2.0.0")]
    [InlineData("""{"cniVersion":"1.0.0"}""", CniErrorCode.InvalidConfig, "name")]
    [InlineData("""{"cniVersion":"1.0.0","name":"app","network":7}""", CniErrorCode.InvalidConfig, "network '7'")]
    [InlineData("""{"cniVersion":"1.0.0","name":"app","aliases":"db"}""", CniErrorCode.InvalidConfig, "aliases")]
    [InlineData("""{"cniVersion":"1.0.0","name":"app","ipam":{"type":"host-local"}}""", CniErrorCode.InvalidConfig, "ipam")]
    [InlineData("""{"cniVersion":"1.1.0","name":"app","cni.dev/valid-attachments":[{}]}""", CniErrorCode.InvalidConfig, "containerID")]
    public void Mistakes_are_named_with_the_specifications_code(string json, int code, string named)
    {
        var failure = Assert.Throws<CniException>(() => Parse(json));

        Assert.Equal(code, failure.Code);
        Assert.Contains(named, failure.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Arguments_that_are_no_pairs_are_an_invalid_environment() =>
        Assert.Equal(CniErrorCode.InvalidEnvironment, Assert.Throws<CniException>(() => Parse("""{"cniVersion":"1.0.0","name":"app"}""", "IgnoreUnknown")).Code);

    [Theory]
    [InlineData("CHECK", "0.3.1", false)]
    [InlineData("CHECK", "0.4.0", true)]
    [InlineData("GC", "1.0.0", false)]
    [InlineData("STATUS", "1.1.0", true)]
    public void Commands_need_the_version_they_came_with(string command, string version, bool allowed)
    {
        var failure = Record.Exception(() => CniVersions.RequireCommand(command, version));

        Assert.Equal(allowed, failure is null);
        Assert.Equal(allowed ? null : CniErrorCode.IncompatibleVersion, (failure as CniException)?.Code);
    }
}
