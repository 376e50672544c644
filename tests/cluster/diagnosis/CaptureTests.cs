using System.Globalization;
using System.Text.Json.Nodes;
using OverlayNet.ClusterTests.Harness;
using OverlayNet.ClusterTests.MainJob;

namespace OverlayNet.ClusterTests.Diagnosis;

/// <summary><c>overlaynet capture</c> on live traffic and on files, judged by tshark.</summary>
[Collection(WebClusterTests.Name)]
public sealed class CaptureTests(WebCluster web) : IDisposable
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
        Assert.Equal(theirs.Length, ours.Count - 1);
        for (var i = 0; i < theirs.Length; i++)
            Assert.True(theirs[i] == Fields(JsonNode.Parse(ours[i])!), $"packet {i + 1}\ntshark: {theirs[i]}\nours:   {Fields(JsonNode.Parse(ours[i])!)}\n{ours[i]}");
        Assert.DoesNotContain(ours, line => line.Contains("\"malformed\"", StringComparison.Ordinal));
    }

    [Theory]
    [InlineData("there is no service 'nothing'", "capture", "--service", "nothing")]
    [InlineData("filter 'tcp prot 80'", "capture", "--network", "app", "--filter", "tcp prot 80")]
    [InlineData("Could not find file", "capture", "--read", "/nowhere.pcap")]
    [InlineData("neither pcap nor pcapng", "capture", "--read", "/etc/passwd")]
    [InlineData("more than one object", "capture", "--network", "app", "--service", "web")]
    public void What_cannot_be_captured_is_refused_with_a_remedy(string message, params string[] arguments)
    {
        var node = web.Cluster.Nodes[0];
        var result = Commands.In(node.Netns, Path.Combine(Tree.Out, "overlaynet"), ["--socket", node.Socket, .. arguments]);
        Assert.Equal(2, result.Code);
        Assert.Contains(message, result.Error, StringComparison.OrdinalIgnoreCase);
        Assert.Contains("remedy: ", result.Error, StringComparison.Ordinal);
    }

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
