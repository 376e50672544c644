using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using System.Text.Json.Nodes;
using OverlayNet.ClusterTests.Harness;

namespace OverlayNet.ClusterTests.Diagnosis;

/// <summary>
/// Faults put into a real cluster, each of which <c>overlaynet doctor</c> names with the right object and a remedy, and does not
/// name any more when it is gone; and a healthy cluster, in which it finds nothing.
/// </summary>
[Collection(GalleryClusterTests.Name)]
public sealed class FaultGalleryTests(GalleryCluster world)
{
    // Silence takes its time to be noticed, and the machine may be busy.
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(45);

    private static readonly Dictionary<string, Action<Fault>> Gallery = new()
    {
        ["a rule drops VXLAN that comes in"] = f =>
        {
            f.Rule(f.Node(1).Netns, "input", "udp dport 4789 counter drop");
            f.Expect(1, "firewall.vxlan", "UDP 4789 from node2", "nft delete rule inet guard input handle");
        },
        ["iptables drops VXLAN that goes out"] = f =>
        {
            f.Do(f.Node(1).Netns, "iptables -A OUTPUT -p udp --dport 4789 -j DROP", "iptables -D OUTPUT -p udp --dport 4789 -j DROP");
            f.Expect(1, "firewall.vxlan", "UDP 4789 to node2", "ip filter OUTPUT handle");
        },
        ["one way between two nodes is lost"] = f =>
        {
            f.Rule(f.Node(2).Netns, "input", "ip saddr 192.0.2.1 udp dport 4789 drop");
            f.Expect(1, "vxlan.path", "app to node2", "4789").Expect(2, "firewall.vxlan", "from node1", "inet guard input handle");
        },
        ["a switch loses one way between two nodes"] = f =>
        {
            // No node has a rule: only what arrives where tells.
            f.Do(f.World.Cluster.Lan, "nft add table bridge guard && nft 'add chain bridge guard forward { type filter hook forward priority 0; }' && nft add rule bridge guard forward ip saddr 192.0.2.1 ip daddr 192.0.2.2 udp dport 4789 drop", "nft delete table bridge guard");
            f.Expect(1, "vxlan.path", "app to node2", "from node1 to node2").Expect(2, "vxlan.path", "app to node1", "from node1 to node2");
        },
        ["iptables-legacy drops VXLAN that comes in"] = f =>
        {
            f.Do(f.Node(1).Netns, "iptables-legacy -A INPUT -p udp -m udp --dport 4789 -m comment --comment 'no tunnels' -j DROP", "iptables-legacy -D INPUT -p udp -m udp --dport 4789 -m comment --comment 'no tunnels' -j DROP");
            f.Expect(1, "firewall.vxlan", "UDP 4789 from node2", "iptables-legacy -t filter -D INPUT -p udp -m udp --dport 4789");
        },
        ["iptables-legacy rejects VRRP by a chain of its own"] = f =>
        {
            f.Do(f.Node(2).Netns, "iptables-legacy -N GUARD && iptables-legacy -A GUARD -p 112 -j REJECT && iptables-legacy -A INPUT -i eth+ -j GUARD", "iptables-legacy -F INPUT; iptables-legacy -F GUARD; iptables-legacy -X GUARD");
            f.Expect(2, "firewall.vrrp", GalleryCluster.VipName, "iptables-legacy -t filter -D GUARD -p vrrp");
        },
        ["VRRP is rejected"] = f =>
        {
            f.Rule(f.Node(2).Netns, "input", "meta l4proto 112 reject");
            f.Expect(2, "firewall.vrrp", GalleryCluster.VipName, "meta l4proto 112");
        },
        ["the manager's port is closed by a policy"] = f =>
        {
            f.Rule(f.Node(1).Netns, "input", "tcp dport != 7373 accept && nft add rule inet guard input meta l4proto != tcp accept", "drop");
            f.Expect(1, "firewall.api", "TCP 7373", "tcp dport 7373 accept");
        },
        ["a rule in the network drops DNS"] = f =>
        {
            f.Rule(f.Node(1).NetworkNamespace(GalleryCluster.Network), "input", "udp dport 53 drop");
            f.Expect(1, "firewall.dns", "UDP 53 in network app", "inet guard input handle").Expect(1, "dns.silent", "10.10.0.1", "firewall.dns");
        },
        ["a policy drops what containers send outside"] = f =>
        {
            f.Rule(f.Node(1).Netns, "forward", "", "drop");
            f.Expect(1, "firewall.forward", "app", "nft insert rule inet guard forward");
        },
        ["the underlay carries 1400 octets only"] = f =>
        {
            f.Do(f.World.Cluster.Lan, "ip link set n2 mtu 1400", "ip link set n2 mtu 1500");
            f.Expect(1, "vxlan.mtu", "app to node2", "--mtu");
        },
        ["inner checksums are damaged"] = f =>
        {
            // What a card does that miscounts what is inside a tunnel. Without offload at the node's link the sum is in the segment by then.
            f.Do(f.Node(1).NetworkNamespace(GalleryCluster.Network), "ethtool -K node0 tx off >/dev/null && nft add table netdev damage && nft 'add chain netdev damage out { type filter hook egress device \"vx0\" priority 0; }' && nft add rule netdev damage out tcp checksum set 0xbeef", "nft delete table netdev damage; ethtool -K node0 tx on");
            f.Expect(1, "vxlan.checksum", "app to node2", "ethtool -K");
        },
        ["the upstream resolver is dead"] = f =>
        {
            f.World.StopNameServer();
            f.OnHeal(f.World.StartNameServer);
            f.Expect(1, "dns.upstream", Cluster.OutsideAddress, "dns.upstreams");
        },
        ["the resolver asks itself"] = f =>
        {
            f.Reconfigure(3, text => text.Replace($"[{Cluster.OutsideAddress}]", "[127.0.0.53]", StringComparison.Ordinal));
            f.Expect(3, "dns.loop", "127.0.0.53", "dns.upstreams");
        },
        ["a host route leads into the subnet"] = f =>
        {
            f.Do(f.Node(1).Netns, "ip route add 10.10.0.128/25 via 192.0.2.254", "ip route del 10.10.0.128/25");
            f.Expect(1, "host.route-overlap", "app", "ip route del 10.10.0.128/25");
        },
        ["an agent is frozen"] = f =>
        {
            f.Freeze(3);
            f.Expect(3, "daemon.frozen", "overlaynetd", "kill -CONT").Expect(1, "node.silent", "node3", "overlaynet doctor");
        },
        ["an agent lags behind"] = f =>
        {
            f.Freeze(3);
            f.World.Manager.Cli("network", "create", "--subnet", "10.20.0.0/24", "late");
            f.OnHeal(() => f.World.Manager.Cli("network", "rm", "late"));
            f.Expect(1, "node.lag", "node3", "overlaynet status");
        },
        ["a daemon is dead"] = f =>
        {
            f.Node(3).Kill();
            f.OnHeal(f.Node(3).Start);
            f.Expect(3, "daemon.alive", "overlaynetd", "start overlaynetd");
        },
        ["an endpoint is a ghost"] = f =>
        {
            var ghost = f.World.Cluster.Attach("ghost", f.Node(2), GalleryCluster.Network);
            Wait.Until("node 2 has it on disk", () => JsonNode.Parse(File.ReadAllText($"{f.Node(2).State}/snapshot.json"))!["endpoints"]!.AsArray().Any(endpoint => (string)endpoint!["name"]! == "ghost" && (string)endpoint["state"]! == "healthy"));
            f.Freeze(2);
            ghost.Remove();
            f.Expect(2, "endpoint.ghost", "ghost", "overlaynet detach ghost");
        },
        ["the host does not forward"] = f =>
        {
            f.Freeze(2);
            f.Do(f.Node(2).Netns, "sysctl -q -w net.ipv4.ip_forward=0");
            f.Expect(2, "host.sysctl", "net.ipv4.ip_forward", "sysctl -w net.ipv4.ip_forward=1");
        },
        ["a sysctl of the network is wrong"] = f =>
        {
            f.Freeze(2);
            f.Do(f.Node(2).NetworkNamespace(GalleryCluster.Network), "sysctl -q -w net.ipv4.conf.all.rp_filter=1");
            f.Expect(2, "namespace.sysctl", "net.ipv4.conf.all.rp_filter", "rp_filter=0");
        },
        ["the FDB leads to the wrong VTEP"] = f => Forwarding(f, (mac, _) => $"bridge fdb replace {mac} dev vx0 dst 192.0.2.99 self static", "fdb.wrong-vtep", "web1", "dst 192.0.2.1 self"),
        ["an FDB entry is missing"] = f => Forwarding(f, (mac, _) => $"bridge fdb del {mac} dev vx0 dst 192.0.2.1 self", "fdb.missing", "web1", "dst 192.0.2.1 self"),
        ["an FDB entry is stale"] = f => Forwarding(f, (_, _) => "bridge fdb add 02:00:00:00:00:99 dev vx0 dst 192.0.2.3 self static", "fdb.stale", "02:00:00:00:00:99", "fdb del 02:00:00:00:00:99"),
        ["a neighbour is missing"] = f => Forwarding(f, (_, address) => $"ip neigh del {address} dev br0", "neighbour.missing", "web1", "neigh replace"),
        ["a neighbour is wrong"] = f => Forwarding(f, (_, address) => $"ip neigh replace {address} lladdr 02:00:00:00:00:98 dev br0 nud permanent", "neighbour.wrong", "web1", "neigh replace"),
        ["a neighbour is stale"] = f => Forwarding(f, (_, _) => "ip neigh replace 10.10.0.222 lladdr 02:00:00:00:00:97 dev br0 nud permanent", "neighbour.stale", "10.10.0.222", "neigh del 10.10.0.222"),
        ["a balancer's table is deleted"] = f =>
        {
            f.Freeze(2);
            f.Do(f.World.Clients[1].Netns, $"nft delete table ip overlaynet-vip-{Cluster.Number(f.World.Vni)}");
            f.Expect(2, "balancer.table", "web at client2", "--fix");
        },
        ["a balancer's element is deleted"] = f =>
        {
            f.Freeze(2);
            f.Do(f.World.Clients[1].Netns, $"nft delete element ip overlaynet-vip-{Cluster.Number(f.World.Vni)} services '{{ {f.World.Vip} }}'");
            f.Expect(2, "balancer.element", "web at client2", "--fix");
        },
        ["the masquerade rule is missing"] = f =>
        {
            f.Freeze(2);
            f.Do(f.Node(2).NetworkNamespace(GalleryCluster.Network), "nft delete table inet overlaynet-egress");
            f.Expect(2, "nat.missing", "app", "overlaynet status");
        },
        ["two containers have one address"] = f =>
        {
            f.Freeze(2);
            var address = $"{f.World.Backends[1].Address}/24";
            f.Do(f.World.Clients[1].Netns, $"ip addr add {address} dev eth0", $"ip addr del {address} dev eth0");
            f.Expect(2, "address.duplicate", f.World.Backends[1].Address!, "addr del");
        },
        ["a container has lost its address"] = f =>
        {
            f.Freeze(2);
            var address = $"{f.World.Clients[1].Address}/24";
            f.Do(f.World.Clients[1].Netns, $"ip addr del {address} dev eth0", $"ip addr add {address} dev eth0");
            f.Expect(2, "address.missing", "client2", "addr add");
        },
        ["a container's link is down"] = f =>
        {
            f.Freeze(2);
            f.Do(f.World.Clients[1].Netns, "ip link set eth0 down");
            f.Expect(2, "link.down", "client2", "link set eth0 up");
        },
        ["a keepalived has our VRID"] = f =>
        {
            Keepalived(f, 51);
            f.Expect(2, "vrrp.foreign", GalleryCluster.VipName, "--vrid");
        },
        ["a VIP is on two nodes"] = f =>
        {
            f.Freeze(2);
            f.Do(f.Node(2).Netns, $"ip addr add {GalleryCluster.FloatingAddress}/32 dev eth0", $"ip addr del {GalleryCluster.FloatingAddress}/32 dev eth0");
            f.Expect(2, "vip.two-owners", GalleryCluster.VipName, $"ip addr del {GalleryCluster.FloatingAddress}/32 dev eth0");
        },
        ["the snapshot cannot be read"] = f =>
        {
            f.Overwrite($"{f.Node(3).State}/snapshot.json", "{ \"clusterId\":");
            f.Expect(3, "state.snapshot", "snapshot.json", "daemon writes it");
        },
        ["the certificate has expired"] = f =>
        {
            f.Overwrite($"{f.Node(3).State}/identity/node.pem", Expired());
            f.Expect(3, "certificate.expired", "node.pem", "join again");
        },
        ["a container asks another resolver"] = f =>
        {
            f.Overwrite($"/etc/netns/{f.World.Clients[0].Netns}/resolv.conf", "nameserver 192.0.2.53\n");
            f.Expect(1, "endpoint.resolver", "client1", "nameserver 10.10.0.1");
        },
        ["another VXLAN device has the VNI"] = f =>
        {
            f.Freeze(2);
            f.Do(f.Node(2).NetworkNamespace(GalleryCluster.Network), "ip link del vx0");
            f.Do(f.Node(2).Netns, $"ip link add foreign0 type vxlan id {Cluster.Number(f.World.Vni)} dstport 4789 local 192.0.2.2 dev eth0", "ip link del foreign0");
            f.Expect(2, "vxlan.clash", "foreign0", "ip link del foreign0");
        },
        ["a clock is 40 seconds ahead"] = f =>
        {
            var node = f.Node(3);
            node.Stop();
            var ahead = BackgroundProcess.InHost("nsenter", $"--net=/run/netns/{node.Netns}", "env", "LD_PRELOAD=/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1", "FAKETIME=+40s", "DONT_FAKE_MONOTONIC=1", Path.Combine(Tree.Out, "overlaynetd"), "--config", $"{node.Directory}/config.yaml");
            f.OnHeal(() =>
            {
                ahead.End("TERM");
                ahead.Dispose();
                node.Start();
            });
            f.Expect(1, "clock.skew", "node3", "time synchronisation");
        },
        ["a namespace is nobody's"] = f =>
        {
            var name = f.Node(1).NetworkNamespace("gone");
            Commands.Run("ip", "netns", "add", name).Succeeded();
            f.OnHeal(() => Commands.Run("ip", "netns", "del", name));
            f.Expect(1, "namespace.unwanted", name, "ip netns del");
        },
        ["a port of the bridge is nobody's"] = f =>
        {
            f.Do(f.Node(1).NetworkNamespace(GalleryCluster.Network), "ip link add rogue0 type veth peer name rogue1 && ip link set rogue0 master br0", "ip link del rogue0");
            f.Expect(1, "link.unwanted", "rogue0", "link del rogue0");
        },
    };

