using OverlayNet.Daemon.Configuration;

namespace OverlayNet.UnitTests.Daemon.Configuration;

public sealed class ConfigurationLoaderTests : IDisposable
{
    private static readonly Dictionary<string, string> NoEnvironment = [];
    private readonly string _file = Path.Combine(Path.GetTempPath(), $"overlaynet-test-{Guid.NewGuid():N}.yaml");

    [Fact]
    public void Flags_override_environment_which_overrides_the_file()
    {
        File.WriteAllText(_file, "state: /from/file\nnode:\n  name: file-node\n  dc: dc9\nlisten:\n  port: 1000\n");
        var environment = new Dictionary<string, string> { ["OVERLAYNET_NODE_NAME"] = "env-node", ["OVERLAYNET_LISTEN_PORT"] = "2000" };

        var options = ConfigurationLoader.Load(["--config", _file, "--listen-port=3000"], environment);

        Assert.Equal("/from/file", options.State);
        Assert.Equal("env-node", options.NodeName);
        Assert.Equal("dc9", options.Dc);
        Assert.Equal(3000, options.ApiPort);
    }

    [Fact]
    public void Lists_are_read_from_yaml_sequences()
    {
        File.WriteAllText(_file, "dns:\n  upstreams: [10.0.0.53, '[2001:db8::1]:5353']\n  domains: [corp.example=10.0.0.54]\n");

        var options = ConfigurationLoader.Load(["--config", _file], NoEnvironment);

        Assert.Equal(["10.0.0.53:53", "[2001:db8::1]:5353"], options.Upstreams.Select(u => u.ToString()));
        Assert.Equal("corp.example", Assert.Single(options.DomainUpstreams).Domain);
    }

    [Theory]
    [InlineData("node: {nmae: x}", "node.nmae")]
    [InlineData("listen: {port: 70000}", "70000")]
    [InlineData("node: {address: 10.0.0}", "10.0.0")]
    [InlineData("vip: {balancer: fast}", "ipvs")]
    [InlineData("a: [", ", line ")]
    [InlineData("just text", "key: value")]
    public void A_bad_file_is_refused_with_what_is_wrong(string yaml, string named)
    {
        File.WriteAllText(_file, yaml);

        var refusal = Assert.Throws<ConfigurationException>(() => ConfigurationLoader.Load(["--config", _file], NoEnvironment));

        Assert.Contains(named, refusal.Message, StringComparison.Ordinal);
        Assert.Contains(_file, refusal.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_named_file_that_is_not_there_is_refused() =>
        Assert.Throws<ConfigurationException>(() => ConfigurationLoader.Load(["--config", "/does/not/exist"], NoEnvironment));

    public void Dispose() => File.Delete(_file);
}
