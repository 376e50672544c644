using System.Net;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using OverlayNet.Contracts;
using OverlayNet.Daemon.Registry;
using OverlayNet.Daemon.Security;
using OverlayNet.UnitTests.Daemon.Api;
using static OverlayNet.Contracts.OverlayNetJson;

namespace OverlayNet.UnitTests.Daemon.Security;

public sealed class JoinTests
{
    private static readonly HttpMethod Get = HttpMethod.Get, Post = HttpMethod.Post, Patch = HttpMethod.Patch, Delete = HttpMethod.Delete;

    private static string EndpointBody(string name, NodeIdentity node) =>
        $$"""{"id":"id-{{name}}","name":"{{name}}","nodeId":"{{node.Membership.NodeId}}","network":"net"}""";

    private static string HeartbeatBody(NodeIdentity node) => $$"""{"nodeId":"{{node.Membership.NodeId}}"}""";

    [Fact]
    public async Task AWorkerJoinsAndWorksOverMutualTls()
    {
        await using var f = await ApiFixture.StartAsync();
        using var worker = await f.JoinAsync("w1", 11);
        Assert.Equal(NodeRole.Worker, worker.Membership.Role);
        Assert.Equal("dc1", worker.Membership.Dc);
        Assert.Equal(["192.0.2.1:7373"], worker.Membership.Managers);
        Assert.Equal(f.Registry.Current.ClusterId, worker.Membership.ClusterId);
        Assert.Equal("w1", f.Registry.Current.Nodes[worker.Membership.NodeId].Name);
        var folder = f.Directory.File("w1/identity");
        Assert.Equal(["ca.pem", "node.json", "node.pem"], Directory.GetFiles(folder).Select(Path.GetFileName).Order());
        Assert.Equal(UnixFileMode.UserRead | UnixFileMode.UserWrite, File.GetUnixFileMode(Path.Combine(folder, "node.pem")));
        using var loaded = NodeIdentity.Load(f.Directory.File("w1"))!;
        Assert.Equal(worker.Certificate.Thumbprint, loaded.Certificate.Thumbprint);

        await f.Registry.CreateNetworkAsync(new NetworkCreateRequest { Name = "net" });
        using var http = f.Node(loaded);
        var (status, answer, refused) = await ApiFixture.SendAsync(
            http, Post, $"/v1/nodes/{loaded.Membership.NodeId}/heartbeat", HeartbeatBody(loaded), Default.HeartbeatResponse);
        Assert.Null(refused);
        Assert.Equal((HttpStatusCode.OK, NodeState.Ready), (status, answer!.State));
        (status, var endpoint, _) = await ApiFixture.SendAsync(http, Post, "/v1/endpoints", EndpointBody("c1", loaded), Default.Endpoint);
        Assert.Equal(HttpStatusCode.Created, status);
        (status, _, _) = await ApiFixture.SendAsync(
            http, Patch, $"/v1/endpoints/{endpoint!.Id}", """{"state":"healthy"}""", Default.Endpoint);
        Assert.Equal(HttpStatusCode.OK, status);
        (status, _, _) = await ApiFixture.SendAsync(http, Get, "/v1/snapshot", null, Default.RegistrySnapshot);
        Assert.Equal(HttpStatusCode.OK, status);
        (status, _, _) = await ApiFixture.SendAsync(http, Delete, $"/v1/endpoints/{endpoint.Id}", null, Default.Endpoint);
        Assert.Equal(HttpStatusCode.OK, status);
        Assert.Contains(f.Events.Since(0), e => e is { Kind: "endpoint", Action: "create" } && e.Message.EndsWith("by node w1"));
    }

