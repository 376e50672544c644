using System.Net;
using OverlayNet.ClusterTests.Harness;
using OverlayNet.RuntimeTests.Harness;
using OverlayNet.RuntimeTests.Podman;

namespace OverlayNet.RuntimeTests.Docker;

/// <summary>This machine's Docker, on two hosts.</summary>
public sealed class DockerTests(DockerCluster cluster) : DockerScenarios(cluster), IClassFixture<DockerCluster>;

/// <summary>Two Dockers as two hosts: networks, containers, names, services.</summary>
public abstract class DockerScenarios(DockerCluster cluster)
{
    private const string Answer = "echo $HOSTNAME $SOCAT_PEERADDR";
    private readonly DockerHost _one = cluster.Hosts[0], _two = cluster.Hosts[1];

    [Fact]
    public void Containers_of_two_hosts_reach_each_other_by_name_and_through_the_service()
    {
        cluster.CreateNetwork("web-net");
        cluster.Manager.Cli("service", "create", "--network", "web-net", "--port", "80", "--port", "90/udp", "web");
        foreach (var (host, name) in new[] { (_one, "web-1"), (_two, "web-2"), (_two, "web-3") })
        {
            host.Run("run", "-d", "--name", name, "--hostname", name, "--network", "web-net", "--label", "overlaynet.service=web", Images.Debian,
                "sh", "-c", $"socat TCP-LISTEN:80,fork,reuseaddr,backlog=64 SYSTEM:'{Answer}' & exec socat UDP-RECVFROM:90,fork SYSTEM:'read x; {Answer}'");
        }
        _one.Run("run", "-d", "--name", "client", "--network", "web-net", Images.Busybox, "sleep", "1d");
        _two.Run("run", "-d", "--name", "asker", "--network", "web-net", Images.Debian, "sleep", "1d");
        Ledger.Balances(cluster, "web-net");
        Wait.Until("three members", () => cluster.Manager.CliJson("service", "backends", "--network", "web-net", "web").AsArray().Count == 3);

        _one.Exec("client", "ping", "-c", "3", "-W", "2", _two.Address("web-2", "web-net")).Succeeded();
        var vip = (string)cluster.Manager.CliJson("service", "inspect", "--network", "web-net", "web")[0]!["vip4"]!;
        // busybox, musl, and Debian's C library, each through Docker's own resolver.
        Assert.Contains(vip, _one.Exec("client", "nslookup", "web").Succeeded().Output, StringComparison.Ordinal);
        Assert.Equal(vip, _one.Exec("client", "resolve", "web").Succeeded().Text);
        Assert.StartsWith(vip, _two.Exec("asker", "getent", "ahostsv4", "web").Succeeded().Text, StringComparison.Ordinal);
        Assert.Contains(_two.Address("web-3", "web-net"), _one.Exec("client", "nslookup", "web-3").Succeeded().Output, StringComparison.Ordinal);

        var answers = _one.Exec("client", "sh", "-c", "for i in $(seq 300); do nc web 80 </dev/null || echo failed; done").Succeeded().Lines;
        Assert.Equal(300, answers.Count);
        var client = _one.Address("client", "web-net");
        Assert.All(answers, answer => Assert.EndsWith($" {client}", answer, StringComparison.Ordinal));
        var spread = answers.CountBy(answer => answer.Split(' ')[0]).ToDictionary();
        Assert.Equal(["web-1", "web-2", "web-3"], spread.Keys.Order(StringComparer.Ordinal));
        Assert.All(spread.Values, count => Assert.InRange(count, 60, 140));

        var datagrams = _two.Exec("asker", "sh", "-c", "for i in $(seq 20); do echo x | socat -t0.5 - UDP4:web:90; done").Succeeded().Lines;
        Assert.Equal(20, datagrams.Count);
        Assert.All(datagrams, answer => Assert.EndsWith($" {_two.Address("asker", "web-net")}", answer, StringComparison.Ordinal));
        Assert.Equal(3, datagrams.Select(answer => answer.Split(' ')[0]).Distinct().Count());
    }

