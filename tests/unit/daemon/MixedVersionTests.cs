using System.Net;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using System.Text.Json.Serialization.Metadata;
using OverlayNet.Contracts;
using OverlayNet.Daemon.Agent;
using OverlayNet.Daemon.Registry;
using OverlayNet.Daemon.Registry.Store;
using OverlayNet.Daemon.Security;
using OverlayNet.UnitTests.Daemon.Api;
using OverlayNet.UnitTests.Daemon.Registry;

namespace OverlayNet.UnitTests.Daemon;

/// <summary>Peers of neighbouring releases: what either says and the other does not know.</summary>
public sealed class MixedVersionTests
{
    private const string News = "novelty";

    public static TheoryData<Type> Messages =>
    [
        .. typeof(Node).Assembly.GetTypes().Where(type => type is { IsClass: true, IsAbstract: false, IsGenericType: false })
            .Where(type => OverlayNetJson.Default.GetTypeInfo(type)?.Kind == JsonTypeInfoKind.Object),
    ];

    [Theory]
    [MemberData(nameof(Messages))]
    public void A_field_of_a_newer_release_stops_no_message(Type message)
    {
        var type = OverlayNetJson.Default.GetTypeInfo(message)!;
        var text = Least(type).AsObject();
        var without = JsonSerializer.Serialize(JsonSerializer.Deserialize(text.ToJsonString(), type), type);
        text[News] = new JsonObject { ["of"] = new JsonArray(1, "two", null) };

        var read = JsonSerializer.Deserialize(text.ToJsonString(), type);

        // Whether it is passed on or not, everything else is as it was.
        var written = JsonNode.Parse(JsonSerializer.Serialize(read, type))!.AsObject();
        written.Remove(News);
        Assert.True(JsonNode.DeepEquals(JsonNode.Parse(without), written), $"{without}\n{written.ToJsonString()}");
    }

    [Theory]
    [InlineData(typeof(Node))]
    [InlineData(typeof(Network))]
    [InlineData(typeof(Service))]
    [InlineData(typeof(ServicePort))]
    [InlineData(typeof(HealthCheck))]
    [InlineData(typeof(DisconnectPolicy))]
    [InlineData(typeof(Endpoint))]
    [InlineData(typeof(FloatingVip))]
    public void What_the_registry_keeps_keeps_the_fields_of_a_newer_release(Type kept)
    {
        var type = OverlayNetJson.Default.GetTypeInfo(kept)!;
        var text = Least(type).AsObject();
        text[News] = "kept";

        var (one, two) = (JsonSerializer.Deserialize(text.ToJsonString(), type), JsonSerializer.Deserialize(text.ToJsonString(), type));

        Assert.Equal("kept", (string?)JsonNode.Parse(JsonSerializer.Serialize(one, type))![News]);
        var unread = kept.GetProperty(nameof(Node.Unread))!;
        Assert.True(Equals(unread.GetValue(one), unread.GetValue(two)));
        Assert.Equal(unread.GetValue(one)!.GetHashCode(), unread.GetValue(two)!.GetHashCode());
        text[News] = "changed";
        Assert.False(Equals(unread.GetValue(one), unread.GetValue(JsonSerializer.Deserialize(text.ToJsonString(), type))));
    }

    [Fact]
    public async Task A_manager_that_changes_an_object_leaves_the_fields_it_does_not_know()
    {
        await using var f = await RegistryFixture.StartAsync();
        var network = await f.NetworkAsync();
        var service = await f.ServiceAsync();
        var key = Keys.Service(service.Id);
        var stored = JsonNode.Parse((await f.Store.RangeAsync(key)).Items[0].Value.Span)!.AsObject();
        stored[News] = "kept";
        await f.Store.CommitAsync(new Transaction { Puts = [new Put(key, Encoding.UTF8.GetBytes(stored.ToJsonString()))] });
        await using var another = await f.AnotherAsync();

        await another.UpdateServiceAsync(service.Name, network.Name, new ServiceUpdateRequest { DrainSeconds = 7 });

        var after = JsonNode.Parse((await f.Store.RangeAsync(key)).Items[0].Value.Span)!;
        Assert.Equal((7, "kept"), ((int)after["drainSeconds"]!, (string?)after[News]));
    }

