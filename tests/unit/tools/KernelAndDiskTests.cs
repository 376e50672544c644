using System.Globalization;

namespace OverlayNet.UnitTests.Tools;

/// <summary>Status and doctor without a daemon.</summary>
public sealed class KernelAndDiskTests : IDisposable
{
    private const string NoSocket = "/nonexistent/x.sock";
    private readonly string _state = Directory.CreateTempSubdirectory("overlaynet-test-").FullName;

    public void Dispose() => Directory.Delete(_state, recursive: true);

    [Fact]
    public async Task Dead_daemon_is_described_from_its_snapshot()
    {
        WriteState();

        var (code, output, _) = await Cli.Run("status", "--socket", NoSocket, "--state", _state);

        Assert.Equal(1, code);
        Assert.StartsWith("Daemon:   dead\n", output, StringComparison.Ordinal);
        Assert.Contains("node1 (zz9999aaaa)", output, StringComparison.Ordinal);
        Assert.Contains("42 known", output, StringComparison.Ordinal);
        Assert.Contains("namespace on-zz9999-app of network app is missing", output, StringComparison.Ordinal);
        Assert.Contains("namespace /run/netns/gone-for-good of endpoint web1 is gone", output, StringComparison.Ordinal);
        Assert.Contains("1/1", output, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Json_of_a_dead_daemon_is_a_status_report()
    {
        WriteState();

        var (code, output, _) = await Cli.Run("status", "--json", "--socket", NoSocket, "--state", _state);

        Assert.Equal(1, code);
        Assert.Contains("\"daemon\": \"dead\"", output, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Doctor_names_each_difference()
    {
        WriteState();

        var (code, output, _) = await Cli.Run("doctor", "--socket", NoSocket, "--state", _state);

        Assert.Equal(1, code);
        Assert.Contains("error: daemon.alive overlaynetd", output, StringComparison.Ordinal);
        Assert.Contains("on-zz9999-app", output, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("{", "{}")]
    [InlineData("[]", "[]")]
    [InlineData("{}", "{\"clusterId\":1}")]
    [InlineData("null", "")]
    public async Task Broken_files_are_said_not_thrown(string node, string snapshot)
    {
        WriteIdentity(node);
        File.WriteAllText(Path.Combine(_state, "snapshot.json"), snapshot);

        var (code, output, error) = await Cli.Run("status", "--socket", NoSocket, "--state", _state);

        Assert.Equal((1, ""), (code, error));
        Assert.Contains("node.json", output, StringComparison.Ordinal);
        Assert.Contains("snapshot.json", output, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_pid_that_is_somebody_else_now_does_not_make_the_daemon_look_alive()
    {
        File.WriteAllText(Path.Combine(_state, "daemon.pid"), Environment.ProcessId.ToString(CultureInfo.InvariantCulture) + "\n");

        var (_, output, _) = await Cli.Run("status", "--socket", NoSocket, "--state", _state);

        Assert.StartsWith("Daemon:   dead\n", output, StringComparison.Ordinal);
    }

    private void WriteIdentity(string json)
    {
        Directory.CreateDirectory(Path.Combine(_state, "identity"));
        File.WriteAllText(Path.Combine(_state, "identity", "node.json"), json);
    }

    private void WriteState()
    {
        WriteIdentity("""{"nodeId":"zz9999aaaa","nodeName":"node1"}""");
        File.WriteAllText(
            Path.Combine(_state, "snapshot.json"),
            """
            {"clusterId":"c1","clusterDomain":"overlay.internal","revision":42,
             "nodes":[{"id":"zz9999aaaa","name":"node1","dc":"dc1","address":"192.0.2.1","role":"manager"}],
             "networks":[{"id":"n1","name":"app","vni":4096,"subnet4":"10.10.0.0/24","gatewayMac":"02:00:00:00:00:01"}],
             "services":[{"id":"s1","name":"web","networkId":"n1","vip4":"10.10.0.2"}],
             "endpoints":[{"id":"e1","name":"web1","nodeId":"zz9999aaaa","networkId":"n1","serviceId":"s1","mac":"02:00:00:00:00:02","state":"healthy","netns":"/run/netns/gone-for-good"}]}
            """);
    }
}