    [Fact]
    public void A_service_has_members_from_Docker_podman_and_a_bare_namespace_at_once()
    {
        cluster.CreateNetwork("mixed-net");
        cluster.Manager.Cli("service", "create", "--network", "mixed-net", "--port", "80", "mixed");
        using var podman = new PodmanHost(_two.Node);
        var root = Path.Combine(cluster.Cluster.Directory, "mixed-busybox.tar");
        BusyboxImage.WriteRoot(root);
        podman.ImportImage(root, PodmanCluster.Image);
        podman.AddNetwork("mixed-net", "--service", "mixed");

        _one.Run("run", "-d", "--name", "m-docker", "--network", "mixed-net", "--label", "overlaynet.service=mixed", Images.Debian,
            "sh", "-c", """
            printf 'while read line && [ ${#line} -gt 1 ]; do :; done; printf "HTTP/1.0 200 OK\\r\\n\\r\\nm-docker\\n"' > /answer
            exec socat TCP-LISTEN:80,fork,reuseaddr,backlog=64 EXEC:'sh /answer'
            """);
        podman.Run("run", "-d", "--name", "m-podman", "--hostname", "m-podman", "--network", "mixed-net", PodmanCluster.Image, "sh", "-c", PodmanCluster.Serve).Succeeded();
        using var bare = cluster.Cluster.AddBackend("m-bare", _one.Node, "mixed-net", "mixed");
        using var client = cluster.Cluster.Attach("m-client", _two.Node, "mixed-net");
        Wait.Until("three members", () => cluster.Manager.CliJson("service", "backends", "--network", "mixed-net", "mixed").AsArray().Count == 3);
        string[] members = ["m-bare", "m-docker", "m-podman"];
        foreach (var member in members)
            Wait.Until($"{member} serves", () => client.Exec("curl", "-s", "-m", "2", $"http://{member}/").Code == 0);

        var answers = client.Ask("http://mixed/", 90);

        Assert.Equal(90, answers.Count);
        Assert.All(members, member => Assert.InRange(answers.Count(answer => answer.StartsWith(member, StringComparison.Ordinal)), 15, 45));
        // Each runtime's own client reaches them by the same name.
        Assert.Equal(0, _one.Exec("m-docker", "sh", "-c", "printf 'GET / HTTP/1.0\r\n\r\n' | socat -t2 - TCP4:mixed:80 >/dev/null").Code);
        podman.Run("exec", "m-podman", "wget", "-qO-", "http://mixed/").Succeeded();
    }

    [Fact]
    public void A_restarted_container_is_a_new_endpoint_and_the_old_name_follows()
    {
        cluster.CreateNetwork("again-net");
        _one.Run("run", "-d", "--name", "again", "--network", "again-net", Images.Busybox, "sleep", "1d");
        _two.Run("run", "-d", "--name", "watcher", "--network", "again-net", Images.Busybox, "sleep", "1d");
        Ledger.Balances(cluster, "again-net");
        var before = _one.Address("again", "again-net");
        Assert.Contains(before, _two.Exec("watcher", "nslookup", "again").Succeeded().Output, StringComparison.Ordinal);

        _one.Run("stop", "-t", "0", "again");
        Ledger.Balances(cluster, "again-net");
        Assert.NotEqual(0, _two.Exec("watcher", "nslookup", "again").Code);
        _one.Run("start", "again");
        Ledger.Balances(cluster, "again-net");

        var after = _one.Address("again", "again-net");
        Assert.NotEqual(before, after);
        Wait.Until("the new address", () => _two.Exec("watcher", "nslookup", "again").Output.Contains(after, StringComparison.Ordinal));
        _two.Exec("watcher", "ping", "-c", "2", "-W", "2", after).Succeeded();
    }

    [Fact]
    public void Names_and_membership_come_from_aliases_labels_and_driver_options()
    {
        cluster.CreateNetwork("name-net");
        _two.Run("run", "-d", "--name", "name_asker", "--network", "name-net", Images.Busybox, "sleep", "1d");
        _one.Run("run", "-d", "--name", "by-label", "--network", "name-net", "--network-alias", "nick", "--label", "overlaynet.service=late", Images.Busybox, "sleep", "1d");
        Wait.Until("the missing service is told", () => _one.Node.Cli("doctor", "--quick").Output.Contains("no service 'late'", StringComparison.Ordinal));
        // The service comes after its member.
        cluster.Manager.Cli("service", "create", "--network", "name-net", "--port", "80", "late");
        _one.Run("run", "-d", "--name", "by-option", "--network", "name=name-net,driver-opt=overlaynet.service=late,driver-opt=overlaynet.alias=other", Images.Busybox, "sleep", "1d");
        Wait.Until("two members", () => cluster.Manager.CliJson("service", "backends", "--network", "name-net", "late").AsArray().Count == 2);
        foreach (var (name, container) in new[] { ("by-label", "by-label"), ("nick", "by-label"), ("by-option", "by-option"), ("other", "by-option") })
            Wait.Until($"name {name}", () => _two.Exec("name_asker", "nslookup", name).Output.Contains(_one.Address(container, "name-net"), StringComparison.Ordinal));
        _one.Run("rename", "by-label", "renamed");
        Wait.Until("the new name", () => _two.Exec("name_asker", "nslookup", "renamed").Code == 0);

        var refused = _one.TryRun("run", "--rm", "--network", "name=name-net,driver-opt=overlaynet.service=nothing", Images.Busybox, "true");
        Assert.NotEqual(0, refused.Code);
        Assert.Contains("overlaynet service create --network name-net nothing", refused.Error, StringComparison.Ordinal);
    }

