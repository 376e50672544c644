using System.Diagnostics;
using System.Globalization;
using System.Text.Json.Nodes;
using OverlayNet.ClusterTests.Harness;
using Xunit.Abstractions;

namespace OverlayNet.ClusterTests.Health;

/// <summary>What clients get while backends come back, flap, are replaced or all fail.</summary>
[Collection(HealthClusterTests.Name)]
public sealed class TrafficTests(HealthCluster health, ITestOutputHelper output)
{
    [Fact]
    public void A_recovering_backend_gets_a_fifth_then_ramps_to_its_share()
    {
        using var service = health.Empty("http:/", "--health-interval", "200ms", "--health-option", "ramp=90s");
        var (steady, back) = (service.Add($"{service.Name}-1", health.Cluster.Nodes[0]), service.Add($"{service.Name}-2", health.Cluster.Nodes[1]));
        service.AwaitState(back.Name, "healthy");
        CheckedService.BlackHole(back);
        service.AwaitState(back.Name, "unhealthy");
        CheckedService.Mend(back);
        service.AwaitState(back.Name, "recovering");
        Wait.Until("the weight is in every kernel", () => health.Apis.All(api => (int)api.Backend(service.Name, back.Name)["balanced"]! == 2));
        Wait.Until("applied", () => health.Cluster.Nodes.All(node => node.CliJson("status") is var status && (long)status["appliedRevision"]! >= (long)status["registryRevision"]!));
        var answers = health.Clients[2].Ask($"http://{service.Name}/", 1000);
        Assert.Equal(1000, answers.Count);
        var share = answers.Count(answer => answer.StartsWith($"{back.Name} ", StringComparison.Ordinal)) / 10.0;
        output.WriteLine($"recovering: {share:0.0} % of 1000 connections");
        // Within a sixth of the window it is at 2/8; a machine that took longer to ask saw the next step too.
        Assert.InRange(share, 17, health.Apis[0].Backend(service.Name, back.Name) is var now && (int)now["balanced"]! == 2 ? 23 : 35);
        Assert.Contains(health.Clients[2].Exec("dig", "+short", "SRV", $"_http._tcp.{service.Name}").Lines, line => line.Contains(back.Name, StringComparison.Ordinal));

        health.Manager.Cli("service", "update", "--health-option", "ramp=1s", service.Name);
        service.AwaitState(back.Name, "healthy");
        var full = health.Clients[2].Ask($"http://{service.Name}/", 200);
        Assert.InRange(full.Count(answer => answer.StartsWith($"{steady.Name} ", StringComparison.Ordinal)), 80, 120);
    }

    /// <summary>Answers 503 to what is more than so many requests a second; checks are not counted.</summary>
    private const string Limited = """
        import http.server, socket, sys, threading, time
        rate = float(sys.argv[1])
        lock, tokens, at = threading.Lock(), rate, time.monotonic()
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                global tokens, at
                ok = self.path == "/healthz"
                if not ok:
                    with lock:
                        now = time.monotonic()
                        tokens, at = min(rate, tokens + (now - at) * rate), now
                        if tokens >= 1:
                            tokens, ok = tokens - 1, True
                self.send_response(200 if ok else 503)
                self.end_headers()
                self.wfile.write(b"limited\n")
            def log_message(self, *arguments):
                pass
        class Server(http.server.ThreadingHTTPServer):
            request_queue_size, daemon_threads = 1024, True
        class Server6(Server):
            address_family = socket.AF_INET6
        for address in sys.argv[2:]:
            threading.Thread(target=(Server6 if ":" in address else Server)((address, 80), Handler).serve_forever).start()
        """;

