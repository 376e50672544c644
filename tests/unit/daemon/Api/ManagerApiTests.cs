using System.Net;
using System.Text.Json;
using System.Text.Json.Nodes;
using OverlayNet.Contracts;
using OverlayNet.Daemon.Api;
using OverlayNet.Daemon.Registry;
using static OverlayNet.Contracts.OverlayNetJson;

namespace OverlayNet.UnitTests.Daemon.Api;

public sealed class ManagerApiTests
{
    private static readonly HttpMethod Get = HttpMethod.Get, Post = HttpMethod.Post, Patch = HttpMethod.Patch, Delete = HttpMethod.Delete;

    [Fact]
    public async Task TheMainJobOverTheSocket()
    {
        await using var f = await ApiFixture.StartAsync();
        var (status, network, _) = await ApiFixture.SendAsync(f.Local, Post, "/v1/networks",
            """{"name":"net","subnet":"10.1.0.0/24","subnet6":"fd00:1::/64"}""", Default.Network);
        Assert.Equal(HttpStatusCode.Created, status);
        Assert.Equal(IPNetwork.Parse("10.1.0.0/24"), network!.Subnet4);
        var (_, service, _) = await ApiFixture.SendAsync(f.Local, Post, "/v1/services",
            """{"name":"web","network":"net","ports":["http=8080:80"]}""", Default.Service);
        Assert.Equal(IPAddress.Parse("fd00:1::2"), service!.Vip6);
        var node = f.Identity.Membership.NodeId;
        var (_, endpoint, _) = await ApiFixture.SendAsync(f.Local, Post, "/v1/endpoints",
            $$"""{"id":"c1-id","name":"c1","nodeId":"{{node}}","network":"net","service":"web","future":1}""", Default.Endpoint);
        Assert.Equal(EndpointState.Starting, endpoint!.State);
        var (_, healthy, _) = await ApiFixture.SendAsync(f.Local, Patch, "/v1/endpoints/c1?network=net",
            """{"state":"healthy","weight":3}""", Default.Endpoint);
        Assert.Equal((EndpointState.Healthy, 3), (healthy!.State, healthy.Weight));
        var (_, backends, _) = await ApiFixture.SendAsync(f.Local, Get, "/v1/services/web/backends", null, Default.ListBackendReport);
        Assert.Equal(("c1", "manager", 1.0), (backends![0].Endpoint, backends[0].Node, backends[0].Share));
        foreach (var (query, count) in new[] { ("", 2), ("?network=net", 2), ("?service=web", 1), ("?node=manager", 2) })
        {
            var (_, list, _) = await ApiFixture.SendAsync(f.Local, Get, "/v1/endpoints" + query, null, Default.ListEndpoint);
            Assert.Equal(count, list!.Count);
        }
        var (_, snapshot, _) = await ApiFixture.SendAsync(f.Local, Get, "/v1/snapshot", null, Default.RegistrySnapshot);
        Assert.Equal((2, 1, f.Registry.Current.Revision), (snapshot!.Endpoints.Count, snapshot.Nodes.Count, snapshot.Revision));
        await ApiFixture.SendAsync(f.Local, Delete, "/v1/endpoints/c1-id", null, Default.Endpoint);
        await ApiFixture.SendAsync(f.Local, Delete, "/v1/services/web", null, Default.Service);
        var (_, pruned, _) = await ApiFixture.SendAsync(f.Local, Post, "/v1/networks/prune", null, Default.ListNetwork);
        Assert.Equal("net", Assert.Single(pruned!).Name);
        Assert.Equal(
            ["network create", "service create", "endpoint create", "endpoint update", "endpoint remove", "service remove", "network remove"],
            f.Events.Since(0).Select(e => $"{e.Kind} {e.Action}"));
        Assert.All(f.Events.Since(0), e => Assert.EndsWith("by local", e.Message));
    }

    [Theory]
    [InlineData("{\"name\":\"net\",\n \"subnet\": }", "malformed-json", "line 2")]
    [InlineData("", "malformed-json", "body")]
    [InlineData("[]", "malformed-json", "not a JSON object")]
    [InlineData("null", "malformed-json", "not a JSON object")]
    [InlineData("{\"name\":\"net\",\n \"subnets\": \"10.1.0.0/24\"}", "unknown-field", "subnets: line 2, position 2")]
    [InlineData("{\"subnet\":\"10.1.0.0/24\"}", "missing-field", "name")]
    [InlineData("{\"name\":\"net\",\"mtu\":\"big\"}", "invalid-field", "mtu 'big'")]
    [InlineData("{\"name\":\"net\",\"internal\":1}", "invalid-field", "internal '1'")]
    [InlineData("{\"name\":\"net\"} x", "malformed-json", "line 1")]
    public async Task BadJsonIsToldWhereItIs(string body, string code, string message)
    {
        await using var f = await ApiFixture.StartAsync();
        var before = f.Registry.Current.Revision;
        var (status, _, error) = await ApiFixture.SendAsync(f.Local, Post, "/v1/networks", body, Default.Network);
        Assert.Equal((HttpStatusCode.BadRequest, code), (status, error!.Code));
        Assert.Contains(message, error.Message);
        Assert.NotNull(error.Field);
        Assert.NotNull(error.Remedy);
        Assert.Equal(before, f.Registry.Current.Revision);
    }