    /// <summary>What a healthy cluster may have: none of it is a fault.</summary>
    private static readonly IReadOnlyList<(string What, Action<Fault> Vary)> Variants =
    [
        ("as it was made", _ => { }),
        ("a packet filter that lets through what is needed", f =>
            f.Rule(f.Node(1).Netns, "input", "ct state established,related accept && nft add rule inet guard input udp dport { 53, 4789 } accept && nft add rule inet guard input tcp dport { 22, 7373 } accept && nft add rule inet guard input meta l4proto { icmp, ipv6-icmp, vrrp } accept && nft add rule inet guard input iifname lo accept", "drop")),
        ("rules about other things", f => f.Rule(f.Node(2).Netns, "input", "udp dport 4790 drop && nft add rule inet guard input tcp dport 23 reject && nft add rule inet guard input ip saddr 203.0.113.0/24 drop")),
        ("the older packet filter, which lets through what is needed", f =>
            f.Do(f.Node(3).Netns, "iptables-legacy -A INPUT -p udp --dport 4789 -j ACCEPT && iptables-legacy -A INPUT -p udp --dport 8472 -j DROP && iptables-legacy -A INPUT -p 112 -j ACCEPT", "iptables-legacy -F INPUT")),
        ("traffic that goes on", f =>
        {
            var steady = f.World.Clients[0].AskSteadily($"http://{f.World.Vip}/");
            f.OnHeal(() => steady.Finish());
        }),
        ("a drained backend", f =>
        {
            f.World.Manager.Cli("endpoint", "drain", "--detach", "web3");
            f.OnHeal(() => f.World.Manager.Cli("endpoint", "activate", "web3"));
        }),
        ("another network, of IPv4 only, on one node", f => Another(f, "--subnet", "10.40.0.0/24")),
        ("another network, of IPv6 only, without a gateway outside", f => Another(f, "--subnet6", "fd00:40::/64", "--internal")),
        ("a service without a backend", f =>
        {
            f.World.Manager.Cli("service", "create", "--network", GalleryCluster.Network, "--port", "81", "empty");
            f.OnHeal(() => f.World.Manager.Cli("service", "rm", "empty"));
        }),
        ("a service by DNS round robin", f =>
        {
            f.World.Manager.Cli("service", "create", "--network", GalleryCluster.Network, "--endpoint-mode", "dnsrr", "--port", "82", "robin");
            f.OnHeal(() => f.World.Manager.Cli("service", "rm", "robin"));
        }),
        ("a keepalived with a VRID of its own", f => Keepalived(f, 77)),
        ("another address and a route of the host", f =>
            f.Do(f.Node(1).Netns, "ip addr add 198.18.0.1/24 dev eth0 && ip route add 198.19.0.0/16 via 192.0.2.254", "ip route del 198.19.0.0/16; ip addr del 198.18.0.1/24 dev eth0")),
        ("another VXLAN device with a VNI of its own", f => f.Do(f.Node(2).Netns, "ip link add other0 type vxlan id 777 dstport 8472 local 192.0.2.2 dev eth0", "ip link del other0")),
        ("an address of its own in a container", f => f.Do(f.World.Clients[1].Netns, "ip addr add 198.18.7.7/32 dev lo", "ip addr del 198.18.7.7/32 dev lo")),
        ("a daemon that was killed and has come back", f =>
        {
            f.Node(3).Kill();
            f.Node(3).Start();
            Wait.Until("node 3 has a manager again", () => (int?)f.Node(3).CliJson("status")["lag"] is 0 or null && GalleryCluster.Findings(GalleryCluster.Doctor(f.World.Manager)).Count == 0);
        }),
    ];

