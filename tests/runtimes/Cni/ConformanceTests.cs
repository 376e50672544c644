using System.Globalization;
using OverlayNet.ClusterTests.Harness;

namespace OverlayNet.RuntimeTests.Cni;

/// <summary>
/// The calls that runtimes make, in the order of the specification's life of a container, as recorded from podman, ctr and
/// libcni: what comes back, what the kernel then has, and that nothing is left.
/// </summary>
public sealed class ConformanceTests(CniCluster world) : IClassFixture<CniCluster>
{
    [Theory]
    [InlineData("0.3.1")]
    [InlineData("0.4.0")]
    [InlineData("1.0.0")]
    [InlineData("1.1.0")]
    public void Add_check_delete_delete_in_every_version(string version)
    {
        var (container, id) = world.AddContainer();

        var result = CniPlugin.Call("ADD", world.Config(version), id, container.NetnsPath, "eth0").Succeeded();

        Assert.Equal(version, (string)result["cniVersion"]!);
        Assert.Equal(container.NetnsPath, (string)result["interfaces"]![0]!["sandbox"]!);
        var address = ((string)result["ips"]![0]!["address"]!).Split('/')[0];
        Assert.Contains(address, container.Exec("ip", "-4", "addr", "show", "eth0").Output, StringComparison.Ordinal);
        container.Exec("ping", "-c", "1", "-W", "5", (string)result["ips"]![0]!["gateway"]!).Succeeded();
        Assert.Equal(result.ToJsonString(), CniPlugin.Call("ADD", world.Config(version), id, container.NetnsPath, "eth0").Succeeded().ToJsonString());
        var withResult = world.Config(version, more: $",\"prevResult\":{result.ToJsonString()}");
        var check = CniPlugin.Call("CHECK", withResult, id, container.NetnsPath, "eth0");
        Assert.Equal(version == "0.3.1" ? 1 : 0, check.Code);

        CniPlugin.Call("DEL", withResult, id, container.NetnsPath, "eth0").Succeeded();
        Assert.DoesNotContain("eth0", container.Exec("ip", "link").Output, StringComparison.Ordinal);
        Assert.False(world.Endpoints().ContainsKey(id));
        if (version != "0.3.1")
            Assert.Equal(101, CniPlugin.Call("CHECK", withResult, id, container.NetnsPath, "eth0").Code);
        CniPlugin.Call("DEL", withResult, id, "", "eth0").Succeeded();
        CniPlugin.Call("DEL", world.Config(version), id, null, "eth0").Succeeded();
    }

    [Fact]
    public void A_container_that_is_gone_already_is_deleted_without_a_namespace()
    {
        var (container, id) = world.AddContainer();
        CniPlugin.Call("ADD", world.Config(), id, container.NetnsPath, "eth0").Succeeded();
        container.Remove();

        CniPlugin.Call("DEL", world.Config(), id, "", "eth0").Succeeded();

        Wait.Until("the endpoint is gone", () => !world.Endpoints().ContainsKey(id));
    }