    [Fact]
    public async Task An_unknown_field_is_news_from_a_newer_node_and_a_mistake_of_everybody_else()
    {
        await using var f = await ApiFixture.StartAsync();
        using var worker = await f.JoinAsync("w1", 11);
        await f.Registry.CreateNetworkAsync(new NetworkCreateRequest { Name = "net" });
        using var http = f.Node(worker);
        await ApiFixture.SendAsync(http, HttpMethod.Post, "/v1/endpoints", $$"""{"id":"id-c1","name":"c1","nodeId":"{{worker.Membership.NodeId}}","network":"net","{{News}}":1}""", OverlayNetJson.Default.Endpoint);

        Assert.Equal(HttpStatusCode.OK, await Update(http, Protocol.Version + 1, forwarded: false));
        Assert.Equal(HttpStatusCode.BadRequest, await Update(http, Protocol.Version + 1, forwarded: true));
        Assert.Equal(HttpStatusCode.BadRequest, await Update(http, Protocol.Version, forwarded: false));
        Assert.Equal(HttpStatusCode.BadRequest, await Update(f.Local, Protocol.Version + 1, forwarded: false));
        Assert.Equal(HttpStatusCode.BadRequest, await Update(f.Local, null, forwarded: false));
    }

    [Fact]
    public async Task A_heartbeat_says_which_release_and_protocol_a_node_has_now()
    {
        await using var f = await RegistryFixture.StartAsync();
        var id = RegistryFixture.Node(2).Id;

        await f.Registry.HeartbeatAsync(new HeartbeatRequest { NodeId = id, Version = "0.2.0", ProtocolVersion = Protocol.Version + 1 });
        Assert.Equal(("0.2.0", Protocol.Version + 1), (f.Registry.Current.Nodes[id].Version, f.Registry.Current.Nodes[id].ProtocolVersion));

        // Of a release that did not say it yet.
        await f.Registry.HeartbeatAsync(new HeartbeatRequest { NodeId = id, Version = "0.1.0" });
        Assert.Equal(("0.1.0", Protocol.Version + 1), (f.Registry.Current.Nodes[id].Version, f.Registry.Current.Nodes[id].ProtocolVersion));
    }

    [Theory]
    [InlineData(2)]
    [InlineData(-2)]
    public async Task A_node_of_a_distant_release_does_not_join(int apart)
    {
        await using var f = await ApiFixture.StartAsync();
        var join = new JoinService(f.Registry, new ClusterSecrets(f.Store, TimeProvider.System));
        var refused = await Assert.ThrowsAsync<RegistryException>(() => join.JoinAsync(
            new JoinRequest { Token = "any", NodeName = "w1", Address = IPAddress.Parse("192.0.2.9"), Csr = "", ProtocolVersion = Protocol.Version + apart }, "test"));
        Assert.Equal((400, "protocol-version"), (refused.Status, refused.Error.Code));
        Assert.Contains(apart > 0 ? "upgrade this manager first" : "upgrade the calling node first", refused.Error.Remedy);
    }

    [Fact]
    public async Task An_agent_passes_over_a_manager_of_a_distant_release_and_says_so_when_there_is_no_other()
    {
        var (far, near) = (new Uri("https://192.0.2.1:7373"), new Uri("https://192.0.2.2:7373"));
        using var http = new HttpClient(new Managers(far));
        var heartbeat = new HeartbeatRequest { NodeId = "n" };
        foreach (var managers in new[] { new[] { far, near }, [near, far] })
        {
            var client = new RegistryClient(http, new ManagerSelector(() => managers, "n", () => managers[0], TimeProvider.System), TimeProvider.System);
            Assert.Equal(5, (await client.Heartbeat(heartbeat, default)).Revision);
        }
        var alone = new RegistryClient(http, new ManagerSelector(() => [far], "n", () => null, TimeProvider.System), TimeProvider.System);
        var refused = await Assert.ThrowsAsync<RegistryException>(() => alone.Heartbeat(heartbeat, default));
        Assert.Contains($"protocol version {Protocol.Version + 2}", refused.Message);
        Assert.Equal(0, alone.LastAnswer);
    }

