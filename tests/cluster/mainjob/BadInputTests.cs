using System.Globalization;
using System.Text.Json.Nodes;
using OverlayNet.ClusterTests.Harness;

namespace OverlayNet.ClusterTests.MainJob;

/// <summary>Bad input gets a clear error with the remedy and exit code 2, and leaves no trace.</summary>
[Collection(WebClusterTests.Name)]
public sealed class BadInputTests(WebCluster web)
{
    private const string FilePath = "/etc/hostname";

    public static TheoryData<string, string> Commands => new()
    {
        { "network create --subnet 192.0.2.0/25 bad", "192.0.2.0/25" },
        { "network create --subnet 10.10.0.128/25 bad", "10.10.0.128/25" },
        { "network create --subnet6 fd00:10::/80 bad", "fd00:10::/80" },
        { "network create --subnet 192.0.2.0/25 --allow-overlap bad", "192.0.2.0/25" },
        { "network create --subnet 10.77.0.0/33 bad", "10.77.0.0/33" },
        { "network create --subnet 10.77.0.0/31 bad", "10.77.0.0/31" },
        { "network create --subnet 10.77.0.0/24 --gateway 10.78.0.1 bad", "10.78.0.1" },
        { "network create --subnet 10.77.0.0/24 --ip-range 10.78.0.0/25 bad", "10.78.0.0/25" },
        { "network create --subnet 10.77.0.0/24 --vni VNI bad", "VNI" },
        { "network create --subnet 10.77.0.0/24 app", "app" },
        { "network create --subnet 10.77.0.0/24 Not_A_Label!", "label" },
        { "network create --encrypted --subnet 10.77.0.0/24 bad", "encrypted" },
        { "service create --network nowhere --port 80 bad", "nowhere" },
        { "service create --network app --port 80 web", "web" },
        { "service create --network app --port 80 --vip 10.99.0.9 bad", "10.99.0.9" },
        { "service create --network app --port 80 --port 80 bad", "80" },
        { "attach --network nowhere --netns FREE", "nowhere" },
        { "attach --network app --service nothing --netns FREE", "nothing" },
        { "attach --network app --netns no-such-namespace", "no-such-namespace" },
        { "attach --network app --netns /etc/hostname", FilePath },
        { "attach --network app --netns FREE --ip 10.99.0.7", "10.99.0.7" },
        { "attach --network app --netns FREE --ip TAKEN", "TAKEN" },
        { "attach --network app --netns FREE --name client1", "client1" },
        { "detach nobody", "nobody" },
        { "endpoint set-weight web1 70000", "70000" },
        { "endpoint drain nobody", "nobody" },
        { "network rm nowhere", "nowhere" },
        { "network rm app", "app" },
        { "node drain nobody", "nobody" },
        { "service backends nothing", "nothing" },
        { "join --token wrong 192.0.2.1", "member" },
        { "init --address 192.0.2.2", "member" },
    };

    [Theory]
    [MemberData(nameof(Commands))]
    public void Is_refused_with_a_remedy_and_leaves_no_trace(string command, string names)
    {
        // What containers need is asked of a worker: the manager's refusal must come through its agent just so.
        var node = web.Cluster.Nodes[command.Split(' ')[0] is "network" or "service" or "node" ? 0 : 1];
        var free = web.Cluster.AddContainer("free", node);
        try
        {
            var vni = (string)node.CliJson("network", "inspect", WebCluster.Network)[0]!["vni"]!.ToJsonString();
            var taken = web.Backends[0].Address!;
            string Fill(string text) => text.Replace("FREE", free.Netns, StringComparison.Ordinal).Replace("TAKEN", taken, StringComparison.Ordinal).Replace("VNI", vni, StringComparison.Ordinal);
            var before = Trace(node, free);

            var result = node.TryCli(Fill(command).Split(' '));

            Assert.True(result.Code == 2, result.ToString());
            Assert.StartsWith("overlaynet: ", result.Error, StringComparison.Ordinal);
            Assert.Contains(Fill(names), result.Error, StringComparison.Ordinal);
            Assert.Contains("\nremedy: ", result.Error, StringComparison.Ordinal);
            Assert.DoesNotContain("   at ", result.Error, StringComparison.Ordinal);
            Assert.Equal(before, Trace(node, free));
        }
        finally
        {
            free.Remove();
        }
    }

