using System.Globalization;
using System.Text.Json.Nodes;
using OverlayNet.ClusterTests.Harness;
using OverlayNet.ClusterTests.MainJob;
using Xunit.Abstractions;

namespace OverlayNet.ClusterTests.Diagnosis;

/// <summary><c>overlaynet capture</c> on live traffic and on files, judged by tshark.</summary>
[Collection(WebClusterTests.Name)]
public sealed class CaptureTests(WebCluster web, ITestOutputHelper output) : IDisposable
{
    private readonly string _directory = Directory.CreateTempSubdirectory("overlaynet-test-capture-").FullName;

    public void Dispose() => Directory.Delete(_directory, recursive: true);

    /// <summary>By service, at every point of the client's node: name, request, and the tunnel, in one file that tshark reads without complaint.</summary>
    [Fact]
    public void A_service_is_captured_from_the_port_to_the_underlay()
    {
        var client = web.Clients[0];
        var file = Path.Combine(_directory, "web.pcapng");
        using (var capture = Capture(client.Node, "--service", "web", "--write", file).Says("capturing at"))
        {
            client.Ask($"http://{web.Vip}/", 30);
            client.Ask($"http://[{web.Vip6}]/", 30);
            Wait.Until("packets at the tunnel and the underlay", () => capture.Output.Contains("app/vxlan", StringComparison.Ordinal) && capture.Output.Contains("VXLAN", StringComparison.Ordinal));
            var said = capture.End();
            Assert.Contains("client1  TCP", said, StringComparison.Ordinal);
            Assert.Contains("\"GET /?1 HTTP/1.1\"", said, StringComparison.Ordinal);
            Assert.Contains("(web2)", said, StringComparison.Ordinal);
            Assert.Contains(" 0 dropped by the kernel", said, StringComparison.Ordinal);
            Assert.DoesNotContain("error: ", said, StringComparison.Ordinal);
        }
        Assert.Equal(UnixFileMode.UserRead | UnixFileMode.UserWrite, File.GetUnixFileMode(file));
        var interfaces = Commands.Run("tshark", "-r", file, "-n", "-T", "fields", "-e", "frame.interface_name").Succeeded().Lines.ToHashSet();
        Assert.Superset(new HashSet<string> { "client1", "app/vxlan", "underlay" }, interfaces);
        // Up to TCP: the same segment is in the file once for each point, which HTTP's reassembly takes for damage.
        Assert.Empty(Commands.Run("tshark", "-r", file, "-n", "-d", "tcp.port==80,data", "-Y", "_ws.malformed", "-V").Succeeded().Lines);
        var times = Commands.Run("tshark", "-r", file, "-n", "-T", "fields", "-e", "frame.time_epoch").Succeeded().Lines.Select(text => decimal.Parse(text, CultureInfo.InvariantCulture)).ToList();
        Assert.Equal(times.Order(), times);
    }