    [Fact]
    public void What_the_runtime_asks_for_is_given()
    {
        var (container, id) = world.AddContainer();
        const string more = """,'service':'web','weight':3,'aliases':['first'],'runtimeConfig':{'ips':['10.10.0.200/24','fd00:10::200'],'mac':'0a:58:0a:0a:00:c8','aliases':{'app':['second']}}""";

        CniPlugin.Call("ADD", world.Config(more: more.Replace('\'', '"')), id, container.NetnsPath, "net1", "IgnoreUnknown=1;K8S_POD_NAME=Web_Front").Succeeded();

        var endpoint = world.Endpoints()[id];
        Assert.Equal("web-front", (string)endpoint["name"]!);
        Assert.Equal(("10.10.0.200", "fd00:10::200", "0a:58:0a:0a:00:c8"), ((string)endpoint["address4"]!, (string)endpoint["address6"]!, (string)endpoint["mac"]!));
        Assert.Equal(["first", "second"], endpoint["aliases"]!.AsArray().Select(alias => (string)alias!));
        Assert.Contains("0a:58:0a:0a:00:c8", container.Exec("ip", "link", "show", "net1").Output, StringComparison.Ordinal);
        var (client, clientId) = world.AddContainer(world.Cluster.Nodes[1]);
        CniPlugin.Call("ADD", world.Config(node: client.Node), clientId, client.NetnsPath, "eth0").Succeeded();
        foreach (var name in new[] { "web-front", "first", "second" })
            Assert.Equal("10.10.0.200", client.Exec("dig", "+short", "+search", $"{name}.app.overlay.internal", "@10.10.0.1").Text);
        client.Exec("ping", "-c", "1", "-W", "5", "10.10.0.200").Succeeded();
        Assert.Contains("web-front", world.Manager.Cli("service", "backends", "web").Output, StringComparison.Ordinal);

        // The same MAC, and the same address, are refused with what has them.
        var (other, otherId) = world.AddContainer();
        var sameMac = CniPlugin.Call("ADD", world.Config(more: ",\"runtimeConfig\":{\"mac\":\"0a:58:0a:0a:00:c8\"}"), otherId, other.NetnsPath, "eth0");
        Assert.Equal(100, sameMac.Code);
        Assert.Contains("0a:58:0a:0a:00:c8", sameMac.Message, StringComparison.Ordinal);
        var sameAddress = CniPlugin.Call("ADD", world.Config(more: ",\"runtimeConfig\":{\"ips\":[\"10.10.0.200\"]}"), otherId, other.NetnsPath, "eth0");
        Assert.Equal(100, sameAddress.Code);
        Assert.Contains("web-front", sameAddress.Message, StringComparison.Ordinal);
        CniPlugin.Call("DEL", world.Config(), id, container.NetnsPath, "net1").Succeeded();
        CniPlugin.Call("ADD", world.Config(more: ",\"runtimeConfig\":{\"mac\":\"0a:58:0a:0a:00:c8\"}"), otherId, other.NetnsPath, "eth0").Succeeded();
    }

    [Fact]
    public void Two_containers_of_one_name_both_answer_to_it()
    {
        var (one, oneId) = world.AddContainer();
        var (two, twoId) = world.AddContainer(world.Cluster.Nodes[1]);

        var first = CniPlugin.Call("ADD", world.Config(), oneId, one.NetnsPath, "eth0", "K8S_POD_NAME=twin").Succeeded();
        var second = CniPlugin.Call("ADD", world.Config(node: two.Node), twoId, two.NetnsPath, "eth0", "K8S_POD_NAME=twin").Succeeded();

        string[] addresses = [.. new[] { first, second }.Select(result => ((string)result["ips"]![0]!["address"]!).Split('/')[0]).Order(StringComparer.Ordinal)];
        Assert.Equal(addresses, one.Exec("dig", "+short", "twin.app.overlay.internal", "@10.10.0.1").Lines.Order(StringComparer.Ordinal));
    }

