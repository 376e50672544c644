using OverlayNet.ClusterTests.Harness;

namespace OverlayNet.ClusterTests.Dns;

/// <summary>What programs with a C library's resolver find: in a container on two networks, and on the node itself.</summary>
public sealed class ContainerResolverTests(ResolverCluster world) : IClassFixture<ResolverCluster>
{
    /// <summary>The resolver's fixed address on every node.</summary>
    private const string FixedAddress = "169.254.53.53";

    [Theory]
    [InlineData("glibc")]
    [InlineData("musl")]
    [InlineData("busybox")]
    public void A_container_on_two_networks_resolves_the_names_of_both(string library)
    {
        Assert.Contains(world.OnlyRed, Resolve(library, "onlyred"));
        Assert.Contains(world.OnlyBlue, Resolve(library, "onlyblue"));
        Assert.Contains(world.OnlyBlue, Resolve(library, "onlyblue.blue"));
        Assert.Contains(world.Red, Resolve(library, "web.red.dc1.overlay.internal"));
        Assert.Contains(world.Blue, Resolve(library, "web.blue.dc1.overlay.internal"));
        // The name both have: resolv.conf names red's resolver.
        Assert.Contains(world.Red, Resolve(library, "web"));
        Assert.DoesNotContain(world.Blue, Resolve(library, "web"));
    }

    [Fact]
    public void A_name_on_both_networks_is_answered_from_the_asked_one()
    {
        Assert.Equal(world.Red, world.Dig("10.71.0.1", "web"));
        Assert.Equal(world.Blue, world.Dig("10.72.0.1", "web"));
    }

    [Theory]
    [InlineData("glibc")]
    [InlineData("musl")]
    [InlineData("busybox")]
    public void A_name_nobody_has_is_none(string library) => Assert.DoesNotContain(Resolve(library, "nobody"), line => line.StartsWith("10.", StringComparison.Ordinal));

    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    public void The_node_itself_resolves_full_names_and_reaches_the_vip(int index)
    {
        var node = world.Cluster.Nodes[index];
        var configuration = Path.Combine(node.Directory, "resolv.conf");
        File.WriteAllText(configuration, $"nameserver {FixedAddress}\n");

        var answer = Commands.Run("nsenter", $"--net=/run/netns/{node.Netns}", "nslookup", "web.red.dc1.overlay.internal", FixedAddress).Succeeded();
        Assert.Contains($"Address: {world.Red}\n", answer.Output, StringComparison.Ordinal);

        // By name, with the node's own resolv.conf.
        var page = Commands.Run(
            "nsenter", $"--net=/run/netns/{node.Netns}", "unshare", "--mount", "--propagation", "private", "sh", "-c",
            $"mount --bind {configuration} /etc/resolv.conf && exec curl -sS -m 10 http://web.red.dc1.overlay.internal/").Succeeded();
        Assert.StartsWith("redweb ", page.Output, StringComparison.Ordinal);
    }

    [Fact]
    public void An_explanation_says_who_asked_where_and_what_was_found()
    {
        var node = world.Cluster.Nodes[1];
        var text = node.Cli("dns", "query", "--explain", "web", "--from", world.Both.EndpointId).Output;
        Assert.Contains(world.Red, text, StringComparison.Ordinal);
        Assert.Contains("searched: red, blue, node\n", text, StringComparison.Ordinal);
        Assert.Contains("answered from: table\n", text, StringComparison.Ordinal);

        var report = node.CliJson("dns", "query", "nobody", "--from", world.Both.EndpointId);
        Assert.Equal("NXDOMAIN", (string?)report["rcode"]);
        Assert.Equal("none", (string?)report["origin"]);
        Assert.NotEmpty(report["authority"]!.AsArray());
    }

    [Fact]
    public void Table_and_cache_can_be_read_and_the_cache_forgotten()
    {
        var node = world.Cluster.Nodes[1];
        using var outside = BackgroundProcess.In(
            world.Cluster.Outside, "dnsmasq", "--no-daemon", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--bind-interfaces", "--local-ttl=300",
            $"--listen-address={Cluster.OutsideAddress}", $"--address=/corp.example/{Cluster.OutsideAddress}").Says("started");
        Wait.Until("the upstream is asked again", () => world.Dig("10.71.0.1", "a.corp.example") == Cluster.OutsideAddress);

        var blue = node.CliJson("dns", "table", "--network", "blue").AsArray();
        Assert.Contains(blue, record => ((string)record!["name"]!).StartsWith("onlyblue", StringComparison.Ordinal)
            && ((string)record["network"]!, (string)record["type"]!, (int)record["ttl"]!, (string)record["data"]!) == ("blue", "A", 5, world.OnlyBlue));
        Assert.DoesNotContain(blue, record => ((string)record!["name"]!).StartsWith("onlyred", StringComparison.Ordinal));
        var remembered = Assert.Single(node.CliJson("dns", "cache").AsArray(), record => (string)record!["name"]! == "a.corp.example.");
        Assert.Equal(("A", "NOERROR", $"{Cluster.OutsideAddress}:53"), ((string)remembered!["type"]!, (string)remembered["rcode"]!, (string)remembered["upstream"]!));
        Assert.InRange((int)remembered["secondsLeft"]!, 1, 300);
        node.Cli("dns", "flush", "other.example");
        Assert.Contains(node.CliJson("dns", "cache").AsArray(), record => (string)record!["name"]! == "a.corp.example.");
        node.Cli("dns", "flush", "corp.example");
        Assert.DoesNotContain(node.CliJson("dns", "cache").AsArray(), record => (string)record!["name"]! == "a.corp.example.");
        node.Cli("dns", "flush");
    }

    private string[] Resolve(string library, string name)
    {
        var result = library switch
        {
            "glibc" => world.Both.Exec("getent", "ahosts", name),
            "musl" => world.Both.Exec(Musl.Resolver, name),
            // Its nslookup asks short names with the search domain only; the other applets ask the library: "PING web (10.71.0.2): ...".
            _ => world.Both.Exec("busybox", "ping", "-4", "-c", "1", "-W", "1", name),
        };
        return library == "busybox"
            ? [.. result.Output.Split('(', ')').Skip(1).Take(1)]
            : [.. result.Lines.Select(line => line.Split(' ')[0])];
    }

    /// <summary>A program of musl, which Debian has as a compiler only.</summary>
    private static class Musl
    {
        private static readonly Lazy<string> Built = new(Build);

        public static string Resolver => Built.Value;

        private static string Build()
        {
            var program = Path.Combine(AppContext.BaseDirectory, "musl-resolve");
            Commands.Run("musl-gcc", "-static", "-O2", "-o", program, Path.Combine(Tree.Root, "tests/cluster/dns/resolve.c")).Succeeded();
            return program;
        }
    }
}
