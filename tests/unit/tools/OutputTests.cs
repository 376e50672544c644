using OverlayNet.Tools.Cli;

namespace OverlayNet.UnitTests.Tools;

/// <summary>What a person or a script gets to see: tables, errors with their remedy, exit codes, help.</summary>
public sealed class OutputTests
{
    [Fact]
    public void Table_aligns_columns_without_trailing_spaces()
    {
        var table = new Table("NAME", "VNI", "X");
        table.Add("a-long-name", "4096", "");
        table.Add("b", "7", "y");
        var output = new StringWriter();

        table.Write(output);

        Assert.Equal("NAME          VNI    X\na-long-name   4096\nb             7      y\n", output.ToString());
    }

    [Fact]
    public async Task Nodes_are_a_table_in_order_of_name()
    {
        await using var daemon = await FakeDaemon.Start();
        daemon.On("GET /v1/nodes", """[{"id":"bbbbbbbbbbbbbbbb","name":"node2","dc":"dc1","address":"192.0.2.2","state":"unmanaged","version":""},{"id":"aaaa","name":"node1","dc":"dc1","address":"192.0.2.1","role":"manager","version":"0.1.0"}]""");

        var (_, output, _) = await daemon.Run("node", "ls");

        Assert.Equal(
            """
            ID             NAME    STATE       AVAILABILITY   ROLE      ADDRESS     DC    VERSION
            aaaa           node1   ready       active         manager   192.0.2.1   dc1   0.1.0
            bbbbbbbbbbbb   node2   unmanaged   active         worker    192.0.2.2   dc1   -

            """,
            output);
    }

    [Theory]
    [InlineData(400, 2)]
    [InlineData(404, 2)]
    [InlineData(409, 2)]
    [InlineData(500, 1)]
    [InlineData(503, 1)]
    public async Task Refusals_print_message_and_remedy(int status, int code)
    {
        await using var daemon = await FakeDaemon.Start();
        daemon.On("GET /v1/status", """{"code":"x","message":"subnet '10.0.0.0/8' overlaps","remedy":"choose another"}""", status);

        var result = await daemon.Run("status");

        Assert.Equal((code, "", "overlaynet: subnet '10.0.0.0/8' overlaps\nremedy: choose another\n"), result);
    }