    [Fact]
    public async Task AWorkerMayNotSpeakForAnotherNode()
    {
        await using var f = await ApiFixture.StartAsync();
        using var w1 = await f.JoinAsync("w1", 11);
        using var w2 = await f.JoinAsync("w2", 12);
        await f.Registry.CreateNetworkAsync(new NetworkCreateRequest { Name = "net" });
        using var http1 = f.Node(w1);
        using var http2 = f.Node(w2);
        await ApiFixture.SendAsync(http2, Post, "/v1/endpoints", EndpointBody("c2", w2), Default.Endpoint);
        foreach (var (method, path, body) in new (HttpMethod, string, string?)[]
        {
            (Post, "/v1/endpoints", EndpointBody("c1", w2)),
            (Patch, "/v1/endpoints/id-c2", """{"weight":0}"""),
            (Delete, "/v1/endpoints/id-c2", null),
            (Post, $"/v1/nodes/{w2.Membership.NodeId}/heartbeat", HeartbeatBody(w2)),
        })
        {
            var (status, _, error) = await ApiFixture.SendAsync(http1, method, path, body, Default.Endpoint);
            Assert.Equal((HttpStatusCode.Forbidden, "forbidden"), (status, error!.Code));
            Assert.Contains("node w1", error.Message);
        }
        var (mixed, _, mixedError) = await ApiFixture.SendAsync(
            http1, Post, $"/v1/nodes/{w1.Membership.NodeId}/heartbeat", HeartbeatBody(w2), Default.HeartbeatResponse);
        Assert.Equal((HttpStatusCode.BadRequest, "invalid-field"), (mixed, mixedError!.Code));
    }

    [Fact]
    public async Task AWorkerMayNotManage()
    {
        await using var f = await ApiFixture.StartAsync();
        using var worker = await f.JoinAsync("w1", 11);
        using var http = f.Node(worker);
        foreach (var (method, path) in new[]
        {
            (Post, "/v1/networks"), (Post, "/v1/networks/prune"), (Delete, "/v1/networks/net"), (Post, "/v1/services"),
            (Patch, "/v1/services/web"), (Delete, "/v1/services/web"), (Patch, "/v1/nodes/w1"), (Delete, "/v1/nodes/w1"),
            (Get, "/v1/tokens"), (Post, "/v1/tokens/rotate"),
        })
        {
            var (status, _, error) = await ApiFixture.SendAsync(http, method, path, null, Default.Network);
            Assert.Equal((HttpStatusCode.Forbidden, "forbidden"), (status, error!.Code));
        }
    }

    [Fact]
    public async Task WithoutACertificateOneMayOnlyJoin()
    {
        await using var f = await ApiFixture.StartAsync();
        using var http = f.Node(null);
        foreach (var route in OverlayNet.Daemon.Api.ManagerRoutes.All.Where(r => r.Access != OverlayNet.Daemon.Api.Access.Anyone))
        {
            var path = route.Path.Replace("{ref}", "x", StringComparison.Ordinal).Replace("{id}", "x", StringComparison.Ordinal);
            var (status, _, error) = await ApiFixture.SendAsync(http, new HttpMethod(route.Method), path, null, Default.Network);
            Assert.Equal((HttpStatusCode.Forbidden, "forbidden"), (status, error!.Code));
        }
        Assert.Equal(2, OverlayNet.Daemon.Api.ManagerRoutes.All.Count(r => r.Access == OverlayNet.Daemon.Api.Access.Anyone));
    }

    [Fact]
    public async Task AManagerMayManageOverTls()
    {
        await using var f = await ApiFixture.StartAsync();
        using var http = f.Node(f.Identity);
        var (status, _, _) = await ApiFixture.SendAsync(http, Post, "/v1/networks", """{"name":"net"}""", Default.Network);
        Assert.Equal(HttpStatusCode.Created, status);
    }

    [Fact]
    public async Task AWrongTokenIsRefusedAndRecorded()
    {
        await using var f = await ApiFixture.StartAsync();
        var good = JoinToken.Parse((await new ClusterSecrets(f.Store, TimeProvider.System).TokensAsync()).Worker)!;
        var wrong = new JoinToken(good.Fingerprint, RandomNumberGenerator.GetBytes(JoinToken.SecretLength)).ToString();
        var refusal = await Assert.ThrowsAsync<RegistryException>(() => f.JoinAsync("w1", 11, wrong));
        Assert.Equal((403, "token-invalid"), (refusal.Status, refusal.Error.Code));
        Assert.Contains("overlaynet token", refusal.Error.Remedy);
        Assert.Single(f.Registry.Current.Nodes);
        Assert.Contains(f.Events.Since(0), e => e.Action == "join-refused");
        Assert.Null(NodeIdentity.Load(f.Directory.File("w1")));

        var half = await Assert.ThrowsAsync<RegistryException>(() => f.JoinAsync("w1", 11, wrong[..^4]));
        Assert.Equal((400, "token-invalid"), (half.Status, half.Error.Code));
    }

