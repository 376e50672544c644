using OverlayNet.ClusterTests.Harness;

namespace OverlayNet.ClusterTests.MainJob;

/// <summary>Names as the programs in a container see them, on every node.</summary>
[Collection(WebClusterTests.Name)]
public sealed class NameTests(WebCluster web)
{
    public static TheoryData<int> Nodes => [0, 1, 2];

    [Theory]
    [MemberData(nameof(Nodes))]
    public void Service_name_is_the_virtual_ip(int node)
    {
        var client = web.Clients[node];

        Assert.Contains($"Address: {web.Vip}\n", client.Exec("nslookup", "web").Succeeded().Output, StringComparison.Ordinal);
        Assert.Equal(web.Vip, Dig(client, "web"));
        Assert.Equal(web.Vip6, Dig(client, "web", "AAAA"));
        Assert.Equal(web.Vip, Dig(client, "web.app.dc1.overlay.internal"));
    }

    [Theory]
    [MemberData(nameof(Nodes))]
    public void Tasks_are_the_endpoints(int node)
    {
        var client = web.Clients[node];
        var output = client.Exec("nslookup", "tasks.web").Succeeded().Output;

        foreach (var backend in web.Backends)
        {
            Assert.Contains($"Address: {backend.Address}\n", output, StringComparison.Ordinal);
            Assert.Contains($"Address: {backend.Address6}\n", output, StringComparison.Ordinal);
        }
        Assert.Equal(web.Backends.Select(backend => backend.Address!).Order(StringComparer.Ordinal), Dig(client, "tasks.web").Split('\n').Order(StringComparer.Ordinal));
    }

    [Fact]
    public void Address_of_the_virtual_ip_has_the_service_name()
    {
        Assert.StartsWith("web.app.", web.Clients[0].Exec("dig", "+short", "-x", web.Vip).Text, StringComparison.Ordinal);
        Assert.StartsWith("web.app.", web.Clients[1].Exec("dig", "+short", "-x", web.Vip6).Text, StringComparison.Ordinal);
    }

    [Fact]
    public void Srv_gives_port_and_target()
    {
        var answer = web.Clients[0].Exec("dig", "+noall", "+answer", "SRV", "_http._tcp.web").Succeeded();

        Assert.All(answer.Lines, line => Assert.Matches(@"\sSRV\s+\d+ \d+ 80 \S+\.$", line));
        Assert.NotEmpty(answer.Lines);
    }

    [Fact]
    public void Dns_answers_over_tcp_and_ipv6()
    {
        Assert.Equal(web.Vip, web.Clients[0].Exec("dig", "+short", "+tcp", $"@{web.Dns}", "web").Text);
        Assert.Equal(web.Vip, web.Clients[0].Exec("dig", "+short", $"@{web.Dns6}", "web").Text);
    }

    [Fact]
    public void Without_ipv6_AAAA_is_empty_and_no_error()
    {
        var node = web.Cluster.Nodes[0];
        node.Cli("network", "create", "--subnet", "10.44.0.0/24", "v4only");
        node.Cli("service", "create", "--network", "v4only", "--port", "80", "plain");
        using var client = web.Cluster.Attach("v4client", node, "v4only");
        try
        {
            var answer = client.Exec("dig", "AAAA", "plain").Succeeded().Output;

            Assert.Contains("status: NOERROR", answer, StringComparison.Ordinal);
            Assert.Contains("ANSWER: 0", answer, StringComparison.Ordinal);
            Assert.NotEmpty(Dig(client, "plain"));
        }
        finally
        {
            node.Cli("detach", client.EndpointId);
            client.Remove();
            node.Cli("service", "rm", "plain");
            node.Cli("network", "rm", "v4only");
        }
    }

    [Theory]
    [MemberData(nameof(Nodes))]
    public void Outside_names_are_forwarded(int node) =>
        Assert.Equal(Cluster.OutsideAddress, Dig(web.Clients[node], "outside.example"));

    [Fact]
    public void Unknown_names_of_ours_are_nxdomain()
    {
        Assert.Contains("status: NXDOMAIN", web.Clients[0].Exec("dig", "nothing.app.dc1.overlay.internal").Output, StringComparison.Ordinal);
        Assert.Contains("status: NXDOMAIN", web.Clients[0].Exec("dig", "nothing").Output, StringComparison.Ordinal);
    }

    [Fact]
    public void C_library_and_static_busybox_resolve_the_same()
    {
        Assert.Matches($@"^({System.Text.RegularExpressions.Regex.Escape(web.Vip)}|{web.Vip6})\s+web", web.Clients[0].Exec("getent", "hosts", "web").Succeeded().Output);
        Assert.Contains(web.Vip, web.Clients[0].Exec("getent", "ahostsv4", "web").Succeeded().Output, StringComparison.Ordinal);
        Assert.Contains(web.Vip, web.Clients[2].Exec("busybox", "nslookup", "web").Output, StringComparison.Ordinal);
    }

    [Fact]
    public void Api_says_what_dns_says_and_why()
    {
        var report = web.Cluster.Nodes[1].CliJson("dns", "query", "web");

        Assert.Equal("NOERROR", (string?)report["rcode"]);
        Assert.Contains(web.Vip, report["answers"]!.ToJsonString(), StringComparison.Ordinal);
        Assert.NotEmpty((string)report["why"]!);
    }

    private static string Dig(Container client, string name, string type = "A") =>
        client.Exec("dig", "+short", name, type).Succeeded().Text;
}