    [Fact]
    public void Ports_that_Docker_publishes_stay_Dockers_and_names_resolve_all_the_same()
    {
        cluster.CreateNetwork("pub-net");
        _two.Run("run", "-d", "--name", "other-pub", "--network", "pub-net", Images.Busybox, "sleep", "1d");
        _one.Run("run", "-d", "--name", "published", "--network", "pub-net", "-p", "8081:80", Images.Debian, "socat", "TCP-LISTEN:80,fork,reuseaddr", "SYSTEM:echo published");
        Ledger.Balances(cluster, "pub-net");
        Wait.Until("an answer from outside", () => Commands.In(cluster.Cluster.Outside, "socat", "-T2", "-", $"TCP:{_one.Node.Address}:8081").Text == "published", seen: () => _one.LogTail());
        Assert.StartsWith(_two.Address("other-pub", "pub-net"), _one.Exec("published", "getent", "hosts", "other-pub").Succeeded().Text, StringComparison.Ordinal);
    }

    [Fact]
    public void A_network_that_Docker_creates_is_the_clusters_and_goes_with_it()
    {
        _one.Run("network", "create", "-d", "overlaynet", "--ipam-driver", "overlaynet", "--subnet", "10.77.1.0/24", "docker-made");
        Wait.Until("the network in the other Docker", () => _two.TryRun("network", "inspect", "docker-made").Code == 0);
        Assert.Equal("10.77.1.0/24", (string?)cluster.Manager.CliJson("network", "inspect", "docker-made")[0]!["subnet4"]);
        _two.Run("run", "-d", "--name", "on-made", "--network", "docker-made", "--ip", "10.77.1.50", Images.Busybox, "sleep", "1d");
        _one.Run("run", "--rm", "--network", "docker-made", Images.Busybox, "ping", "-c", "2", "-W", "2", "10.77.1.50");
        _two.Run("rm", "-f", "on-made");
        _one.Run("network", "rm", "docker-made");
        Wait.Until("it is gone everywhere", () => _two.TryRun("network", "inspect", "docker-made").Code != 0
            && cluster.Manager.TryCli("network", "inspect", "docker-made").Code != 0);
    }

    [Theory]
    [InlineData("docker network create -d overlaynet plain", "--ipam-driver overlaynet")]
    [InlineData("docker network create -d overlaynet --ipam-driver overlaynet --subnet 192.0.2.0/24 over", "choose a subnet that no node has a route to")]
    [InlineData("docker network create -d overlaynet --ipam-driver overlaynet --ipam-opt overlaynet.network=nowhere bound", "overlaynet network ls")]
    [InlineData("docker network create -d overlaynet --ipam-driver overlaynet --aux-address a=10.78.0.9 --subnet 10.78.0.0/24 aux", "--ip-range")]
    public void What_cannot_be_is_refused_with_a_remedy(string command, string remedy)
    {
        var before = cluster.Manager.Cli("network", "ls").Output.Count(c => c == '\n');
        var refused = _one.TryRun(command.Split(' ')[1..]);
        Assert.NotEqual(0, refused.Code);
        Assert.Contains(remedy, refused.Error, StringComparison.Ordinal);
        Assert.Equal(before, cluster.Manager.Cli("network", "ls").Output.Count(c => c == '\n'));
    }

    [Fact]
    public void A_worker_does_not_create_networks()
    {
        var refused = _two.TryRun("network", "create", "-d", "overlaynet", "--ipam-driver", "overlaynet", "from-worker");
        Assert.NotEqual(0, refused.Code);
        Assert.Contains("manager", refused.Error, StringComparison.Ordinal);
    }

    [Fact]
    public void Both_families_and_two_networks()
    {
        cluster.CreateNetwork("dual-net", "--subnet", "10.79.0.0/24", "--subnet6", "fd79::/64");
        cluster.CreateNetwork("second-net");
        _one.Run("run", "-d", "--name", "dual-1", "--network", "dual-net", Images.Busybox, "sleep", "1d");
        _two.Run("run", "-d", "--name", "dual-2", "--network", "second-net", Images.Busybox, "sleep", "1d");
        _two.Run("network", "connect", "dual-net", "dual-2");
        Ledger.Balances(cluster, "dual-net");
        Ledger.Balances(cluster, "second-net");
        var address6 = (string)_two.Inspect("dual-2")["NetworkSettings"]!["Networks"]!["dual-net"]!["GlobalIPv6Address"]!;
        Assert.Equal("fd79::", IPAddress.Parse(address6).ToString()[..6]);
        Wait.Until("IPv6 reaches the other host", () => _one.Exec("dual-1", "ping", "-6", "-c", "1", "-W", "2", address6).Code == 0);
        _one.Exec("dual-1", "ping", "-c", "1", "-W", "2", _two.Address("dual-2", "dual-net")).Succeeded();
        _two.Run("network", "disconnect", "dual-net", "dual-2");
        Ledger.Balances(cluster, "dual-net");
    }
}
