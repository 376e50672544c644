using System.Globalization;
using System.Text.Json.Nodes;
using OverlayNet.ClusterTests.Harness;

namespace OverlayNet.ClusterTests.FloatingVip;

/// <summary>Three daemons with floating VIPs: what the commands, the tracking, the programs told, groups, macvlans and services do.</summary>
public sealed class FloatingVipTests : IClassFixture<FloatingVipTests.Nodes>
{
    private readonly Cluster _cluster;

    public FloatingVipTests(Nodes nodes) => _cluster = nodes.Cluster;

    public sealed class Nodes : IDisposable
    {
        public Cluster Cluster { get; } = Cluster.Start(3);

        public void Dispose() => Cluster.Dispose();
    }

    private ClusterNode Manager => _cluster.Nodes[0];

    private ClusterNode Second => _cluster.Nodes[1];

    private ClusterNode Third => _cluster.Nodes[2];

    [Fact]
    public void A_vip_moves_by_command_by_stop_and_by_kill_and_leaves_nothing_behind()
    {
        using var vip = Create(111, "192.0.2.111/24", "2001:db8:2::111/64");
        AwaitHolder(vip, Second);
        Assert.Equal(0, Ping(vip.Address).Code);
        Assert.Equal(0, Ping("2001:db8:2::111").Code);

        // Where both began at once, node3 may have held it for a moment before node2 came.
        var before = TimesHolder(vip, Third);
        Assert.Contains("epoch 1.", Manager.Cli("vip", "move", vip.Name, "node3").Output, StringComparison.Ordinal);
        Assert.Equal(0, Ping(vip.Address).Code);
        var explained = Explain(vip, Third);
        Assert.Equal(("holder", "node3"), ((string)explained["state"]!, (string)explained["holder"]!));
        Assert.InRange((double)explained["gateLeftMs"]!, 1, 700);
        Assert.Contains("bpf boot time", (string)explained["gate"]!, StringComparison.Ordinal);
        Wait.Until("the move is counted", () => TimesHolder(vip, Third) == before + 1, seen: () => Metrics(Third));
        var (held, waiting) = (Metrics(Third), Metrics(Second));
        Assert.Contains($"overlaynet_vip_holder{{vip=\"{vip.Name}\"}} 1\n", held, StringComparison.Ordinal);
        Assert.Contains($"overlaynet_vip_state{{vip=\"{vip.Name}\",state=\"holder\",mode=\"fenced\"}} 1\n", held, StringComparison.Ordinal);
        Assert.Contains($"overlaynet_vip_gate_margin_seconds{{vip=\"{vip.Name}\"}} 0.", held, StringComparison.Ordinal);
        Assert.Contains($"overlaynet_vip_lease_margin_seconds{{vip=\"{vip.Name}\"}} 0.", held, StringComparison.Ordinal);
        Assert.Contains($"overlaynet_vip_holder{{vip=\"{vip.Name}\"}} 0\n", waiting, StringComparison.Ordinal);
        Assert.DoesNotContain($"overlaynet_vip_gate_margin_seconds{{vip=\"{vip.Name}\"}}", waiting, StringComparison.Ordinal);
        Wait.Until("node2 hears the holder", () => Explain(vip, Second)["peers"]!.AsArray().Any(peer => (string?)peer!["node"] == "node3" && (int)peer["priority"]! == 100));

        Third.Stop();
        AwaitHolder(vip, Second);
        Assert.DoesNotContain(vip.Address, Addresses(Third), StringComparison.Ordinal);
        Third.Start();

        Second.Kill();
        AwaitHolder(vip, Third);
        // The kernel took the address off although nobody was there to do it.
        Wait.Until("the killed node's address is gone", () => !Addresses(Second).Contains(vip.Address, StringComparison.Ordinal));
        Second.Start();
        AwaitHolder(vip, Second);

        Manager.Cli("vip", "rm", vip.Name);
        foreach (var node in new[] { Second, Third })
        {
            Wait.Until($"{node.Name} is clean", () => !Addresses(node).Contains(vip.Address, StringComparison.Ordinal)
                && !Commands.In(node.Netns, "nft", "list", "tables").Output.Contains(vip.Id, StringComparison.Ordinal));
        }
        // The last thing that goes.
        Wait.Until("no pin is left", () => !Directory.EnumerateDirectories("/sys/fs/bpf/overlaynet-vip").Any(path => path.EndsWith(vip.Id, StringComparison.Ordinal)));
    }

