using System.Diagnostics;
using OverlayNet.ClusterTests.Harness;

namespace OverlayNet.ClusterTests.Readable;

/// <summary>Consul's API as its clients read it, and npm's client itself.</summary>
[Collection(ReadableClusterTests.Name)]
public sealed class ConsulTests(ReadableCluster readable)
{
    /// <summary>Where npm's client is.</summary>
    internal const string Modules = "/var/cache/overlaynet-test/npm-consul/node_modules";

    [Fact]
    public void Npm_client_registers_passes_a_ttl_check_and_watches()
    {
        var manager = readable.Manager;
        using var first = readable.Cluster.Attach("api1", manager, ReadableCluster.Network);
        using var second = readable.Cluster.Attach("api2", manager, ReadableCluster.Network);
        try
        {
            var script = Path.Combine(Tree.Root, "tests", "cluster", "readable", "consul_client.js");
            var said = Commands.In(manager.Netns, "node", script, Modules, first.Address!, second.Address!);

            Assert.True(said.Code == 0, said.ToString());
            Assert.Contains("self \"node1\"", said.Output, StringComparison.Ordinal);
            Assert.Contains("registered [\"api-1\",\"api/2\"]", said.Output, StringComparison.Ordinal);
            Assert.Contains(
                $"entry {{\"address\":\"{first.Address}\",\"port\":8080,\"tags\":[\"v1\",\"blue\"],\"build\":\"7\",\"checks\":[[\"serfHealth\",\"passing\"],[\"service:api-1\",\"passing\"]]}}", said.Output, StringComparison.Ordinal);
            Assert.Contains("services [\"blue\",\"v1\"]", said.Output, StringComparison.Ordinal);
            Assert.DoesNotContain("error", said.Output, StringComparison.Ordinal);
        }
        finally
        {
            first.Remove();
            second.Remove();
            manager.TryCli("service", "rm", "--force", "api");
        }
    }

    [Fact]
    public async Task A_blocking_query_returns_when_its_own_answer_changes()
    {
        var worker = readable.Cluster.Nodes[2];
        var before = readable.Consul(worker, "/v1/health/service/web?passing");
        Assert.Equal(3, before.Json.AsArray().Count);
        Assert.Equal("true", before.Headers["X-Consul-KnownLeader"]);
        Assert.True(long.Parse(before.Headers["X-Consul-LastContact"], System.Globalization.CultureInfo.InvariantCulture) < 5000);
        var early = 0;
        var watch = Task.Run(() =>
        {
            // As clients do: what is behind already when it is asked for is answered at once, and asked for again.
            var answer = before;
            while (answer.Body == before.Body)
            {
                answer = readable.Consul(worker, $"/v1/health/service/web?passing&index={answer.Index}&wait=25s");
                if (answer.Body == before.Body)
                    Interlocked.Increment(ref early);
            }
            return answer;
        });

        // Other services' changes are none of this one's.
        string[] others = [.. Enumerable.Range(1, 6).Select(i => $"other{i}")];
        try
        {
            foreach (var other in others)
            {
                readable.Manager.Cli("service", "create", "--network", ReadableCluster.Network, other);
                Wait.Until($"the worker has heard of {other}", () => readable.Consul(worker, "/v1/catalog/services").Json.AsObject().ContainsKey(other));
            }
            Assert.False(watch.IsCompleted);
            Assert.InRange(early, 0, others.Length / 2);
            readable.Manager.Cli("endpoint", "drain", "--detach", "web2");
            var after = await watch;

            Assert.Equal(["web1", "web3"], after.Json.AsArray().Select(entry => (string)entry!["Service"]!["Meta"]!["endpoint"]!));
            Assert.True(after.Index > before.Index);
        }
        finally
        {
            foreach (var other in others)
                readable.Manager.TryCli("service", "rm", other);
            readable.Manager.Cli("endpoint", "activate", "web2");
            Wait.Until("web2 is back", () => readable.Consul(worker, "/v1/health/service/web?passing").Json.AsArray().Count == 3);
        }
    }

    [Fact]
    public void A_wait_ends_with_the_same_answer_and_index()
    {
        var node = readable.Cluster.Nodes[1];
        var before = readable.Consul(node, "/v1/catalog/service/web");
        var watch = Stopwatch.StartNew();
        var after = readable.Consul(node, $"/v1/catalog/service/web?index={before.Index}&wait=500ms&stale");

        Assert.True(watch.Elapsed >= TimeSpan.FromMilliseconds(450) || after.Index != before.Index, $"after {watch.Elapsed}");
        Assert.Equal(before.Body, after.Body);
        // An index that is not of this registry is answered at once: the client sees a lower one and begins anew.
        Assert.True(readable.Consul(node, "/v1/catalog/service/web?index=999999999&wait=20s").Index < 999999999);
    }