    [Fact]
    public async Task A_word_that_an_agent_cannot_read_ends_the_stream_with_what_to_do()
    {
        using var http = new HttpClient(new Managers(null));
        var client = new RegistryClient(http, new ManagerSelector(() => [new Uri("https://192.0.2.1:7373")], "n", () => null, TimeProvider.System), TimeProvider.System);
        var refused = await Assert.ThrowsAsync<RegistryException>(async () =>
        {
            await foreach (var message in client.Watch(-1, 0, default))
                Assert.Equal(1, message.Revision);
        });
        Assert.Equal("not-understood", refused.Error.Code);
        Assert.Contains("upgrade this node", refused.Error.Remedy);
    }

    private static async Task<HttpStatusCode> Update(HttpClient http, int? version, bool forwarded)
    {
        using var request = new HttpRequestMessage(HttpMethod.Patch, "/v1/endpoints/c1?network=net") { Content = new StringContent($$"""{"weight":2,"{{News}}":1}""", Encoding.UTF8, "application/json") };
        if (version is { } number)
            request.Headers.Add(Protocol.Header, Names.Text(number));
        if (forwarded)
            request.Headers.Add(Protocol.ForwardedHeader, "1");
        using var response = await http.SendAsync(request);
        return response.StatusCode;
    }

    /// <summary>The least text of a message: what is required, and no more.</summary>
    private static JsonNode Least(JsonTypeInfo type)
    {
        if (type.Kind == JsonTypeInfoKind.Object)
        {
            return new JsonObject(type.Properties.Where(property => property.IsRequired)
                .Select(property => KeyValuePair.Create(property.Name, (JsonNode?)Least(OverlayNetJson.Default.GetTypeInfo(property.PropertyType)!))));
        }
        if (type.Kind == JsonTypeInfoKind.Enumerable)
            return new JsonArray();
        var scalar = Nullable.GetUnderlyingType(type.Type) ?? type.Type;
        return scalar switch
        {
            _ when scalar.IsEnum => JsonNamingPolicy.CamelCase.ConvertName(Enum.GetNames(scalar)[0]),
            _ when scalar == typeof(string) => "x",
            _ when scalar == typeof(IPAddress) => "192.0.2.1",
            _ when scalar == typeof(IPNetwork) => "192.0.2.0/24",
            _ when scalar == typeof(DateTimeOffset) => "2026-01-02T03:04:05Z",
            _ when scalar == typeof(bool) => true,
            _ => 1,
        };
    }

    /// <summary>Managers that answer heartbeats; one of them, as one of a distant release does.</summary>
    /// <param name="far">Null: all are near, and their streams say something unheard of.</param>
    private sealed class Managers(Uri? far) : HttpMessageHandler
    {
        protected override Task<HttpResponseMessage> SendAsync(HttpRequestMessage request, CancellationToken cancellationToken)
        {
            var isFar = far is not null && request.RequestUri!.Authority == far.Authority;
            var response = new HttpResponseMessage(HttpStatusCode.OK) { RequestMessage = request };
            response.Headers.Add(Protocol.Header, Names.Text(Protocol.Version + (isFar ? 2 : 1)));
            response.Content = new StringContent(far is not null
                ? """{"revision":5}"""
                : """
                {"revision":1}
                {"revision":2,"changes":[{"endpoint":{"id":"e","name":"e","nodeId":"n","networkId":"w","mac":"m","state":"levitating"}}]}
                """);
            return Task.FromResult(response);
        }
    }
}