    [Fact]
    public void A_killed_holder_that_comes_back_at_once_starts_shut_and_takes_a_new_epoch()
    {
        using var vip = Create(112, "192.0.2.112/24");
        AwaitHolder(vip, Second);
        var epoch = Epoch(vip);
        Second.Kill();
        Second.Start();
        AwaitHolder(vip, Second);
        Assert.True(Epoch(vip) > epoch);
    }

    [Theory]
    [InlineData("interface:track7", "link add track7 up type veth peer name peer7", "link set peer7 up", "link set peer7 down")]
    [InlineData("route:203.0.113.0/24", null, "route add 203.0.113.0/24 via 192.0.2.254", "route del 203.0.113.0/24")]
    public void What_is_tracked_in_the_kernel_decides_who_is_fit(string track, string? make, string good, string bad)
    {
        foreach (var node in new[] { Second, Third })
        {
            if (make is not null)
                Commands.Run("ip", ["-n", node.Netns, .. make.Split(' ')]).Succeeded();
            Commands.Run("ip", ["-n", node.Netns, .. good.Split(' ')]).Succeeded();
        }
        using var vip = Create(113, "192.0.2.113/24", more: ["--track", track]);
        AwaitHolder(vip, Second);
        Commands.Run("ip", ["-n", Second.Netns, .. bad.Split(' ')]).Succeeded();
        AwaitHolder(vip, Third);
        Assert.Contains("is down", (string)Explain(vip, Second)["priorityReason"]!, StringComparison.Ordinal);
        Commands.Run("ip", ["-n", Second.Netns, .. good.Split(' ')]).Succeeded();
        AwaitHolder(vip, Second);
        foreach (var node in new[] { Second, Third })
            Commands.Run("ip", ["-n", node.Netns, .. (make is null ? bad : "link del track7").Split(' ')]).Succeeded();
    }

    [Fact]
    public void Scripts_and_processes_are_tracked_and_every_change_is_told()
    {
        var directory = Directory.CreateTempSubdirectory("onvip-").FullName;
        try
        {
            var (check, told, notify) = ($"{directory}/check", $"{directory}/told", $"{directory}/notify");
            // A program of a name of its own, fit as long as its file says so on the node that asks (a namespace each).
            Program(check, $"#!/bin/sh\n[ -e {directory}/bad-$(basename $(ip -o -4 addr show dev eth0 | awk 'NR==1{{print $4}}' | cut -d/ -f1)) ] && exit 1\nexit 0\n");
            Program(notify, $"#!/bin/sh\necho \"$1 $2 $3 $4\" >> {told}\n");
            using var vip = Create(114, "192.0.2.114/24", more: ["--track", $"script:{check},interval=100,fall=2", "--track", "process:onvip-tracked,weight=-100", "--notify", notify]);
            // Nobody has the process: 50 and 1 remain.
            AwaitHolder(vip, Second);
            Assert.Equal(50, (int)Explain(vip, Second)["priority"]!);
            File.WriteAllText($"{directory}/bad-{Second.Address}", "");
            AwaitHolder(vip, Third);
            File.Delete($"{directory}/bad-{Second.Address}");
            AwaitHolder(vip, Second);
            var process = $"{directory}/onvip-tracked";
            File.Copy("/bin/sleep", process);
            using (BackgroundProcess.In(Third.Netns, process, ["60"]))
                Wait.Until("the process counts", () => (int)Explain(vip, Second)["priority"]! == 150);
            Wait.Until("the programs were told", () => File.Exists(told) && File.ReadAllText(told) is var text
                && text.Contains($"{vip.Name} holder 50 1.", StringComparison.Ordinal) && text.Contains($"{vip.Name} fenced 0", StringComparison.Ordinal));
        }
        finally
        {
            Directory.Delete(directory, recursive: true);
        }
    }

    [Fact]
    public void A_group_moves_together_with_one_epoch()
    {
        using var one = Create(115, "192.0.2.115/24", more: ["--sync-group", "pair"]);
        using var two = Create(116, "192.0.2.116/24", more: ["--sync-group", "pair"]);
        AwaitHolder(two, Second);
        AwaitHolder(one, Second);
        Manager.Cli("vip", "move", one.Name, "node3");
        AwaitHolder(two, Third);
        Assert.Equal(Epoch(one), Epoch(two));
        Assert.DoesNotContain("192.0.2.116", Addresses(Second), StringComparison.Ordinal);
    }

    [Fact]
    public void A_macvlan_answers_with_the_virtual_routers_mac_address_whoever_holds_it()
    {
        using var vip = Create(117, "192.0.2.117/24", more: ["--macvlan"]);
        AwaitHolder(vip, Second);
        const string mac = "00:00:5e:00:01:75";
        Assert.Equal(mac, MacOf(vip.Address));
        Manager.Cli("vip", "move", vip.Name, "node3");
        AwaitHolder(vip, Third);
        Assert.Equal(mac, MacOf(vip.Address));
        Manager.Cli("vip", "rm", vip.Name);
        foreach (var node in new[] { Second, Third })
            Wait.Until($"{node.Name} has no macvlan", () => !Commands.Run("ip", "-n", node.Netns, "-br", "link").Output.Contains("vrrp4-117", StringComparison.Ordinal));
    }