    [Fact]
    public async Task AnotherClustersFingerprintIsNoticedBeforeTheTokenIsSent()
    {
        await using var mine = await ApiFixture.StartAsync();
        await using var other = await ApiFixture.StartAsync();
        var token = (await new ClusterSecrets(other.Store, TimeProvider.System).TokensAsync()).Worker;
        var refusal = await Assert.ThrowsAsync<RegistryException>(() => mine.JoinAsync("w1", 11, token));
        Assert.Equal("ca-mismatch", refusal.Error.Code);
        Assert.DoesNotContain(mine.Events.Since(0), e => e.Action == "join-refused");
    }

    [Fact]
    public async Task ARotatedTokenIsWorthNothing()
    {
        await using var f = await ApiFixture.StartAsync();
        var secrets = new ClusterSecrets(f.Store, TimeProvider.System);
        var before = await secrets.TokensAsync();
        Assert.Equal(before, await secrets.TokensAsync());
        var (_, after, _) = await ApiFixture.SendAsync(f.Local, Post, "/v1/tokens/rotate?role=worker", null, Default.TokenBody);
        Assert.Equal(before.Manager, after!.Manager);
        Assert.NotEqual(before.Worker, after.Worker);
        await Assert.ThrowsAsync<RegistryException>(() => f.JoinAsync("w1", 11, before.Worker));
        using var joined = await f.JoinAsync("w1", 11, after.Worker);
        var (status, _, error) = await ApiFixture.SendAsync(f.Local, Post, "/v1/tokens/rotate?role=king", null, Default.TokenBody);
        Assert.Equal((HttpStatusCode.BadRequest, "king"), (status, error!.Value));
    }

    [Fact]
    public async Task TheEmbeddedRegistryTakesOneManager()
    {
        await using var f = await ApiFixture.StartAsync();
        var token = (await new ClusterSecrets(f.Store, TimeProvider.System).TokensAsync()).Manager;
        var refusal = await Assert.ThrowsAsync<RegistryException>(() => f.JoinAsync("m2", 11, token));
        Assert.Equal("one-manager", refusal.Error.Code);
    }

    [Fact]
    public async Task ACertificateOfAnotherClusterDoesNotConnect()
    {
        await using var mine = await ApiFixture.StartAsync();
        await using var other = await ApiFixture.StartAsync();
        using var stranger = await other.JoinAsync("w1", 11);
        // Trusts the server, so that only the server's judgement of the client counts.
        using var handler = ClusterTls.CreateHandler(mine.Identity.Authorities[0]);
        handler.SslOptions.LocalCertificateSelectionCallback = (_, _, _, _, _) => stranger.Certificate;
        using var http = new HttpClient(handler) { BaseAddress = mine.Tls };
        await Assert.ThrowsAnyAsync<HttpRequestException>(() => http.GetAsync("/v1/networks"));
        Assert.All(mine.RefusedCertificates, why => Assert.Equal("it is not of this cluster's CA", why));
        Assert.NotEmpty(mine.RefusedCertificates);
    }

    [Fact]
    public async Task AnExpiredCertificateDoesNotConnect()
    {
        await using var f = await ApiFixture.StartAsync();
        using var worker = await f.JoinAsync("w1", 11);
        using var authority = await new ClusterSecrets(f.Store, TimeProvider.System, TimeSpan.FromSeconds(-1)).AuthorityAsync();
        using var key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        var pem = authority.Sign(
            new CertificateRequest("CN=x", key, HashAlgorithmName.SHA256).CreateSigningRequestPem(),
            new CertificateSubject(worker.Membership.NodeId, NodeRole.Worker, worker.Membership.ClusterId), "w1", IPAddress.Loopback);
        using var expired = X509Certificate2.CreateFromPem(pem, key.ExportPkcs8PrivateKeyPem());
        Assert.Null(ClusterTls.MemberOf(expired, f.Identity.Authorities));
        using var handler = ClusterTls.CreateHandler(f.Identity.Authorities[0]);
        handler.SslOptions.LocalCertificateSelectionCallback = (_, _, _, _, _) => expired;
        using var http = new HttpClient(handler) { BaseAddress = f.Tls };
        await Assert.ThrowsAnyAsync<HttpRequestException>(() => http.GetAsync("/v1/networks"));
        Assert.NotEmpty(f.RefusedCertificates);
        Assert.All(f.RefusedCertificates, why => Assert.Contains("expired", why, StringComparison.Ordinal));
    }