    public static TheoryData<string> Names => [.. Gallery.Keys];

    [Theory]
    [MemberData(nameof(Names))]
    public void A_fault_is_named_and_gone_when_it_is_gone(string name)
    {
        var fault = Fault.Inject(world, Gallery[name]);
        try
        {
            foreach (var expected in fault.Expected)
            {
                CommandResult? last = null;
                Wait.Until(
                    $"{expected.Check} on node {expected.Node}",
                    () => GalleryCluster.Findings(last = GalleryCluster.Doctor(fault.Node(expected.Node))).Any(finding => Is(finding!, expected)),
                    Patience,
                    () => last?.ToString() ?? "");
            }
        }
        finally
        {
            fault.Heal();
        }
        foreach (var node in fault.Expected.Select(expected => expected.Node).Distinct())
            GalleryCluster.AwaitHealthy(fault.Node(node));
    }

    /// <summary>With traffic, on one node after the other.</summary>
    [Fact]
    public void Nothing_is_found_in_a_healthy_cluster() => Healthy(10);

    [Fact]
    [Trait("Category", "Soak")]
    public void Nothing_is_found_in_a_hundred_runs() => Healthy(100);

    private void Healthy(int rounds)
    {
        foreach (var node in world.Cluster.Nodes)
            GalleryCluster.AwaitHealthy(node);
        for (var round = 0; round < rounds; round++)
        {
            var (what, vary) = Variants[round % Variants.Count];
            var variant = Fault.Inject(world, vary);
            try
            {
                world.Clients[round % 2].Ask($"http://{world.Vip}/", 5);
                var node = world.Cluster.Nodes[round % 3];
                var result = GalleryCluster.Doctor(node);
                Assert.True(GalleryCluster.Findings(result).Count == 0, $"round {Cluster.Number(round)}, {what}: {result}");
                Assert.Equal(0, result.Code);
            }
            finally
            {
                variant.Heal();
            }
        }
    }

