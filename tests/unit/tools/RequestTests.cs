using System.Text.Json;
using System.Text.Json.Nodes;
using OverlayNet.Contracts;

namespace OverlayNet.UnitTests.Tools;

/// <summary>Every verb asks the daemon for the right thing.</summary>
public sealed class RequestTests
{
    private const string Network = """{"id":"n1","name":"app","vni":4096,"gatewayMac":"02:00:00:00:00:01"}""";
    private const string Service = """{"id":"s1","name":"web","networkId":"n1"}""";
    private static readonly string Status = JsonSerializer.Serialize(
        new StatusReport { Daemon = "running", NodeId = "abc", NodeName = "node1", ClusterId = "c1", Role = NodeRole.Manager }, OverlayNetJson.Default.StatusReport);
    private const string Tokens = """{"worker":"WWW","manager":"MMM"}""";
    private const string Attached =
        """{"endpoint":{"id":"e123","name":"web1","nodeId":"abc","networkId":"n1","mac":"02:00:00:00:00:02","address4":"10.10.0.5"},"network":{"id":"n1","name":"app","vni":4096,"gatewayMac":"02:00:00:00:00:01"},"dns":["10.10.0.1"],"mtu":1450,"revision":7}""";

    public static TheoryData<string, string, string, string> Commands => new()
    {
        { "init --address 192.0.2.1 --name node1 --dc fra --domain corp.internal --port 7400", "POST /v1/init", Status, """{"address":"192.0.2.1","nodeName":"node1","dc":"fra","clusterDomain":"corp.internal","apiPort":7400}""" },
        { "join --token T --address 2001:db8::2 [2001:db8::1]:7373", "POST /v1/cluster/join", Status, """{"token":"T","host":"[2001:db8::1]:7373","address":"2001:db8::2"}""" },
        { "leave", "POST /v1/leave", "", "" },
        { "leave --force", "POST /v1/leave?force=true", "", "" },
        { "token show", "GET /v1/tokens", Tokens, "" },
        { "token rotate manager", "POST /v1/tokens/rotate?role=manager", Tokens, "" },
        { "node ls", "GET /v1/nodes", "[]", "" },
        { "node drain node2", "PATCH /v1/nodes/node2", "{}", """{"availability":"drain"}""" },
        { "node pause node2", "PATCH /v1/nodes/node2", "{}", """{"availability":"pause"}""" },
        { "node activate node2", "PATCH /v1/nodes/node2", "{}", """{"availability":"active"}""" },
        { "node rm node2", "DELETE /v1/nodes/node2", "", "" },
        { "network create --subnet 10.10.0.0/24 --subnet fd00:10::/64 --ip-range 10.10.0.128/25 --gateway 10.10.0.254 --vni 77 --mtu 1400 --internal --allow-overlap --label a=b=c app", "POST /v1/networks", Network,
            """{"name":"app","subnet":"10.10.0.0/24","subnet6":"fd00:10::/64","ipRange":"10.10.0.128/25","gateway":"10.10.0.254","vni":77,"mtu":1400,"internal":true,"encrypted":false,"allowOverlap":true,"labels":{"a":"b=c"}}""" },
        { "network create app", "POST /v1/networks", Network, """{"name":"app","mtu":0,"internal":false,"encrypted":false,"allowOverlap":false}""" },
        { "network ls", "GET /v1/networks", $"[{Network}]", "" },
        { "network rm app", "DELETE /v1/networks/app", "", "" },
        { "network prune --force", "POST /v1/networks/prune", "[]", "" },
        { "service create --network app --port 8080:80/tcp -p dns=53/udp --alias www --scheduler LC --affinity 10 --drain 5 --slow-start 60 --publish-policy local --balancer nft --endpoint-mode dnsrr web", "POST /v1/services", Service,
            """{"name":"web","network":"app","ports":["8080:80/tcp","dns=53/udp"],"endpointMode":"dnsrr","aliases":["www"],"scheduler":"lc","affinitySeconds":10,"balancer":"nft","publishMode":"ingress","publishPolicy":"local","drainSeconds":5,"slowStartSeconds":60}""" },
        { "service update --lost-after 10m --on-return replace --stop-on-client-after 5m web", "PATCH /v1/services/web", Service, """{"lostAfter":"10m","onReturn":"replace","stopOnClientAfter":"5m"}""" },
        { "service update --drain 9 --network app web", "PATCH /v1/services/web?network=app", Service, """{"drainSeconds":9}""" },
        { "service rm --force --network app web", "DELETE /v1/services/web?network=app&force=true", "", "" },
        { "node rm -f node2", "DELETE /v1/nodes/node2?force=true", "", "" },
        { "endpoint drain --detach --network app web1", "PATCH /v1/endpoints/web1?network=app", "{}", """{"state":"draining"}""" },
        { "service rm web", "DELETE /v1/services/web", "", "" },
        { "service backends web --network app", "GET /v1/services/web/backends?network=app", "[]", "" },
        { "attach --network app --service web --netns web1 --ip 10.10.0.5 --weight 3 --alias a --interface net0 --resolv-conf", "POST /v1/attach", Attached,
            """{"network":"app","service":"web","netns":"/run/netns/web1","ip":"10.10.0.5","aliases":["a"],"weight":3,"interface":"net0","writeResolvConf":true}""" },
        { "attach --network app --pid 42", "POST /v1/attach", Attached, """{"network":"app","netns":"/proc/42/ns/net","writeResolvConf":false}""" },
        { "detach --network app --netns web1", "POST /v1/detach", "", """{"network":"app","netns":"/run/netns/web1"}""" },
        { "detach web1", "POST /v1/detach", "", """{"endpoint":"web1"}""" },
        { "endpoint drain -d web1", "PATCH /v1/endpoints/web1", "{}", """{"state":"draining"}""" },
        { "endpoint check fail web1 --note full", "POST /v1/endpoints/web1/check", "", """{"status":"fail","note":"full"}""" },
        { "service update --health http:8080/healthz --health-interval 200ms --health-failures 5 --health-option body=ok --publish-not-ready web", "PATCH /v1/services/web", Service,
            """{"health":["http:8080/healthz","interval=200ms","failures=5","body=ok"],"publishNotReady":true}""" },
        { "endpoint connections --network app client1", "GET /v1/endpoints/client1/connections?network=app", "[]", "" },
        { "endpoint activate web1", "PATCH /v1/endpoints/web1", "{}", """{"state":"healthy"}""" },
        { "endpoint set-weight web1 0", "PATCH /v1/endpoints/web1", "{}", """{"weight":0}""" },
        { "endpoint set-health web1 --health tcp:81 --health-failures 2", "PATCH /v1/endpoints/web1", "{}", """{"health":["tcp:81","failures=2"]}""" },
        { "endpoint rm web1", "DELETE /v1/endpoints/web1", "", "" },
        { "dns query web", "GET /v1/dns/query?name=web&type=A", Answer("A"), "" },
        { "dns query 10.10.0.2 --from client", "GET /v1/dns/query?name=10.10.0.2&type=PTR&from=client", Answer("PTR"), "" },
        { "dns query web --type aaaa", "GET /v1/dns/query?name=web&type=AAAA", Answer("AAAA"), "" },
        { "dns table --network app", "GET /v1/dns/table?network=app", """[{"network":"app","name":"web","type":"A","ttl":5,"data":"10.10.0.2"}]""", "" },
        { "dns cache", "GET /v1/dns/cache", """[{"name":"example.com.","type":"A","rcode":"NOERROR","secondsLeft":-3,"upstream":"10.0.0.53","hits":2,"bytes":96}]""", "" },
        { "dns flush", "POST /v1/dns/flush", "", "" },
        { "dns flush corp.example", "POST /v1/dns/flush?domain=corp.example", "", "" },
        { "dns query --explain web", "GET /v1/dns/query?name=web&type=A", Answer("A"), "" },
        { "status", "GET /v1/status", Status, "" },
        { "events --since 10m --follow", "GET /v1/events?since=10m&follow=true", "", "" },
        { "doctor --quick", "GET /v1/doctor", """{"node":"node1","checked":[],"findings":[]}""", "" },
        { "network inspect app", "GET /v1/networks/app", Network, "" },
    };