    [Fact]
    public void A_service_is_answered_at_the_floating_address_by_the_holder_only()
    {
        Manager.Cli("network", "create", "--subnet", "10.20.0.0/24", "--subnet6", "fd00:20::/64", "fronted");
        Manager.Cli("service", "create", "--network", "fronted", "--port", "80", "shop");
        using var servers = new Disposables([.. new[] { Second, Third }.Select(node => _cluster.AddBackend($"shop{node.Index}", node, "fronted", "shop"))]);
        using var vip = Create(118, "192.0.2.118/24", "2001:db8:2::118/64", ["--service", "shop", "--port", "8080:80"]);
        foreach (var (holder, other) in new[] { (Second, Third), (Third, Second) })
        {
            AwaitHolder(vip, holder);
            foreach (var url in new[] { "http://192.0.2.118:8080/", "http://[2001:db8:2::118]:8080/" })
            {
                Wait.Until($"{url} is answered by both servers", () =>
                {
                    var answers = Commands.In(_cluster.Outside, "curl", "-s", "-m", "5", "-H", "Connection: close", $"{url}?[1-10]").Output;
                    return answers.Contains("shop2", StringComparison.Ordinal) && answers.Contains("shop3", StringComparison.Ordinal);
                });
            }
            // The other node's own clients go to the holder as well.
            Assert.Contains("shop", Commands.In(other.Netns, "curl", "-s", "-m", "5", "http://192.0.2.118:8080/").Succeeded().Output, StringComparison.Ordinal);
            Manager.Cli("vip", "move", vip.Name, other.Name);
        }
    }

    [Fact]
    public void What_is_wrong_is_refused_or_alarmed_with_a_remedy()
    {
        foreach (var (says, arguments) in new (string, string[])[]
                 {
                     ("vrid '0'", ["--address", "192.0.2.119/24", "--vrid", "0", "--interface", "eth0"]),
                     ("addresses '192.0.2.2'", ["--address", "192.0.2.2/24", "--vrid", "119", "--interface", "eth0"]),
                     ("--advert '1'", ["--address", "192.0.2.119/24", "--vrid", "119", "--interface", "eth0", "--advert", "1"]),
                     ("advert", ["--address", "192.0.2.119/24", "--vrid", "119", "--interface", "eth0", "--advert", "50000"]),
                     ("priorities '100'", ["--address", "192.0.2.119/24", "--vrid", "119", "--interface", "eth0", "--priority", "node2=100", "--priority", "node3=100"]),
                 })
        {
            var refused = Manager.TryCli(["vip", "create", .. arguments, "wrong"]);
            Assert.Equal(2, refused.Code);
            Assert.Contains(says, refused.Error, StringComparison.Ordinal);
            Assert.Contains("remedy: ", refused.Error, StringComparison.Ordinal);
        }

        // An address that only the node itself knows to be its own stays where it is.
        Commands.Run("ip", "-n", Second.Netns, "addr", "add", "192.0.2.120/24", "dev", "eth0").Succeeded();
        using (var vip = Create(120, "192.0.2.120/24"))
        {
            AwaitHolder(vip, Third, answers: false);
            Assert.Equal("refused", (string)Explain(vip, Second)["state"]!);
            Assert.Contains("this node's own address", (string)Explain(vip, Second)["reason"]!, StringComparison.Ordinal);
            Assert.Contains("192.0.2.120/24", Addresses(Second), StringComparison.Ordinal);
        }
        Commands.Run("ip", "-n", Second.Netns, "addr", "del", "192.0.2.120/24", "dev", "eth0").Succeeded();

        // Somebody else's keepalived on the VRID.
        using (var vip = Create(121, "192.0.2.121/24"))
        {
            AwaitHolder(vip, Second);
            var file = Path.GetTempFileName();
            File.WriteAllText(file, "global_defs {\n}\nvrrp_instance V {\n  state BACKUP\n  interface eth0\n  version 3\n  virtual_router_id 121\n  priority 200\n  advert_int 0.1\n  virtual_ipaddress {\n    192.0.2.250/24 dev eth0\n  }\n}\n");
            using (BackgroundProcess.In(_cluster.Outside, "keepalived", ["--dont-fork", "--log-console", "--vrrp", "--use-file", file, "--pid", $"{file}.pid", "--vrrp_pid", $"{file}.vrrp"]))
            {
                foreach (var node in new[] { Second, Third })
                    Wait.Until($"{node.Name} alarms about it", () => Explain(vip, node)["alarms"]!.AsArray().Any(alarm => ((string)alarm!).Contains("192.0.2.254", StringComparison.Ordinal) && ((string)alarm!).Contains("VRID", StringComparison.Ordinal)));
                Assert.Equal("holder", (string)Explain(vip, Second)["state"]!);
            }
            File.Delete(file);
        }
    }