    /// <summary>What the doctor mends itself is mended by its own hand: the daemon is frozen.</summary>
    [Fact]
    public void Fix_mends_what_is_safe()
    {
        var fault = Fault.Inject(world, f =>
        {
            f.Freeze(2);
            Forward(f, mac => $"bridge fdb replace {mac} dev vx0 dst 192.0.2.99 self static");
            f.Do(f.Node(2).NetworkNamespace(GalleryCluster.Network), "bridge fdb add 02:00:00:00:00:99 dev vx0 dst 192.0.2.3 self static");
            f.Do(f.Node(2).NetworkNamespace(GalleryCluster.Network), $"ip neigh del {f.World.Backends[0].Address} dev br0 && sysctl -q -w net.ipv4.conf.all.rp_filter=1");
            f.Do(f.Node(2).Netns, $"sysctl -q -w net.ipv4.ip_forward=0 && ip addr add {GalleryCluster.FloatingAddress}/32 dev eth0", $"ip addr del {GalleryCluster.FloatingAddress}/32 dev eth0");
            f.Do(f.World.Clients[1].Netns, "ip link set eth0 down");
            f.Overwrite($"/etc/netns/{f.World.Clients[1].Netns}/resolv.conf", "nameserver 192.0.2.53\n");
        });
        try
        {
            var before = GalleryCluster.Findings(GalleryCluster.Doctor(fault.Node(2))).Select(finding => (string)finding!["check"]!).ToHashSet();
            Assert.Superset(new HashSet<string> { "fdb.wrong-vtep", "fdb.stale", "neighbour.missing", "namespace.sysctl", "host.sysctl", "vip.two-owners", "link.down", "endpoint.resolver" }, before);
            var result = GalleryCluster.Doctor(fault.Node(2), "--fix");
            Assert.True(JsonNode.Parse(result.Output)!["fixed"]!.AsArray().Count >= 8, result.ToString());
            // A frozen daemon, and what only it can answer, is left.
            Assert.True(GalleryCluster.Findings(result).All(finding => !before.Contains((string)finding!["check"]!) || (string)finding["check"]! == "daemon.frozen"), result.ToString());
        }
        finally
        {
            fault.Heal();
        }
        GalleryCluster.AwaitHealthy(fault.Node(2));
    }