    [Fact]
    public void Mistakes_have_the_specifications_codes()
    {
        var (container, id) = world.AddContainer();
        (string What, int Code, string Named, Func<CniAnswer> Call)[] cases =
        [
            ("no container id", 4, "CNI_CONTAINERID", () => CniPlugin.Call("ADD", world.Config(), null, container.NetnsPath, "eth0")),
            ("no namespace", 4, "CNI_NETNS", () => CniPlugin.Call("ADD", world.Config(), id, null, "eth0")),
            ("a namespace that is none", 4, "/etc/hostname", () => CniPlugin.Call("ADD", world.Config(), id, "/etc/hostname", "eth0")),
            ("a namespace that is not there", 4, "/run/netns/nowhere", () => CniPlugin.Call("ADD", world.Config(), id, "/run/netns/nowhere", "eth0")),
            ("a long interface name", 4, "CNI_IFNAME", () => CniPlugin.Call("ADD", world.Config(), id, container.NetnsPath, "interface-0123456789")),
            ("an interface that is there", 100, "'lo'", () => CniPlugin.Call("ADD", world.Config(), id, container.NetnsPath, "lo")),
            ("an unknown command", 4, "FLY", () => CniPlugin.Call("FLY", world.Config(), id, container.NetnsPath, "eth0")),
            ("no JSON", 6, "JSON", () => CniPlugin.Call("ADD", "{", id, container.NetnsPath, "eth0")),
            ("an unknown version", 1, "9.9.9", () => CniPlugin.Call("ADD", world.Config("9.9.9"), id, container.NetnsPath, "eth0")),
            ("an unknown network", 7, "nowhere", () => CniPlugin.Call("ADD", world.Config(more: ",\"network\":\"nowhere\""), id, container.NetnsPath, "eth0")),
            ("an unknown service", 7, "nothing", () => CniPlugin.Call("ADD", world.Config(more: ",\"service\":\"nothing\""), id, container.NetnsPath, "eth0")),
            ("an address elsewhere", 7, "192.0.2.9", () => CniPlugin.Call("ADD", world.Config(more: ",\"runtimeConfig\":{\"ips\":[\"192.0.2.9\"]}"), id, container.NetnsPath, "eth0")),
            ("a multicast MAC", 7, "01:00:5e", () => CniPlugin.Call("ADD", world.Config(more: ",\"runtimeConfig\":{\"mac\":\"01:00:5e:00:00:01\"}"), id, container.NetnsPath, "eth0")),
            ("an alias that is no name", 7, "a_b", () => CniPlugin.Call("ADD", world.Config(more: ",\"aliases\":[\"a_b\"]"), id, container.NetnsPath, "eth0")),
            ("CHECK without a result", 7, "prevResult", () => CniPlugin.Call("CHECK", world.Config(), id, container.NetnsPath, "eth0")),
            ("GC without a list", 7, "valid-attachments", () => CniPlugin.Call("GC", world.Config())),
            ("no daemon", 11, "nothing.sock", () => CniPlugin.Call("ADD", """{"cniVersion":"1.1.0","name":"app","socket":"/run/nothing.sock"}""", id, container.NetnsPath, "eth0")),
        ];

        foreach (var (what, code, named, call) in cases)
        {
            var answer = call();
            Assert.True(answer.Code == code, $"{what}: code {answer.Code} instead of {code}: {answer.Output}");
            Assert.True(answer.Message.Contains(named, StringComparison.Ordinal), $"{what}: '{named}' is not named: {answer.Output}");
        }
        Assert.DoesNotContain("eth0", container.Exec("ip", "link").Output, StringComparison.Ordinal);
        Assert.False(world.Endpoints().ContainsKey(id));
    }

