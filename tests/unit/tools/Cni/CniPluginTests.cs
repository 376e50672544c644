using System.Text;
using System.Text.Json.Nodes;
using OverlayNet.Tools.Cni;

namespace OverlayNet.UnitTests.Tools.Cni;

public sealed class CniPluginTests
{
    private const string Config = """{"cniVersion":"1.0.0","name":"app","type":"overlaynet"}""";

    private static (int Code, JsonNode? Output) Run(string input, params (string Name, string Value)[] environment)
    {
        using var output = new MemoryStream();
        var variables = environment.ToDictionary(pair => pair.Name, pair => pair.Value);
        var code = CniPlugin.Run(variables.GetValueOrDefault, new MemoryStream(Encoding.UTF8.GetBytes(input)), output);
        var text = Encoding.UTF8.GetString(output.ToArray());
        return (code, text.Length == 0 ? null : JsonNode.Parse(text));
    }

    [Theory]
    [InlineData("", "1.1.0")]
    [InlineData("""{"cniVersion":"0.4.0"}""", "0.4.0")]
    public void VERSION_needs_no_daemon(string input, string version)
    {
        var (code, output) = Run(input, ("CNI_COMMAND", "VERSION"), ("OVERLAYNET_SOCKET", "/nowhere.sock"));

        Assert.Equal(0, code);
        Assert.Equal(version, (string)output!["cniVersion"]!);
        Assert.Equal(["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"], output["supportedVersions"]!.AsArray().Select(v => (string)v!));
    }

    [Theory]
    [InlineData("ADD", 11)]
    [InlineData("DEL", 11)]
    [InlineData("STATUS", 50)]
    public void Without_a_daemon_the_error_names_its_socket_and_what_to_do(string command, int expected)
    {
        var (code, output) = Run(Config, ("CNI_COMMAND", command), ("OVERLAYNET_SOCKET", "/nowhere.sock"));

        Assert.Equal(1, code);
        Assert.Equal(expected, (int)output!["code"]!);
        Assert.Equal("1.0.0", (string)output["cniVersion"]!);
        Assert.Contains("/nowhere.sock", (string)output["msg"]!, StringComparison.Ordinal);
        Assert.Contains("systemctl start overlaynetd", (string)output["details"]!, StringComparison.Ordinal);
    }

    [Fact]
    public void A_person_who_starts_it_is_told_what_it_is()
    {
        var (code, output) = Run("");

        Assert.Equal((1, 4), (code, (int)output!["code"]!));
        Assert.Contains("overlaynet attach", (string)output["details"]!, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("")]
    [InlineData("{")]
    [InlineData("[]")]
    public void Input_that_is_no_configuration_is_a_decoding_error(string input) =>
        Assert.Equal(6, (int)Run(input, ("CNI_COMMAND", "ADD")).Output!["code"]!);

    [Fact]
    public async Task A_call_goes_to_the_daemon_whole_and_its_answer_comes_back_as_it_is()
    {
        await using var daemon = (await FakeDaemon.Start()).On("POST /v1/cni", """{"cniVersion":"1.0.0","ips":[]}""");

        var (code, output) = Run(Config, ("CNI_COMMAND", "ADD"), ("CNI_CONTAINERID", "c1"), ("CNI_NETNS", "/run/netns/x"), ("CNI_IFNAME", "eth0"), ("CNI_ARGS", "K=V"), ("OVERLAYNET_SOCKET", daemon.Socket));

        Assert.Equal(0, code);
        Assert.Equal("""{"cniVersion":"1.0.0","ips":[]}""", output!.ToJsonString());
        Assert.True(daemon.Asked.TryDequeue(out var asked));
        Assert.Equal($$"""{"command":"ADD","containerId":"c1","netns":"/run/netns/x","ifName":"eth0","args":"K=V","config":{{Config}}}""", asked.Body);
    }

    [Fact]
    public async Task A_refusal_of_the_daemon_is_the_plugins_output_and_exit_code_1()
    {
        await using var daemon = (await FakeDaemon.Start()).On("POST /v1/cni", """{"cniVersion":"1.0.0","code":7,"msg":"no"}""", 422);

        // The configuration's own socket is taken before the environment's.
        var (code, output) = Run($$"""{"cniVersion":"1.0.0","name":"app","socket":"{{daemon.Socket}}"}""", ("CNI_COMMAND", "DEL"), ("OVERLAYNET_SOCKET", "/nowhere.sock"));

        Assert.Equal((1, 7), (code, (int)output!["code"]!));
    }

    [Theory]
    [InlineData("", true)]
    [InlineData("hello", false)]
    [InlineData("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{}", true)]
    [InlineData("HTTP/1.1 ok\r\n\r\n", false)]
    public void An_answer_that_is_not_whole_is_refused(string answer, bool away) =>
        Assert.Equal(away, Assert.Throws<DaemonCallException>(() => DaemonCall.Parse(Encoding.ASCII.GetBytes(answer))).Away);

    [Fact]
    public void Any_octets_as_an_answer_are_refused_or_read()
    {
        var random = new Random(5);
        for (var i = 0; i < 5000; i++)
        {
            var answer = Encoding.ASCII.GetBytes("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}");
            for (var changes = random.Next(4); changes >= 0; changes--)
                answer[random.Next(answer.Length)] = (byte)random.Next(256);
            try
            {
                DaemonCall.Parse(answer.AsSpan(0, random.Next(answer.Length + 1)));
            }
            catch (DaemonCallException)
            {
                // What it is for.
            }
        }
    }
}