    [Fact]
    [Trait("Category", "Soak")]
    public void A_backend_that_can_take_but_a_part_of_its_load_fails_nobody_while_it_begins_with_two_eighths()
    {
        using var service = health.Empty("http:/healthz", "--health-interval", "200ms", "--health-option", "ramp=120s");
        service.Add($"{service.Name}-1", health.Cluster.Nodes[0]);
        var weak = service.Add($"{service.Name}-2", health.Cluster.Nodes[1], serve: false);
        // Of 100 a second, two of ten eighths are 20, and half of it is 50.
        weak.Start("python3", "-c", Limited, "25", weak.Address!, weak.Address6!);
        service.AwaitState(weak.Name, "healthy");
        CheckedService.BlackHole(weak);
        service.AwaitState(weak.Name, "unhealthy");
        CheckedService.Mend(weak);
        service.AwaitState(weak.Name, "recovering");
        Wait.Until("the weight is in every kernel", () => health.Apis.All(api => (int)api.Backend(service.Name, weak.Name)["balanced"]! == 2));

        var (ok, failed, share) = Load();
        output.WriteLine($"recovering: {ok} answered, {failed} failed, {share:0.0} % to it");
        Assert.Equal(0, failed);
        health.Manager.Cli("service", "update", "--health-option", "ramp=1s", service.Name);
        service.AwaitState(weak.Name, "healthy");
        // What it would have been spared: with all of its weight it cannot keep up.
        (ok, failed, share) = Load();
        output.WriteLine($"healthy: {ok} answered, {failed} failed");
        Assert.True(failed > 0, "the load is no load");

        (int Ok, int Failed, double Share) Load()
        {
            using var client = health.Clients[2].Start(Tree.Library("paced_client.py"), service.Name, "80", "100").Says("running");
            var since = Stopwatch.GetTimestamp();
            Wait.Until("eight seconds of load", () => Stopwatch.GetElapsedTime(since) > TimeSpan.FromSeconds(8));
            var result = JsonNode.Parse(client.End("TERM").Split('\n', StringSplitOptions.RemoveEmptyEntries)[^1])!;
            return ((int)result["ok"]!, (int)result["failed"]!, 100.0 * ((int?)result["backends"]!["limited"] ?? 0) / (int)result["ok"]!);
        }
    }

    [Fact]
    public void A_flapping_backend_changes_at_most_once_in_each_hold_time()
    {
        var hold = TimeSpan.FromSeconds(4);
        using var service = health.Service("http:/", "--health-interval", "200ms", "--health-option", "hold=4s", "--health-option", "ramp=2s");
        var backend = service.Backends[1];
        var since = Stopwatch.GetTimestamp();
        var begun = DateTimeOffset.UtcNow;
        // Up and down for about as long as it takes to be noticed.
        for (var down = false; Stopwatch.GetElapsedTime(since) < TimeSpan.FromSeconds(14); down = !down)
        {
            if (down)
                CheckedService.Mend(backend);
            else
                CheckedService.BlackHole(backend);
            Thread.Sleep(1100);
        }
        var changes = health.Manager.Cli("events", "--since", "1m", "--json").Output.Split('\n', StringSplitOptions.RemoveEmptyEntries).Select(line => JsonNode.Parse(line)!)
            .Where(e => (string?)e["action"] == "health" && (string?)e["object"] == backend.Name && DateTimeOffset.Parse((string)e["time"]!, CultureInfo.InvariantCulture) >= begun)
            // From recovering to healthy is the end of a ramp, not a change of sides.
            .Where(e => !((string)e["message"]!).Contains("recovering to healthy", StringComparison.Ordinal))
            .Select(e => DateTimeOffset.Parse((string)e["time"]!, CultureInfo.InvariantCulture)).Order().ToList();
        output.WriteLine($"changes of sides: {string.Join(", ", changes.Select(at => $"{(at - begun).TotalSeconds:0.0} s"))}");
        Assert.NotEmpty(changes);
        for (var i = 1; i < changes.Count; i++)
            Assert.True(changes[i] - changes[i - 1] >= hold - TimeSpan.FromMilliseconds(200), $"{(changes[i] - changes[i - 1]).TotalSeconds:0.0} s apart");
    }