    /// <summary>Our decode of a mixed capture is tshark's, field by field.</summary>
    [Fact]
    public void Ten_thousand_mixed_packets_are_decoded_as_tshark_decodes_them()
    {
        const int wanted = 10_000;
        var file = Path.Combine(_directory, "mixed.pcap");
        using (var tcpdump = BackgroundProcess.In(web.Cluster.Lan, "tcpdump", "-i", "br0", "-n", "-U", "-Z", "root", "-B", "16384", "-w", file).Says("listening on"))
        {
            var conf = Path.Combine(_directory, "keepalived.conf");
            File.WriteAllText(conf, """
                global_defs { vrrp_version 3 }
                vrrp_instance a { state MASTER
                  interface eth0
                  virtual_router_id 77
                  priority 100
                  advert_int 0.1
                  virtual_ipaddress { 192.0.2.177/24 } }
                vrrp_instance b { state MASTER
                  interface eth0
                  virtual_router_id 78
                  priority 100
                  advert_int 0.1
                  virtual_ipaddress { fe80::78/64 } }
                """);
            using var keepalived = BackgroundProcess.In(web.Cluster.Outside, "keepalived", "-n", "-l", "-P", "-f", conf, "-p", Path.Combine(_directory, "k.pid"), "-r", Path.Combine(_directory, "v.pid"));
            do
            {
                foreach (var client in web.Clients)
                {
                    client.Ask($"http://{web.Vip}/", 60);
                    client.Ask($"http://[{web.Vip6}]/", 60);
                    client.Exec("dig", "+tries=1", "+time=1", $"@{web.Backends[(client.Node.Index + 0) % 3].Address}", "web");
                    client.Exec("ping", "-c", "3", "-i", "0.05", web.Backends[client.Node.Index % 3].Address!);
                }
                web.Cluster.Nodes[0].TryCli("node", "ls");
                Commands.In(web.Cluster.Nodes[1].Netns, "dig", "+tries=1", "+time=2", $"@{Cluster.OutsideAddress}", "outside.example");
            }
            while (int.Parse(Commands.Run("tcpdump", "-r", file, "--count").Output.Split(' ')[0], CultureInfo.InvariantCulture) < wanted);
            keepalived.End("TERM");
            tcpdump.End();
        }
        string[] fields = ["vxlan.vni", "ip.src", "ip.dst", "ipv6.src", "ipv6.dst", "tcp.srcport", "tcp.dstport", "udp.srcport", "udp.dstport", "vrrp.virt_rtr_id", "vrrp.prio", "dns.qry.name", "dns.id", "arp.opcode", "icmp.type"];
        var theirs = Commands.Run("tshark", ["-r", file, "-n", "-o", "tcp.desegment_tcp_streams:FALSE", "-T", "fields", .. fields.SelectMany(field => (string[])["-e", field])]).Succeeded().Output.Split('\n')[..^1];
        var ours = web.Cluster.Nodes[0].TryCli("capture", "--read", file, "--json").Lines;
        Assert.True(theirs.Length >= wanted);
        Assert.Empty(Commands.Run("tshark", "-r", file, "-n", "-o", "tcp.desegment_tcp_streams:FALSE", "-d", "tcp.port==80,data", "-Y", "_ws.malformed").Succeeded().Lines);
        // Mixed: some of each kind that is compared.
        foreach (var field in (string[])["vxlan.vni", "vrrp.virt_rtr_id", "dns.qry.name", "icmp.type", "ipv6.src"])
            Assert.True(theirs.Count(line => line.Split('\t')[Array.IndexOf(fields, field)].Length > 0) >= 20, field);
        Assert.Equal(theirs.Length, ours.Count - 1);
        for (var i = 0; i < theirs.Length; i++)
            Assert.True(theirs[i] == Fields(JsonNode.Parse(ours[i])!), $"packet {i + 1}\ntshark: {theirs[i]}\nours:   {Fields(JsonNode.Parse(ours[i])!)}\n{ours[i]}");
        Assert.DoesNotContain(ours, line => line.Contains("\"malformed\"", StringComparison.Ordinal));
    }