    [Fact]
    public async Task An_answer_that_is_not_ours_is_said_with_its_status()
    {
        await using var daemon = await FakeDaemon.Start();
        daemon.On("GET /v1/nodes", "<html>", 502);

        var (code, _, error) = await daemon.Run("node", "ls");

        Assert.Equal(1, code);
        Assert.StartsWith("overlaynet: the daemon answered 502", error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Nobody_at_the_socket_is_a_failure_with_a_remedy()
    {
        var (code, output, error) = await Cli.Run("--socket", "/nonexistent/x.sock", "node", "ls");

        Assert.Equal((1, ""), (code, output));
        Assert.StartsWith("overlaynet: the daemon does not answer on /nonexistent/x.sock", error, StringComparison.Ordinal);
        Assert.Contains("remedy: start overlaynetd", error, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("network create --subnet 10.0.0.1/24 x", "--subnet '10.0.0.1/24'", "10.0.0.0/24")]
    [InlineData("network create --subnet 10.0.0.0/33 x", "--subnet '10.0.0.0/33'", "10.10.0.0/24")]
    [InlineData("network create --subnet 10.0/16 x", "--subnet '10.0/16'", "10.10.0.0/24")]
    [InlineData("network create --subnet fd00::1/64 x", "--subnet 'fd00::1/64'", "fd00::/64")]
    [InlineData("network create --subnet6 10.0.0.0/24 x", "--subnet6 '10.0.0.0/24'", "fd00:10::/64")]
    [InlineData("network create --subnet 10.1.0.0/24 --subnet 10.2.0.0/24 x", "10.1.0.0/24 and 10.2.0.0/24", "second network")]
    [InlineData("network create --vni 0 x", "--vni '0'", "16777215")]
    [InlineData("network create --vni 16777216 x", "--vni '16777216'", "16777215")]
    [InlineData("network create --mtu 12k x", "--mtu '12k'", "whole number")]
    [InlineData("network create --gateway fd00::1 x", "--gateway 'fd00::1'", "10.10.0.5")]
    [InlineData("network create --label tier x", "--label 'tier'", "tier=front")]
    [InlineData("network create", "NAME", "network create --help")]
    [InlineData("service create web", "--network", "service create --help")]
    [InlineData("service create --network a --port 80/sctp web", "--port '80/sctp'", "tcp or udp")]
    [InlineData("service create --network a --port 1:2:3 web", "--port '1:2:3'", "8080:80")]
    [InlineData("service create --network a --scheduler best web", "--scheduler 'best'", "wrr")]
    [InlineData("endpoint set-weight web1 65536", "WEIGHT '65536'", "65535")]
    [InlineData("endpoint set-weight web1 x", "WEIGHT 'x'", "65535")]
    [InlineData("endpoint set-health web1", "which check", "--health")]
    [InlineData("attach --network a", "which namespace", "--netns")]
    [InlineData("attach --network a --netns x --pid 4", "which namespace", "--pid")]
    [InlineData("attach --network a --netns x --weight -1", "--weight '-1'", "65535")]
    [InlineData("detach --network a", "what to detach", "--netns")]
    [InlineData("detach --network a --netns x web1", "what to detach", "endpoint")]
    [InlineData("events --since yesterday", "--since 'yesterday'", "10m")]
    [InlineData("token show chief", "role 'chief'", "worker or manager")]
    [InlineData("token show --quiet", "--quiet", "worker")]
    [InlineData("join 192.0.2.1", "--token", "join --help")]
    [InlineData("netwrk ls", "'netwrk'", "overlaynet --help")]
    [InlineData("network", "command", "network --help")]
    [InlineData("run --network a", "CMD", "run --help")]
    public async Task Bad_input_is_refused_before_the_daemon_is_asked(string command, string names, string remedy)
    {
        await using var daemon = await FakeDaemon.Start();

        var (code, output, error) = await daemon.Run(command.Split(' '));

        Assert.Equal((2, ""), (code, output));
        var lines = error.Split('\n', StringSplitOptions.RemoveEmptyEntries);
        Assert.Equal(2, lines.Length);
        Assert.StartsWith("overlaynet: ", lines[0], StringComparison.Ordinal);
        Assert.Contains(names, lines[0], StringComparison.Ordinal);
        Assert.StartsWith("remedy: ", lines[1], StringComparison.Ordinal);
        Assert.Contains(remedy, lines[1], StringComparison.Ordinal);
        Assert.Empty(daemon.Asked);
    }

    [Fact]
    public async Task Help_of_a_verb_ends_with_examples()
    {
        var (code, output, _) = await Cli.Run("network", "create", "--help");

        Assert.Equal(0, code);
        Assert.Contains("Examples:", output, StringComparison.Ordinal);
        Assert.Contains("overlaynet network create --subnet 10.10.0.0/24 --subnet6 fd00:10::/64 app", output, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("bash")]
    [InlineData("zsh")]
    public async Task Completion_asks_this_program(string shell)
    {
        var (code, output, _) = await Cli.Run("completion", shell);

        Assert.Equal(0, code);
        Assert.Contains("[suggest:", output, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Doctor_fails_when_something_is_wrong()
    {
        await using var daemon = await FakeDaemon.Start();
        daemon.On("GET /v1/doctor", """{"node":"node1","checked":["a"],"findings":[{"severity":"error","check":"a","object":"o","message":"m","remedy":"r"}]}""");

        var (code, output, _) = await daemon.Run("doctor", "--quick");

        Assert.Equal(1, code);
        Assert.Equal("error: a o: m\n  remedy: r\nnode node1: 1 checks, 1 errors, 0 warnings\n", output);
    }

    [Fact]
    public async Task Events_are_lines_also_as_json()
    {
        const string line = """{"sequence":4,"time":"2026-01-02T03:04:05Z","node":"node1","kind":"network","action":"create","object":"app","message":"subnet 10.10.0.0/24"}""";
        await using var daemon = await FakeDaemon.Start();
        daemon.On("GET /v1/events", line + "\n\n" + line + "\n");

        var (_, json, _) = await daemon.Run("events", "--json");
        var (_, text, _) = await daemon.Run("events");

        Assert.Equal($"{line}\n{line}\n", json);
        Assert.Equal(2, text.Split('\n').Count(l => l.EndsWith("#4 node1 network create app: subnet 10.10.0.0/24", StringComparison.Ordinal)));
    }

    [Theory]
    [InlineData(0, "[------------------------------]   0 % of 100 MB")]
    [InlineData(50, "[###############---------------]  50 % of 100 MB")]
    [InlineData(120, "[##############################] 100 % of 100 MB")]
    public void A_bar_shows_how_far_long_work_is(int done, string bar)
    {
        Assert.Equal(bar, ProgressLine.Bar(done, 100, "of 100 MB"));
        var output = new StringWriter();
        using (var line = new ProgressLine(output))
            line.Show(done, 100, "of 100 MB");
        Assert.Equal($"\r{bar}\r{new string(' ', bar.Length)}\r", output.ToString());
    }
}