    [Fact]
    public async Task AWorkersCertificateDoesNotPassAsAManagers()
    {
        await using var f = await ApiFixture.StartAsync();
        using var worker = await f.JoinAsync("w1", 11);
        Assert.Equal(NodeRole.Worker, ClusterTls.MemberOf(worker.Certificate, f.Identity.Authorities)!.Role);
        Assert.Equal(NodeRole.Manager, ClusterTls.MemberOf(f.Identity.Certificate, worker.Authorities)!.Role);
    }

    [Fact]
    public async Task ARemovedNodesCertificateIsWorthNothing()
    {
        await using var f = await ApiFixture.StartAsync();
        using var worker = await f.JoinAsync("w1", 11);
        await f.Registry.RemoveNodeAsync("w1", force: true);
        using var http = f.Node(worker);
        var (status, _, error) = await ApiFixture.SendAsync(http, Get, "/v1/networks", null, Default.ListNetwork);
        Assert.Equal((HttpStatusCode.Gone, "node-unknown"), (status, error!.Code));
    }

    [Fact]
    public async Task AClusterIsInitialisedOnce()
    {
        await using var f = await ApiFixture.StartAsync();
        var refusal = await Assert.ThrowsAsync<RegistryException>(() => ClusterInit.RunAsync(
            f.Store, f.Directory.Path, new InitRequest { Address = IPAddress.Parse("192.0.2.9") }, "again"));
        Assert.Equal((409, "already-initialised"), (refusal.Status, refusal.Error.Code));
    }

    [Fact]
    public async Task AnInitThatACrashEndedGoesOnWhenSaidAgain()
    {
        await using var f = await ApiFixture.StartAsync();
        var token = (await new ClusterSecrets(f.Store, TimeProvider.System).TokensAsync()).Worker;
        // Everything but the identity was written.
        NodeIdentity.Delete(f.Directory.Path);
        var other = await Assert.ThrowsAsync<RegistryException>(() => ClusterInit.RunAsync(
            f.Store, f.Directory.Path, new InitRequest { Address = IPAddress.Parse("192.0.2.9") }, "manager"));
        Assert.Equal("already-initialised", other.Error.Code);
        using var again = await ClusterInit.RunAsync(f.Store, f.Directory.Path, new InitRequest { Address = IPAddress.Parse("192.0.2.1") }, "manager");
        Assert.Equal(f.Identity.Membership.NodeId, again.Membership.NodeId);
        Assert.Equal(f.Identity.TrustHash, again.TrustHash);
        Assert.Equal(token, (await new ClusterSecrets(f.Store, TimeProvider.System).TokensAsync()).Worker);
    }

    [Fact]
    public async Task NobodyListensThere()
    {
        await using var f = await ApiFixture.StartAsync();
        var token = (await new ClusterSecrets(f.Store, TimeProvider.System).TokensAsync()).Worker;
        await f.App.StopAsync();
        var refusal = await Assert.ThrowsAsync<RegistryException>(() => JoinClient.JoinAsync(
            f.Directory.Path, token, "127.0.0.1:1", new JoinDetails { NodeName = "w1" }));
        Assert.Equal((503, "no-manager"), (refusal.Status, refusal.Error.Code));
    }

    [Fact]
    public async Task ADamagedIdentityIsExplained()
    {
        await using var f = await ApiFixture.StartAsync();
        File.WriteAllText(f.Directory.File("identity/node.json"), "{");
        var error = Assert.Throws<InvalidDataException>(() => NodeIdentity.Load(f.Directory.Path));
        Assert.Contains("identity", error.Message);
        NodeIdentity.Delete(f.Directory.Path);
        Assert.Null(NodeIdentity.Load(f.Directory.Path));
    }
}