    [Fact]
    public void Shapes_are_those_that_clients_read()
    {
        var node = readable.Cluster.Nodes[0];
        var entry = readable.Consul(node, "/v1/health/service/web?tag=team%3Dblue%20%22quoted%22").Json.AsArray()[0]!;
        Assert.Equal("node1", (string?)entry["Node"]!["Node"]);
        Assert.Equal("192.0.2.1", (string?)entry["Node"]!["Address"]);
        Assert.NotEmpty((string)entry["Node"]!["ID"]!);
        Assert.Equal("dc1", (string?)entry["Node"]!["Datacenter"]);
        Assert.Equal(readable.Backends[0].Address, (string?)entry["Service"]!["Address"]);
        Assert.Equal(80, (int)entry["Service"]!["Port"]!);
        Assert.Equal(["serfHealth", $"service:{entry["Service"]!["ID"]}"], entry["Checks"]!.AsArray().Select(check => (string)check!["CheckID"]!));
        Assert.DoesNotContain("null", entry.ToJsonString(), StringComparison.Ordinal);

        Assert.Equal("dc1", (string?)readable.Consul(node, "/v1/agent/self").Json["Config"]!["Datacenter"]);
        Assert.Equal("[\"dc1\"]", readable.Consul(node, "/v1/catalog/datacenters").Body);
        Assert.Equal(["node1", "node2", "node3"], readable.Consul(node, "/v1/catalog/nodes?dc=dc1").Json.AsArray().Select(one => (string)one!["Node"]!));
        Assert.Equal(["web"], readable.Consul(node, "/v1/catalog/node/node3").Json["Services"]!.AsObject().Select(one => (string)one.Value!["Service"]!));
        Assert.Equal("null", readable.Consul(node, "/v1/catalog/node/none").Body);
        Assert.Equal(3, readable.Consul(node, "/v1/health/checks/web").Json.AsArray().Count);
        Assert.Equal(2, readable.Consul(node, "/v1/health/node/node1").Json.AsArray().Count);
        Assert.True(readable.Consul(node, "/v1/health/state/any").Json.AsArray().Count >= 6);
        Assert.Equal("[]", readable.Consul(node, "/v1/health/service/none").Body);
        Assert.Equal("[]", readable.Consul(node, "/v1/health/service/web?ns=other").Body);
    }

    [Fact]
    public void Refusals_name_what_is_wrong()
    {
        var (manager, worker) = (readable.Cluster.Nodes[0], readable.Cluster.Nodes[1]);

        Assert.Equal((500, "No path to datacenter"), Refusal(manager, "/v1/catalog/services?dc=none"));
        Assert.Equal(400, Refusal(manager, "/v1/health/service/web?index=x").Status);
        Assert.Equal(400, Refusal(manager, "/v1/health/service/web?index=" + readable.Consul(manager, "/v1/catalog/nodes").Index + "&wait=soon").Status);
        Assert.StartsWith("filter:", Refusal(manager, "/v1/health/service/web?filter=x").Text, StringComparison.Ordinal);
        Assert.Equal((404, "Unknown check ID \"none\". Ensure that the check ID is passed, not the check name."), Refusal(manager, "/v1/agent/check/pass/none", "-X", "PUT"));
        Assert.StartsWith("Address:", Refusal(manager, "/v1/agent/service/register", "-X", "PUT", "-d", "{\"Name\":\"x\",\"Address\":\"203.0.113.1\"}").Text, StringComparison.Ordinal);
        Assert.Equal(400, Refusal(manager, "/v1/agent/service/register", "-X", "PUT", "-d", "{").Status);
        // A worker may not create services; it says what to run, and where.
        var (status, text) = Refusal(worker, "/v1/agent/service/register", "-X", "PUT", "-d", $"{{\"Name\":\"novel\",\"Address\":\"{readable.Reader.Address}\",\"Port\":9}}");
        Assert.Equal(403, status);
        Assert.Contains("overlaynet service create --network app --port 9 novel", text, StringComparison.Ordinal);

        using var alone = Cluster.Lay(1);
        alone.Nodes[0].Configure("consul.listen: 127.0.0.1:8500");
        alone.Nodes[0].Start();
        Assert.EndsWith("No cluster leader500", Commands.In(alone.Nodes[0].Netns, "curl", "-s", "-m", "10", "-w", "%{http_code}", "http://127.0.0.1:8500/v1/catalog/services").Succeeded().Text, StringComparison.Ordinal);
    }

    private (int Status, string Text) Refusal(ClusterNode node, string path, params string[] more)
    {
        var answer = readable.Consul(node, path, more);
        return (answer.Status, answer.Body);
    }
}
