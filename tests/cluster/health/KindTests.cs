using OverlayNet.ClusterTests.Harness;

namespace OverlayNet.ClusterTests.Health;

/// <summary>Every kind of check against a real server: passes, fails for the right reason, passes again.</summary>
[Collection(HealthClusterTests.Name)]
public sealed class KindTests(HealthCluster health)
{
    private static readonly string[] Quick = ["--health-interval", "200ms", "--health-option", "ramp=0s", "--health-option", "hold=200ms"];

    [Fact]
    public void Http_looks_at_status_and_body()
    {
        using var service = One("http:/", out var backend, [.. Quick, "--health-option", $"body={ServiceAfterNext}"]);
        backend.Serve(80);
        service.AwaitState(backend.Name, "healthy");
        Change(service, "status=404");
        AwaitReason(service, backend, "HTTP status 200");
        Change(service, "status=200");
        Change(service, "body=something else");
        AwaitReason(service, backend, "does not contain");
    }

    [Fact]
    public void Tcp_and_udp_take_an_answer_for_life()
    {
        using var tcp = One("tcp:7001", out var listener, Quick);
        var server = listener.Start("socat", $"TCP-LISTEN:7001,bind={listener.Address},fork,reuseaddr", "SYSTEM:true");
        tcp.AwaitState(listener.Name, "healthy");
        server.Dispose();
        AwaitReason(tcp, listener, "process has ended");

        using var udp = One("udp:7002", out var echo, [.. Quick, "--health-option", @"send=ping\x0a", "--health-option", "expect=ping"]);
        AwaitReason(udp, echo, "connection refused");
        using var answering = echo.Start("socat", $"UDP-LISTEN:7002,bind={echo.Address},fork,reuseaddr", "EXEC:cat");
        udp.AwaitState(echo.Name, "healthy");
    }

    [Fact]
    public void Https_checks_what_it_is_asked_to()
    {
        using var service = One("https:8443/", out var backend, Quick);
        var (key, certificate) = ($"{health.Cluster.Directory}/key.pem", $"{health.Cluster.Directory}/cert.pem");
        Commands.Run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", key, "-out", certificate, "-subj", "/CN=somebody", "-days", "1").Succeeded();
        backend.Start("openssl", "s_server", "-quiet", "-www", "-accept", "8443", "-key", key, "-cert", certificate);
        service.AwaitState(backend.Name, "healthy");
        Change(service, "verify=yes");
        AwaitReason(service, backend, "TLS:");
    }

    [Fact]
    public void Grpc_asks_the_health_service()
    {
        using var service = One("grpc:50051/shop.Cart", out var backend, [.. Quick, "--health-timeout", "200ms"]);
        var says = $"{health.Cluster.Directory}/serving";
        File.WriteAllText(says, "1\n");
        var server = backend.Start(Tree.Library("grpc_health_server.py"), backend.Address!, "50051", says).Says("serving");
        service.AwaitState(backend.Name, "healthy");
        Assert.Contains("0a0973686f702e43617274", server.Output, StringComparison.Ordinal);
        File.WriteAllText(says, "2\n");
        AwaitReason(service, backend, "NOT_SERVING");
    }

    [Fact]
    public void Exec_runs_inside_the_endpoints_namespace()
    {
        using var service = One("exec:ip -4 -o address show eth0 | grep -q 10.20. && test ! -e " + Flag, out var backend, ["--health-interval", "1s", "--health-option", "ramp=0s", "--health-option", "hold=100ms"]);
        try
        {
            service.AwaitState(backend.Name, "healthy");
            File.WriteAllText(Flag, "");
            AwaitReason(service, backend, "exit code 1");
        }
        finally
        {
            File.Delete(Flag);
        }
        service.AwaitState(backend.Name, "healthy");
    }

    [Fact]
    public void Ttl_is_the_applications_own_word()
    {
        using var service = One("ttl:3s", out var backend, ["--health-option", "ramp=0s", "--health-option", "hold=100ms"]);
        Assert.Equal("starting", health.Apis[0].State(service.Name, backend.Name));
        backend.Node.Cli("endpoint", "check", "pass", backend.Name);
        service.AwaitState(backend.Name, "healthy");
        AwaitReason(service, backend, "no word of the application");
        backend.Node.Cli("endpoint", "check", "warn", backend.Name, "--note", "a bit slow");
        service.AwaitState(backend.Name, "healthy");
        backend.Node.Cli("endpoint", "check", "fail", backend.Name, "--note", "queue is full");
        AwaitReason(service, backend, "queue is full");
        Assert.Equal(2, backend.Node.TryCli("endpoint", "check", "maybe", backend.Name).Code);
        Assert.Equal(2, backend.Node.TryCli("endpoint", "check", "pass", "nobody").Code);
    }

    [Theory]
    [InlineData("ftp:/")]
    [InlineData("http:0/")]
    [InlineData("exec:")]
    public void What_is_no_check_is_refused_with_a_remedy(string check)
    {
        var result = health.Manager.TryCli("service", "create", "--network", HealthCluster.Network, "--port", "80", "--health", check, "never");
        Assert.Equal(2, result.Code);
        Assert.Contains("remedy:", result.Error, StringComparison.Ordinal);
        Assert.Contains(check, result.Error, StringComparison.Ordinal);
    }

    [Fact]
    public void Tasks_names_those_that_are_not_ready_only_when_asked_to()
    {
        using var service = One("http:/", out var backend, Quick);
        Assert.DoesNotContain(backend.Address!, health.Clients[0].Exec("dig", "+short", $"tasks.{service.Name}").Output, StringComparison.Ordinal);
        health.Manager.Cli("service", "update", "--publish-not-ready", service.Name);
        Wait.Until("tasks. has it", () => health.Clients[0].Exec("dig", "+short", $"tasks.{service.Name}").Output.Contains(backend.Address!, StringComparison.Ordinal));
    }

    private static string Flag => $"/tmp/overlaynet-health-{Cluster.Number(Environment.ProcessId)}";

    private string ServiceAfterNext => $"s{Cluster.Number(health.LastService + 1)}-1";

    /// <summary>A service with one backend, on node 1, that runs nothing yet.</summary>
    private CheckedService One(string check, out Container backend, IEnumerable<string> more)
    {
        var service = health.Empty(check, [.. more]);
        backend = service.Add($"{service.Name}-1", health.Manager, serve: false);
        return service;
    }

    private void Change(CheckedService service, string setting) => health.Manager.Cli("service", "update", "--health-option", setting, service.Name);

    private void AwaitReason(CheckedService service, Container backend, string reason) =>
        Wait.Until($"{backend.Name} fails: {reason}", () => health.Apis[0].Backend(service.Name, backend.Name)["probers"]!.AsArray()
            .Any(prober => ((string?)prober!["reason"])?.Contains(reason, StringComparison.Ordinal) == true), seen: () => health.Apis[0].Backends(service.Name).ToJsonString());
}