    [Fact]
    public void A_program_without_rights_says_so()
    {
        var node = world.Manager;
        var result = Commands.In(node.Netns, "capsh", "--drop=cap_net_raw", "--", "-c", $"{Tree.Out}/overlaynet --socket {node.Socket} doctor --json");
        Assert.Equal(1, result.Code);
        Assert.Contains(GalleryCluster.Findings(result), finding => (string)finding!["check"]! == "host.capability" && (string)finding["object"]! == "CAP_NET_RAW");
    }

    [Fact]
    public void A_full_disk_is_named()
    {
        var node = world.Cluster.Nodes[2];
        // In a mount namespace of its own: nothing is left behind, and the daemon goes on with its real directory.
        var result = Commands.Run("unshare", "-m", "sh", "-c", $"cp -a {node.State} /tmp/$$ && mount -t tmpfs -o size=8m tmpfs {node.State} && cp -a /tmp/$$/snapshot.json /tmp/$$/identity {node.State}/; rm -rf /tmp/$$; {Tree.Out}/overlaynet --socket {node.Socket} doctor --json");
        Assert.Contains(GalleryCluster.Findings(result), finding => (string)finding!["check"]! == "state.disk" && ((string)finding["object"]!).Contains(node.State, StringComparison.Ordinal));
    }

