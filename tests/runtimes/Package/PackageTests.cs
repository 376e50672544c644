using System.Text.Json.Nodes;
using OverlayNet.ClusterTests.Harness;

namespace OverlayNet.RuntimeTests.Package;

/// <summary>The package from a bare Debian to a purge: installed, killed, upgraded and downgraded under traffic.</summary>
public sealed class PackageTests
{
    [Fact]
    public void A_host_lives_through_install_kill_upgrade_downgrade_and_purge() => LiveThrough(buildNewer: false);

    /// <summary>The same, the next version being built as one.</summary>
    [Fact]
    [Trait("Category", "Soak")]
    public void A_host_lives_through_the_upgrade_to_a_version_built_anew() => LiveThrough(buildNewer: true);

    private static void LiveThrough(bool buildNewer)
    {
        using var packages = new BuiltPackages(buildNewer);
        using var machine = new SystemdMachine();
        var before = Everything(machine);

        machine.Run("dpkg", "--install", machine.Bring(packages.Older)).Succeeded();
        Assert.Equal("active", machine.Run("systemctl", "is-active", "overlaynetd").Text);
        Assert.Equal("", machine.Run("sh", "-c", "systemd-analyze verify /lib/systemd/system/overlaynet*.service 2>&1").Text);
        Assert.DoesNotContain("/proc", MountsOfItsOwn(machine), StringComparison.Ordinal);

        var keys = machine.Run("sh", "-c", "overlaynetd --help | sed -n 's/^  --[^ ]*  *\\([a-z]*[.A-Za-z]*\\): .*/\\1/p'").Lines;
        var documented = machine.Run("cat", "/etc/overlaynet/overlaynetd.yaml").Lines;
        Assert.True(keys.Count > 15);
        Assert.All(keys, key => Assert.Contains(documented, line => line.StartsWith($"#{key}:", StringComparison.Ordinal)));

        Lay(machine);
        var links = Links(machine);
        var client = new SteadyClient(machine.Start("ip", "netns", "exec", "client", "python3", machine.Bring(Tree.Library("steady_client.py")), "http://web/").Says("running"));

        var pid = MainPid(machine);
        machine.Run("kill", "-KILL", pid).Succeeded();
        Wait.Until("the service is back", () => MainPid(machine) is var now && now != pid && now != "0" && Answers(machine));
        Assert.Equal(links, Links(machine));

        Install(machine, packages.Newer, BuiltPackages.NewerVersion, buildNewer ? BuiltPackages.NewerVersion : packages.OlderVersion);
        Install(machine, packages.Older, packages.OlderVersion, packages.OlderVersion);

        var fared = client.Finish();
        Assert.True(fared is { Failed: 0, HeldError: null, Ok: > 20 }, fared.ToString());
        Assert.Equal(2, fared.Backends.Count);
        Assert.Equal(links, Links(machine));
        var watchdog = machine.Run("systemctl", "show", "overlaynetd", "--property=WatchdogUSec,NRestarts,Result").Text;
        Assert.Contains("Result=success", watchdog, StringComparison.Ordinal);

        foreach (var name in new[] { "web1", "web2", "client" })
            machine.Run("ip", "netns", "del", name);
        machine.Run("dpkg", "--purge", "overlaynet").Succeeded();
        Assert.Equal(before, Everything(machine));
    }

    /// <summary>Installs over what is there, and waits for the daemon that came with it.</summary>
    private static void Install(SystemdMachine machine, string package, string version, string says)
    {
        var before = MainPid(machine);
        machine.Run("dpkg", "--install", machine.Bring(package)).Succeeded();
        Assert.Equal(version, machine.Run("dpkg-query", "--show", "--showformat=${Version}", "overlaynet").Text);
        Wait.Until($"version {version} runs", () => MainPid(machine) != before && Answers(machine) && (string)Status(machine)["version"]! == says);
    }

    /// <summary>A cluster of this host alone, a service with two backends, a client.</summary>
    private static void Lay(SystemdMachine machine)
    {
        machine.Run("overlaynet", "init", "--address", SystemdMachine.Address).Succeeded();
        machine.Run("overlaynet", "network", "create", "--subnet", "10.10.0.0/24", "--subnet6", "fd00:10::/64", "app").Succeeded();
        machine.Run("overlaynet", "service", "create", "--network", "app", "--port", "80", "web").Succeeded();
        var server = machine.Bring(Tree.Library("echo_server.py"));
        foreach (var name in new[] { "web1", "web2", "client" })
        {
            machine.Run("sh", "-c", $"ip netns add {name} && ip -n {name} link set lo up").Succeeded();
            string[] service = name == "client" ? [] : ["--service", "web"];
            var attached = JsonNode.Parse(machine.Run("overlaynet", ["attach", "--json", "--network", "app", "--netns", name, "--resolv-conf", .. service]).Succeeded().Output)!;
            if (name != "client")
            {
                var address = (string)attached["endpoint"]!["address4"]!;
                machine.Start("ip", "netns", "exec", name, "python3", server, name, "80", address, (string)attached["endpoint"]!["address6"]!);
                Wait.Until($"{name} answers", () => machine.Run("ip", "netns", "exec", name, "curl", "-s", "-m", "2", $"http://{address}/").Code == 0);
            }
        }
    }

    private static string Links(SystemdMachine machine) =>
        string.Join('\n', new[] { "web1", "web2", "client" }.Select(name => machine.Run("ip", "-n", name, "-o", "link", "show", "eth0").Succeeded().Text));

    private static string MainPid(SystemdMachine machine) => machine.Run("systemctl", "show", "--value", "--property=MainPID", "overlaynetd").Text;

    private static bool Answers(SystemdMachine machine) => machine.Run("overlaynet", "status", "--json").Code == 0 && machine.Run("systemctl", "is-active", "overlaynetd").Text == "active";

    private static JsonNode Status(SystemdMachine machine) => JsonNode.Parse(machine.Run("overlaynet", "status", "--json").Output)!;

    /// <summary>Whether the daemon's mount namespace is another than pid 1's: empty when it is the same.</summary>
    private static string MountsOfItsOwn(SystemdMachine machine) =>
        machine.Run("sh", "-c", "pid=$(systemctl show --value --property=MainPID overlaynetd); [ \"$(readlink /proc/1/ns/mnt)\" = \"$(readlink /proc/$pid/ns/mnt)\" ] || echo /proc/$pid/ns/mnt").Text;

    /// <summary>What a purge must leave as it was: files, units, links, namespaces, tables, mounts, processes.</summary>
    private static string Everything(SystemdMachine machine) => machine.Run(
        "sh", "-c",
        """
        find / -xdev \( -path /proc -o -path /sys -o -path /dev -o -path /root -o -path /tmp -o -path /var/log -o -path /var/cache -o -path /var/lib/dpkg -o -path /run -o -path /etc/machine-id \) -prune -o \( -name '*overlaynet*' -o -path '*overlaynet*' \) -print
        find /run -name '*overlaynet*' -not -path '/run/systemd/*' 2>/dev/null
        ls /run/netns 2>/dev/null
        ip -o link show | awk '{print $2}'
        ip -4 addr show | awk '/inet /{print $2}'
        nft list tables
        grep -c overlaynet /proc/mounts
        ps -eo comm | grep overlaynet
        systemctl list-units --all --plain --no-legend 'overlaynet*'
        true
        """).Succeeded().Output;
}