    [Fact]
    public void Without_the_watchdog_it_was_told_to_have_a_node_holds_nothing_and_says_so()
    {
        var before = File.ReadAllText($"{Second.Directory}/config.yaml");
        using var vip = Create(122, "192.0.2.122/24");
        AwaitHolder(vip, Second);
        try
        {
            Second.Configure("vip.watchdog: /dev/null");
            Second.Stop();
            Second.Start();
            AwaitHolder(vip, Third);
            Wait.Until("node2 says why", () => (string?)Explain(vip, Second)["state"] == "refused");
            Assert.Contains("watchdog /dev/null", (string)Explain(vip, Second)["reason"]!, StringComparison.Ordinal);
        }
        finally
        {
            File.WriteAllText($"{Second.Directory}/config.yaml", before);
            Second.Stop();
            Second.Start();
        }
        AwaitHolder(vip, Second);
    }

    private static int TimesHolder(FloatingAddress vip, ClusterNode node) => Metrics(node).Split('\n')
        .Where(line => line.StartsWith($"overlaynet_vip_transitions_total{{vip=\"{vip.Name}\",state=\"holder\"}} ", StringComparison.Ordinal))
        .Select(line => int.Parse(line.Split(' ')[^1], CultureInfo.InvariantCulture)).SingleOrDefault();

    private static string Metrics(ClusterNode node) => Commands.Run("curl", "-s", "-m", "5", "--unix-socket", node.Socket, "http://localhost/metrics").Succeeded().Output;

    private sealed record FloatingAddress(ClusterNode Manager, string Name, string Id, string Address) : IDisposable
    {
        public void Dispose() => Manager.TryCli("vip", "rm", Name);
    }

    private sealed class Disposables(IReadOnlyList<Container> items) : IDisposable
    {
        public void Dispose()
        {
            foreach (var item in items)
                item.Remove();
        }
    }

    private FloatingAddress Create(int vrid, string address, string? address6 = null, string[]? more = null)
    {
        var name = $"v{vrid}";
        string[] second = address6 is null ? [] : ["--address", address6];
        string[] create = ["vip", "create", "--address", address, .. second, "--vrid", $"{vrid}", "--interface", "eth0", "--priority", "node2=150", "--priority", "node3=100", "--profile", "fast", "--advert", "100", .. more ?? [], name];
        return new FloatingAddress(Manager, name, Manager.Cli(create).Text, address.Split('/')[0]);
    }

    private void AwaitHolder(FloatingAddress vip, ClusterNode node, bool answers = true) => Wait.Until(
        $"{node.Name} holds {vip.Name}",
        () => (string?)Explain(vip, node)["state"] == "holder" && (!answers || Addresses(node).Contains(vip.Address, StringComparison.Ordinal)),
        TimeSpan.FromSeconds(60),
        () => string.Join('\n', _cluster.Nodes.Select(n => n.TryCli("vip", "explain", vip.Name).Output)));

    private static JsonNode Explain(FloatingAddress vip, ClusterNode node) => node.CliJson("vip", "explain", vip.Name)[0]!;

    private long Epoch(FloatingAddress vip) => (long)Explain(vip, Second)["epoch"]!;

    private static string Addresses(ClusterNode node) => Commands.Run("ip", "-n", node.Netns, "-br", "addr").Output;

    private CommandResult Ping(string address) => Commands.In(_cluster.Outside, "ping", "-c", "3", "-i", "0.2", "-W", "2", address);

    private string MacOf(string address)
    {
        Commands.In(_cluster.Outside, "ip", "neigh", "flush", "dev", "eth0").Succeeded();
        var mac = "";
        Wait.Until($"{address} answers", () =>
        {
            Ping(address);
            return (mac = Commands.In(_cluster.Outside, "ip", "-j", "neigh", "show", address).Output is { Length: > 2 } text ? (string?)JsonNode.Parse(text)?[0]?["lladdr"] ?? "" : "").Length > 0;
        });
        return mac;
    }

    private static void Program(string path, string text)
    {
        File.WriteAllText(path, text);
        File.SetUnixFileMode(path, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);
    }
}