    private static string Answer(string type) =>
        JsonSerializer.Serialize(new DnsQueryReport { Name = "web", Type = type, Rcode = "NOERROR" }, OverlayNetJson.Default.DnsQueryReport);

    [Theory]
    [MemberData(nameof(Commands))]
    public async Task Verb_asks_for(string command, string request, string answer, string body)
    {
        await using var daemon = await FakeDaemon.Start();
        daemon.On(request, answer);

        var (code, _, error) = await daemon.Run(command.Split(' '));

        Assert.Equal("", error);
        Assert.Equal(0, code);
        var asked = Assert.Single(daemon.Asked);
        Assert.Equal(request, asked.Request);
        if (body.Length == 0)
            Assert.Equal("", asked.Body);
        else
            Assert.True(JsonNode.DeepEquals(JsonNode.Parse(body), JsonNode.Parse(asked.Body)), asked.Body);
    }

    [Fact]
    public async Task Names_with_unusual_characters_stay_one_path_segment()
    {
        await using var daemon = await FakeDaemon.Start();

        await daemon.Run("network", "inspect", "a/../b?c");

        Assert.Equal("GET /v1/networks/a%2F..%2Fb%3Fc", Assert.Single(daemon.Asked).Request);
    }

    [Fact]
    public async Task Json_keeps_members_that_this_program_does_not_know()
    {
        await using var daemon = await FakeDaemon.Start();
        daemon.On("GET /v1/nodes", """[{"id":"a","name":"node1","dc":"dc1","address":"192.0.2.1","future":{"x":1}}]""");

        var (code, output, _) = await daemon.Run("node", "ls", "--json");

        Assert.Equal(0, code);
        Assert.Equal(1, JsonDocument.Parse(output).RootElement[0].GetProperty("future").GetProperty("x").GetInt32());
    }

    [Fact]
    public async Task Inspect_prints_one_array_for_several_objects()
    {
        await using var daemon = await FakeDaemon.Start();
        daemon.On("GET /v1/services/a?network=app", """{"name":"a"}""").On("GET /v1/services/b?network=app", """{"name":"b"}""");

        var (_, output, _) = await daemon.Run("service", "inspect", "--network", "app", "a", "b");

        Assert.Equal(["a", "b"], JsonDocument.Parse(output).RootElement.EnumerateArray().Select(item => item.GetProperty("name").GetString()));
    }

    [Fact]
    public async Task Removing_several_goes_on_after_a_refusal_and_ends_with_its_code()
    {
        await using var daemon = await FakeDaemon.Start();
        daemon.On("DELETE /v1/networks/b", "");

        var (code, output, error) = await daemon.Run("network", "rm", "a", "b");

        Assert.Equal(2, code);
        Assert.Equal("b\n", output);
        Assert.Contains("nothing at DELETE /v1/networks/a", error, StringComparison.Ordinal);
    }
}