    [Fact]
    public void A_worker_refuses_what_only_managers_do_and_names_them()
    {
        var result = web.Cluster.Nodes[1].TryCli("network", "create", "bad");

        Assert.True(result.Code == 2, result.ToString());
        Assert.Contains(web.Cluster.Nodes[0].Address, result.Error, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("{")]
    [InlineData("")]
    [InlineData("null")]
    [InlineData("[]")]
    [InlineData("""{"name":7}""")]
    [InlineData("""{"name":"x","subnet":{"a":1}}""")]
    public void Malformed_json_is_a_400_with_a_code_and_a_remedy(string body)
    {
        var node = web.Cluster.Nodes[0];
        var answer = Harness.Commands.Run("curl", "-s", "-m", "5", "--unix-socket", node.Socket, "-X", "POST", "-d", body, "-w", "\n%{http_code}", "http://localhost/v1/networks");

        Assert.Equal("400", answer.Lines[^1]);
        var error = JsonNode.Parse(answer.Lines[0])!;
        Assert.NotEmpty((string)error["code"]!);
        Assert.NotEmpty((string)error["message"]!);
        Assert.NotEmpty((string)error["remedy"]!);
    }

    [Fact]
    public void A_full_subnet_is_said_and_leaves_no_trace()
    {
        var node = web.Cluster.Nodes[0];
        node.Cli("network", "create", "--subnet", "10.66.0.0/29", "tiny");
        var containers = new List<Container>();
        try
        {
            CommandResult? refused = null;
            // Six host addresses: the gateway's, the node's own, and at most four more.
            for (var i = 0; i < 6 && refused is null; i++)
            {
                var container = web.Cluster.AddContainer($"tiny{Cluster.Number(i)}", node);
                containers.Add(container);
                var result = node.TryCli("attach", "--network", "tiny", "--netns", container.NetnsPath, "--name", container.Name);
                refused = result.Code == 0 ? null : result;
            }

            Assert.NotNull(refused);
            Assert.True(refused.Code == 2, refused.ToString());
            Assert.Contains("10.66.0.0/29", refused.Error, StringComparison.Ordinal);
            Assert.Contains("remedy: ", refused.Error, StringComparison.Ordinal);
            Assert.Equal("lo", Links(containers[^1]));
        }
        finally
        {
            foreach (var container in containers)
                container.Remove();
            Wait.Until("the endpoints are withdrawn", () => node.CliJson("endpoint", "ls", "--network", "tiny").AsArray().All(endpoint => (string?)endpoint!["kind"] == "node"));
            node.Cli("network", "rm", "tiny");
        }
    }

    [Theory]
    [InlineData("tcp")]
    [InlineData("udp")]
    public void Publishing_a_port_that_a_process_of_the_host_holds_is_refused_and_names_the_process(string protocol)
    {
        const string Serve = "import socket,sys,time; s=socket.socket(socket.AF_INET6, socket.SOCK_STREAM if sys.argv[1]=='tcp' else socket.SOCK_DGRAM); s.bind(('::',18080)); sys.argv[1]=='tcp' and s.listen(); print('held',flush=True); time.sleep(3600)";
        var node = web.Cluster.Nodes[0];
        var before = node.Cli("service", "ls", "--json").Output;
        using (var holder = BackgroundProcess.In(node.Netns, "python3", "-c", Serve, protocol).Says("held"))
        {
            var result = node.TryCli("service", "create", "--network", WebCluster.Network, "--port", $"18080:80/{protocol}", "bad");

            Assert.True(result.Code == 2, result.ToString());
            Assert.Contains($"{protocol} port 18080 is held by python3", result.Error, StringComparison.Ordinal);
            Assert.Contains($"(pid {holder.Pid.ToString(CultureInfo.InvariantCulture)})", result.Error, StringComparison.Ordinal);
            Assert.Contains("\nremedy: ", result.Error, StringComparison.Ordinal);
            Assert.Equal(before, node.Cli("service", "ls", "--json").Output);
        }
        // With the process gone, the same command is obeyed.
        node.Cli("service", "create", "--network", WebCluster.Network, "--port", $"18080:80/{protocol}", "held");
        node.Cli("service", "rm", "held");
    }

    /// <summary>Everything a refused request could have changed: the registry, the node's namespaces, the container.</summary>
    private static string Trace(ClusterNode node, Container container) => string.Join(
        '\n',
        node.Cli("network", "ls", "--json").Output,
        node.Cli("service", "ls", "--json").Output,
        node.Cli("endpoint", "ls", "--json").Output,
        string.Join(' ', node.NetworkNamespaces),
        Links(container));

    private static string Links(Container container) =>
        string.Join(' ', container.Exec("ls", "/sys/class/net").Lines);
}