    /// <summary>On three nodes at once, in one file: a request is seen where it passes, in the order in which it passes.</summary>
    [Fact]
    public void A_request_is_followed_across_nodes_in_one_file()
    {
        var (client, server) = (web.Clients[0], web.Backends[1]);
        var file = Path.Combine(_directory, "nodes.pcapng");
        string said;
        using (var capture = Capture(web.Cluster.Nodes[0], "--network", "app", "--on", "all", "--write", file).Says("capturing at"))
        {
            client.Ask($"http://{server.Address}/", 3);
            client.Ask($"http://[{server.Address6}]/", 3);
            said = capture.End();
        }
        Assert.True(said.Contains("node3:app/vxlan", StringComparison.Ordinal), said);
        Assert.True(said.Contains(" 0 dropped by the kernel", StringComparison.Ordinal), said);
        Assert.False(said.Contains("too late", StringComparison.Ordinal), said);
        Assert.False(said.Contains("error: ", StringComparison.Ordinal), said);
        string[] way = ["node1:client1", "node1:app/vxlan", "node1:underlay", "node2:underlay", "node2:app/vxlan", "node2:web2"];
        foreach (var (address, syn) in new[] { (server.Address!, "ip.dst"), (server.Address6!, "ipv6.dst") })
        {
            var seen = Commands.Run("tshark", "-r", file, "-n", "-Y", $"{syn} == {address} && tcp.flags.syn == 1 && tcp.flags.ack == 0", "-T", "fields", "-e", "tcp.srcport", "-e", "frame.interface_name").Succeeded().Lines
                .Select(line => line.Split('\t')).GroupBy(words => words[0]).ToList();
            Assert.Equal(3, seen.Count);
            Assert.All(seen, request => Assert.Equal(way, request.Select(words => words[1])));
        }
        Assert.Empty(Commands.Run("tshark", "-r", file, "-n", "-d", "tcp.port==80,data", "-Y", "_ws.malformed", "-V").Succeeded().Lines);
        var times = Commands.Run("tshark", "-r", file, "-n", "-T", "fields", "-e", "frame.time_epoch").Succeeded().Lines.Select(text => decimal.Parse(text, CultureInfo.InvariantCulture)).ToList();
        Assert.Equal(times.Order(), times);
        // Whose clock is how far off is said in the file.
        Assert.Contains("the clock of node2 is ", File.ReadAllText(file), StringComparison.Ordinal);
        // Nothing goes on at the other nodes when nobody reads any more.
        foreach (var node in web.Cluster.Nodes.Skip(1))
            Wait.Until($"the capture on {node.Name} has ended", () => node.Cli("events", "--since", "1m", "--json").Lines.Count(line => line.Contains("\"capture\"", StringComparison.Ordinal) && line.Contains("\"end\"", StringComparison.Ordinal)) >= 1);
    }

    /// <summary>Memory is bounded by what is followed, not by the file: of more flows, names and findings than are remembered at once, fixed seed.</summary>
    [Fact]
    public void A_large_file_is_read_in_bounded_memory() => ReadLarge(megabytes: 60, bulk: 0);

    [Fact]
    [Trait("Category", "Soak")]
    public void A_file_of_a_gigabyte_is_read_in_bounded_memory() => ReadLarge(megabytes: 1000, bulk: 4);

    private void ReadLarge(int megabytes, int bulk)
    {
        const int mostKilobytes = 400_000;
        var file = Path.Combine(_directory, "large.pcap");
        var packets = Commands.Run(TimeSpan.FromMinutes(5), Tree.Library("large_capture.py"), file, Cluster.Number(megabytes), Cluster.Number(bulk)).Succeeded().Text;
        Assert.InRange(new FileInfo(file).Length, megabytes * 1_000_000L, megabytes * 1_000_000L + 100_000);
        // The kernel's own account of the most that was resident.
        const string measured = "import resource, subprocess, sys; run = subprocess.run(sys.argv[1:]); print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss); sys.exit(run.returncode if run.returncode != 1 else 0)";
        var result = Commands.Run(TimeSpan.FromMinutes(15), "python3", "-c", measured, Path.Combine(Tree.Out, "overlaynet"), "--socket", web.Cluster.Nodes[0].Socket, "capture", "--read", file, "--quiet", "--json").Succeeded();
        Assert.Contains($"{packets} packets", result.Error, StringComparison.Ordinal);
        var kilobytes = int.Parse(result.Lines[^1], CultureInfo.InvariantCulture);
        output.WriteLine($"{Cluster.Number(megabytes)} MB, {packets} packets: at most {Cluster.Number(kilobytes / 1000)} MB resident");
        Assert.InRange(kilobytes, 1, mostKilobytes);
    }