    [Fact]
    public void When_all_fail_all_are_used_and_it_is_said_loudly()
    {
        using var service = health.Service("http:/", "--health-interval", "200ms");
        health.Manager.Cli("service", "update", "--health-option", "status=418", service.Name);
        // Of this service: another test's panic may be among the events.
        Wait.Until("panic is told", () => health.Manager.Cli("events", "--since", "1m").Output.Contains($" service panic {service.Name}:", StringComparison.Ordinal));
        foreach (var api in health.Apis)
            Wait.Until($"all are used on {api.Node.Name}", () => api.Backends(service.Name).All(backend => Math.Round((double)backend!["share"]!, 3) == Math.Round(1 / 3.0, 3)), seen: () => api.Backends(service.Name).ToJsonString());
        Assert.Equal(60, health.Clients[1].Ask($"http://{service.Name}/", 60).Count);
        Assert.Equal(3, health.Clients[1].Exec("dig", "+short", $"tasks.{service.Name}").Lines.Count);
        Assert.Contains("panic", health.Manager.Cli("service", "backends", service.Name).Output, StringComparison.Ordinal);
        // Explicit deregistration is obeyed even now.
        health.Manager.Cli("endpoint", "rm", service.Backends[0].Name);
        Wait.Until("it is gone", () => health.Apis.All(api => api.Backends(service.Name).Count == 2));
    }

    [Fact]
    public async Task A_drain_ends_with_the_last_flow_or_at_its_deadline()
    {
        using var service = health.Empty("http:/", "--health-interval", "200ms", "--drain", "20");
        var (stays, goes) = (service.Add($"{service.Name}-1", health.Cluster.Nodes[0]), service.Add($"{service.Name}-2", health.Cluster.Nodes[1]));
        service.AwaitState(goes.Name, "healthy");
        service.AwaitState(stays.Name, "healthy");
        // Two held connections to the VIP: one of them is to the backend that goes.
        var held = Enumerable.Range(0, 2).Select(_ => health.Clients[2].Start("python3", "-c",
            $"import socket,time\ns=socket.create_connection(('{service.Name}',80))\ns.sendall(b'GET / HTTP/1.1\\r\\nHost: w\\r\\n\\r\\n')\nf=s.makefile('rb')\nwhile f.readline().strip(): pass\nprint(f.readline().split()[0].decode(),flush=True)\ntime.sleep(60)").Says($"{service.Name}-")).ToList();
        var holder = held.First(process => process.Output.Contains(goes.Name, StringComparison.Ordinal));

        var drain = Task.Run(() => health.Manager.Cli("endpoint", "drain", goes.Name));
        Wait.Until("every node has weight 0", () => health.Apis.All(api => (int)api.Backend(service.Name, goes.Name)["balanced"]! == 0));
        await Task.Delay(1500);
        Assert.False(drain.IsCompleted, "a flow is left");
        holder.Dispose();
        await drain.WaitAsync(TimeSpan.FromSeconds(19));
        Assert.Equal(20, health.Clients[2].Ask($"http://{service.Name}/", 20).Count(answer => answer.StartsWith(stays.Name, StringComparison.Ordinal)));
    }

    [Fact]
    public void A_rolling_update_of_ten_backends_loses_no_request()
    {
        using var service = health.Empty("http:/", "--health-interval", "200ms", "--drain", "5");
        for (var i = 0; i < 10; i++)
            service.Add($"{service.Name}-old{i}", health.Cluster.Nodes[i % 3]);
        foreach (var backend in service.Backends)
            service.AwaitState(backend.Name, "healthy");
        var client = health.Clients[0].Start(Tree.Library("paced_client.py"), service.Name, "80", "500").Says("running");
        foreach (var old in service.Backends.ToList())
        {
            var next = service.Add(old.Name.Replace("old", "new", StringComparison.Ordinal), old.Node);
            service.AwaitState(next.Name, "healthy");
            health.Manager.Cli("endpoint", "drain", old.Name);
            service.Remove(old);
        }
        var result = JsonNode.Parse(client.End("TERM").Split('\n', StringSplitOptions.RemoveEmptyEntries)[^1])!;
        output.WriteLine($"{result["ok"]} answered, {result["failed"]} failed, {(double)result["ok"]! / (double)result["seconds"]!:0} connections/s, slowest {(double)result["slowestMs"]!:0} ms");
        Assert.True((int)result["failed"]! == 0, result["errors"]!.ToJsonString());
        Assert.Equal(10, service.Backends.Count);
    }
}