    [Fact]
    public async Task AnEnumThatIsUnknownNamesTheKnownOnes()
    {
        await using var f = await ApiFixture.StartAsync();
        var (_, _, error) = await ApiFixture.SendAsync(f.Local, Post, "/v1/services",
            """{"name":"web","network":"net","endpointMode":"magic"}""", Default.Service);
        Assert.Equal(("invalid-field", "endpointMode", "magic"), (error!.Code, error.Field, error.Value));
        Assert.Contains("vip, dnsrr", error.Remedy);
    }

    [Fact]
    public async Task UnknownAndAmbiguousReferences()
    {
        await using var f = await ApiFixture.StartAsync();
        foreach (var path in (string[])["/v1/networks/x", "/v1/services/x", "/v1/endpoints/x", "/v1/nodes/x", "/v1/services/x/backends"])
        {
            var (status, _, error) = await ApiFixture.SendAsync(f.Local, Get, path, null, Default.Network);
            Assert.Equal((HttpStatusCode.NotFound, "not-found", "x"), (status, error!.Code, error.Value));
        }
        foreach (var network in (string[])["a", "b"])
        {
            await f.Registry.CreateNetworkAsync(new NetworkCreateRequest { Name = network });
            await f.Registry.CreateServiceAsync(new ServiceCreateRequest { Name = "web", Network = network });
        }
        var (conflict, _, ambiguous) = await ApiFixture.SendAsync(f.Local, Get, "/v1/services/web", null, Default.Service);
        Assert.Equal((HttpStatusCode.Conflict, "ambiguous"), (conflict, ambiguous!.Code));
        Assert.Contains("--network", ambiguous.Remedy);
        var (ok, _, _) = await ApiFixture.SendAsync(f.Local, Get, "/v1/services/web?network=b", null, Default.Service);
        Assert.Equal(HttpStatusCode.OK, ok);
    }

    [Theory]
    [InlineData("3", HttpStatusCode.BadRequest)]
    [InlineData("x", HttpStatusCode.BadRequest)]
    [InlineData("2", HttpStatusCode.OK)]
    [InlineData("0", HttpStatusCode.OK)]
    public async Task PeersOfDistantVersionsAreRefused(string version, HttpStatusCode expected)
    {
        await using var f = await ApiFixture.StartAsync();
        using var request = new HttpRequestMessage(Get, "/v1/networks");
        request.Headers.Add(Protocol.Header, version);
        using var response = await f.Local.SendAsync(request);
        Assert.Equal(expected, response.StatusCode);
        if (expected != HttpStatusCode.OK)
            Assert.Contains("protocol-version", await response.Content.ReadAsStringAsync());
    }

    [Fact]
    public async Task OnlyOwnerAndGroupMayConnect()
    {
        await using var f = await ApiFixture.StartAsync();
        Assert.Equal(LocalSocket.Mode, File.GetUnixFileMode(f.SocketPath));
    }

    [Fact]
    public async Task ABodyThatIsTooLargeIsRefused()
    {
        await using var f = await ApiFixture.StartAsync();
        var (status, _, error) = await ApiFixture.SendAsync(
            f.Local, Post, "/v1/networks", $$"""{"name":"{{new string('x', RequestBody.MaxBytes)}}"}""", Default.Network);
        Assert.Equal((HttpStatusCode.RequestEntityTooLarge, "body-too-large"), (status, error!.Code));
    }

    [Fact]
    public async Task TheOpenApiDocumentListsEveryMappedRoute()
    {
        await using var f = await ApiFixture.StartAsync();
        var document = JsonNode.Parse(await f.Local.GetStringAsync("/v1/openapi.json"))!;
        Assert.StartsWith("3.", document["openapi"]!.GetValue<string>());
        var described = document["paths"]!.AsObject()
            .SelectMany(p => p.Value!.AsObject().Select(o => $"{o.Key.ToUpperInvariant()} {p.Key}")).Order().ToList();
        var mapped = ((Microsoft.AspNetCore.Routing.IEndpointRouteBuilder)f.App).DataSources.SelectMany(s => s.Endpoints)
            .OfType<Microsoft.AspNetCore.Routing.RouteEndpoint>()
            .SelectMany(e => e.Metadata.GetMetadata<Microsoft.AspNetCore.Routing.HttpMethodMetadata>()!.HttpMethods
                .Select(m => $"{m} {e.RoutePattern.RawText}")).Order().ToList();
        Assert.Equal(mapped, described);
        Assert.Equal(ManagerRoutes.All.Count, mapped.Count);
        AssertReferences(document, document);
        var subnet = document["components"]!["schemas"]!["Network"]!["properties"]!["subnet4"]!;
        Assert.Contains("CIDR", subnet["description"]!.GetValue<string>());
    }

    private static void AssertReferences(JsonNode document, JsonNode? node)
    {
        if (node is JsonArray array)
        {
            foreach (var item in array)
                AssertReferences(document, item);
        }
        if (node is not JsonObject properties)
            return;
        foreach (var (name, child) in properties)
        {
            if (name == "$ref" && child?.GetValueKind() == JsonValueKind.String)
            {
                var target = child.GetValue<string>()[2..].Split('/').Aggregate(
                    (JsonNode?)document, (at, part) => at is JsonArray list ? list[int.Parse(part)] : at?[part]);
                Assert.NotNull(target);
            }
            AssertReferences(document, child);
        }
    }
}