    /// <summary>A worker may not: its certificate is no manager's. What a node has nothing of is left out, and said.</summary>
    [Fact]
    public void Only_managers_capture_on_other_nodes()
    {
        var refused = Run(web.Cluster.Nodes[1], "capture", "--on", "node3", "--duration", "1");
        Assert.Equal(2, refused.Code);
        Assert.Contains("only managers may capture on other nodes", refused.Error, StringComparison.Ordinal);
        var identity = $"{web.Cluster.Nodes[1].State}/identity";
        var direct = Commands.In(web.Cluster.Nodes[1].Netns, "curl", "-sk", "--cert", $"{identity}/node.pem", "--key", $"{identity}/node.pem", "-m", "10", "-w", "%{http_code}", $"https://{web.Cluster.Nodes[2].Address}:7373/v1/peer/capture?seconds=1");
        Assert.Contains("403", direct.Output, StringComparison.Ordinal);
        var anonymous = Commands.In(web.Cluster.Nodes[1].Netns, "curl", "-sk", "-m", "10", "-w", "%{http_code}", $"https://{web.Cluster.Nodes[2].Address}:7373/v1/peer/clock");
        Assert.Contains("403", anonymous.Output, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("there is no service 'nothing'", "capture", "--service", "nothing")]
    [InlineData("filter 'tcp prot 80'", "capture", "--network", "app", "--filter", "tcp prot 80")]
    [InlineData("Could not find file", "capture", "--read", "/nowhere.pcap")]
    [InlineData("neither pcap nor pcapng", "capture", "--read", "/etc/passwd")]
    [InlineData("more than one object", "capture", "--network", "app", "--service", "web")]
    [InlineData("--on 'node9': there is no such node", "capture", "--on", "node9")]
    [InlineData("--read and --on", "capture", "--on", "node1", "--read", "/etc/passwd")]
    public void What_cannot_be_captured_is_refused_with_a_remedy(string message, params string[] arguments)
    {
        var result = Run(web.Cluster.Nodes[0], arguments);
        Assert.Equal(2, result.Code);
        Assert.Contains(message, result.Error, StringComparison.OrdinalIgnoreCase);
        Assert.Contains("remedy: ", result.Error, StringComparison.Ordinal);
    }

    private static CommandResult Run(ClusterNode node, params IEnumerable<string> arguments) =>
        Commands.In(node.Netns, Path.Combine(Tree.Out, "overlaynet"), ["--socket", node.Socket, .. arguments]);

    private static BackgroundProcess Capture(ClusterNode node, params IEnumerable<string> arguments) =>
        BackgroundProcess.In(node.Netns, Path.Combine(Tree.Out, "overlaynet"), ["--socket", node.Socket, "capture", .. arguments]);

    /// <summary>A packet of ours in tshark's field format: values of all layers, with commas between.</summary>
    private static string Fields(JsonNode packet)
    {
        var layers = packet["layers"]!.AsArray().Select(layer => layer!.AsObject()).ToList();
        return string.Join('\t',
            Join(layers, "vxlan", "vni"),
            Ip(layers, v6: false, "source"), Ip(layers, v6: false, "destination"), Ip(layers, v6: true, "source"), Ip(layers, v6: true, "destination"),
            Join(layers, "tcp", "sourcePort"), Join(layers, "tcp", "destinationPort"), Join(layers, "udp", "sourcePort"), Join(layers, "udp", "destinationPort"),
            Join(layers, "vrrp", "vrid"), Join(layers, "vrrp", "priority"), Join(layers, "dns", "name"), Hex(layers), Join(layers, "arp", "operation"),
            string.Join(',', layers.Where(layer => layer["icmp"] is not null && (int)layer["ip"]!["protocol"]! == 1).Select(layer => layer["icmp"]!["type"]!.ToString())));
    }

    private static string Join(List<JsonObject> layers, string layer, string field) =>
        string.Join(',', layers.Select(one => one[layer]?[field]).OfType<JsonNode>().Select(value => value.ToString()));

    private static string Hex(List<JsonObject> layers) =>
        string.Join(',', layers.Select(one => one["dns"]?["id"]).OfType<JsonNode>().Select(id => string.Create(CultureInfo.InvariantCulture, $"0x{(int)id:x4}")));

    private static string Ip(List<JsonObject> layers, bool v6, string field) =>
        string.Join(',', layers.Select(one => (string?)one["ip"]?[field]).OfType<string>().Where(address => address.Contains(':') == v6));
}