    [Fact]
    public void STATUS_says_whether_ADD_could_be_served()
    {
        CniPlugin.Call("STATUS", world.Config()).Succeeded();
        Assert.Equal(50, CniPlugin.Call("STATUS", world.Config(more: ",\"network\":\"nowhere\"")).Code);
        var absent = CniPlugin.Call("STATUS", """{"cniVersion":"1.1.0","name":"app","socket":"/run/nothing.sock"}""");
        Assert.Equal(50, absent.Code);
        Assert.Contains("/run/nothing.sock", absent.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void CHECK_sees_what_others_have_changed()
    {
        var (container, id) = world.AddContainer();
        var result = CniPlugin.Call("ADD", world.Config(name: CniCluster.Internal), id, container.NetnsPath, "eth0").Succeeded();
        Assert.Empty(result["routes"]!.AsArray());
        var config = world.Config(name: CniCluster.Internal, more: $",\"prevResult\":{result.ToJsonString().Replace("10.20.0", "10.21.0", StringComparison.Ordinal)}");

        var check = CniPlugin.Call("CHECK", config, id, container.NetnsPath, "eth0");

        Assert.Equal(101, check.Code);
        Assert.Contains("10.21.0", check.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void GC_removes_what_no_container_uses_and_nothing_else()
    {
        var kept = world.AddContainer();
        var lost = world.AddContainer();
        var elsewhere = world.AddContainer();
        foreach (var (container, id) in new[] { kept, lost })
            CniPlugin.Call("ADD", world.Config(name: "gc", more: ",\"network\":\"app\""), id, container.NetnsPath, "eth0").Succeeded();
        CniPlugin.Call("ADD", world.Config(), elsewhere.Id, elsewhere.Container.NetnsPath, "eth0").Succeeded();

        CniPlugin.Call("GC", world.Config(name: "gc", more: $$""","network":"app","cni.dev/valid-attachments":[{"containerID":"{{kept.Id}}","ifname":"eth0"}]""")).Succeeded();

        var endpoints = world.Endpoints();
        Assert.True(endpoints.ContainsKey(kept.Id));
        Assert.False(endpoints.ContainsKey(lost.Id));
        Assert.True(endpoints.ContainsKey(elsewhere.Id));
    }

    [Fact]
    public async Task Thirty_at_once_get_thirty_addresses()
    {
        var containers = Enumerable.Range(0, 30).Select(i => world.AddContainer(world.Cluster.Nodes[i % 2])).ToList();

        var results = await Task.WhenAll(containers.Select(entry => Task.Run(() =>
            CniPlugin.Call("ADD", world.Config(node: entry.Container.Node), entry.Id, entry.Container.NetnsPath, "eth0").Succeeded())));

        foreach (var family in new[] { 0, 1 })
            Assert.Equal(30, results.Select(result => (string)result["ips"]![family]!["address"]!).Distinct().Count());
        await Task.WhenAll(containers.Select(entry => Task.Run(() =>
            CniPlugin.Call("DEL", world.Config(node: entry.Container.Node), entry.Id, entry.Container.NetnsPath, "eth0").Succeeded())));
        var left = world.Endpoints();
        Assert.DoesNotContain(containers, entry => left.ContainsKey(entry.Id));
    }

    [Fact]
    public void A_process_that_ends_takes_its_endpoint_with_it()
    {
        using var process = BackgroundProcess.In(world.Manager.Netns, "unshare", "--net", "sh", "-c", "echo ready; exec sleep 600").Says("ready");
        // Somebody else holds the namespace too, as a debugger does: only the process's end tells.
        using var holder = BackgroundProcess.In(world.Manager.Netns, "nsenter", $"--net=/proc/{process.Pid.ToString(CultureInfo.InvariantCulture)}/ns/net", "sh", "-c", "echo inside; exec sleep 600").Says("inside");
        CniPlugin.Call("ADD", world.Config(), "by-process", $"/proc/{process.Pid.ToString(CultureInfo.InvariantCulture)}/ns/net", "eth0").Succeeded();
        Assert.True(world.Endpoints().ContainsKey("by-process"));

        process.End("KILL");

        Wait.Until("the endpoint is withdrawn", () => !world.Endpoints().ContainsKey("by-process"));
        Assert.Contains("endpoint withdraw by-process", world.Manager.Cli("events").Output, StringComparison.Ordinal);
    }

    [Fact]
    public void A_daemon_that_is_killed_in_between_changes_nothing()
    {
        var node = world.Cluster.Nodes[1];
        var (container, id) = world.AddContainer(node);
        var result = CniPlugin.Call("ADD", world.Config(node: node), id, container.NetnsPath, "eth0").Succeeded();

        node.Kill();
        try
        {
            Assert.Equal(11, CniPlugin.Call("DEL", world.Config(node: node), id, container.NetnsPath, "eth0").Code);
            Assert.Equal(50, CniPlugin.Call("STATUS", world.Config(node: node)).Code);
            container.Exec("ip", "addr", "show", "eth0").Succeeded();
        }
        finally
        {
            // The class's other tests use this node too.
            node.Start();
        }

        CniPlugin.Call("CHECK", world.Config(more: $",\"prevResult\":{result.ToJsonString()}", node: node), id, container.NetnsPath, "eth0").Succeeded();
        CniPlugin.Call("DEL", world.Config(node: node), id, container.NetnsPath, "eth0").Succeeded();
        Assert.False(world.Endpoints().ContainsKey(id));
    }
}