    private static bool Is(JsonNode finding, Expectation expected) => (string)finding["check"]! == expected.Check
        && ((string)finding["object"]!).Contains(expected.Object, StringComparison.Ordinal)
        && ((string?)finding["remedy"])?.Contains(expected.Remedy, StringComparison.Ordinal) == true;

    private static void Forwarding(Fault fault, Func<string, string, string> command, string check, string @object, string remedy)
    {
        fault.Freeze(2);
        Forward(fault, mac => command(mac, fault.World.Backends[0].Address!));
        fault.Expect(2, check, @object, remedy);
    }

    /// <summary>On node 2, with the MAC of web1, which is on node 1.</summary>
    private static void Forward(Fault fault, Func<string, string> command) =>
        fault.Do(fault.Node(2).NetworkNamespace(GalleryCluster.Network), command((string)fault.World.Manager.CliJson("endpoint", "inspect", "web1")[0]!["mac"]!));

    /// <summary>On a host that is no node.</summary>
    private static void Keepalived(Fault fault, int vrid)
    {
        var directory = Directory.CreateTempSubdirectory("overlaynet-test-gallery-").FullName;
        var file = Path.Combine(directory, "keepalived.conf");
        File.WriteAllText(file, $$"""
            global_defs { vrrp_version 3 }
            vrrp_instance a { state MASTER
              interface eth0
              virtual_router_id {{Cluster.Number(vrid)}}
              priority 10
              advert_int 0.1
              virtual_ipaddress { 192.0.2.177/24 } }
            """);
        var keepalived = BackgroundProcess.In(fault.World.Cluster.Outside, "keepalived", "-n", "-l", "-P", "-f", file, "-p", Path.Combine(directory, "k.pid"), "-r", Path.Combine(directory, "v.pid"));
        fault.OnHeal(() =>
        {
            keepalived.End("TERM");
            keepalived.Dispose();
            Directory.Delete(directory, recursive: true);
        });
    }

    /// <summary>A network with one container, on node 2.</summary>
    private static void Another(Fault fault, params string[] options)
    {
        fault.World.Manager.Cli(["network", "create", .. options, "another"]);
        fault.OnHeal(() => fault.World.Manager.Cli("network", "rm", "another"));
        var container = fault.World.Cluster.Attach("lonely", fault.Node(2), "another");
        fault.OnHeal(() =>
        {
            fault.Node(2).Cli("detach", "lonely");
            container.Remove();
        });
    }

    private static string Expired()
    {
        using var key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        var request = new CertificateRequest("CN=expired", key, HashAlgorithmName.SHA256);
        using var certificate = request.CreateSelfSigned(DateTimeOffset.UtcNow.AddDays(-30), DateTimeOffset.UtcNow.AddDays(-1));
        return certificate.ExportCertificatePem();
    }
}
