using System.Net.Sockets;
using System.Text;
using System.Text.Json;
using OverlayNet.Contracts;
using OverlayNet.Daemon.Registry;

namespace OverlayNet.UnitTests.Daemon.Api;

public sealed class WatchTests
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(60);

    private static async Task<StreamReader> OpenAsync(ApiFixture f, string query) =>
        new(await f.Local.GetStreamAsync("/v1/watch" + query));

    private static async Task<WatchMessage> NextAsync(StreamReader stream) =>
        JsonSerializer.Deserialize((await stream.ReadLineAsync().WaitAsync(Patience))!, OverlayNetJson.Default.WatchMessage)!;

    private static Task<Written<Network>> NetworkAsync(ApiFixture f, string name) =>
        f.Registry.CreateNetworkAsync(new NetworkCreateRequest { Name = name });

    [Fact]
    public async Task AWatchBeginsWithASnapshotAndGoesOnWithChanges()
    {
        await using var f = await ApiFixture.StartAsync();
        await NetworkAsync(f, "a");
        using var stream = await OpenAsync(f, "");
        var first = await NextAsync(stream);
        Assert.Equal("a", Assert.Single(first.Snapshot!.Networks).Name);
        var snapshot = Snapshot.From(first.Snapshot);
        var written = await NetworkAsync(f, "b");
        WatchMessage message;
        do
        {
            message = await NextAsync(stream);
            snapshot = snapshot.Apply(message);
        }
        while (message.Changes is null);
        Assert.Equal("b", Assert.Single(message.Changes).Network!.Name);
        Assert.Equal(written.Revision, message.Revision);
        Assert.Equal(2, snapshot.Networks.Count);
    }

    [Fact]
    public async Task AWatchFromAKnownRevisionNeedsNoSnapshot()
    {
        await using var f = await ApiFixture.StartAsync();
        var a = await NetworkAsync(f, "a");
        var b = await NetworkAsync(f, "b");
        using var stream = await OpenAsync(f, $"?from={a.Revision}&incarnation={f.Registry.Current.Incarnation}");
        var message = await NextAsync(stream);
        Assert.Equal((b.Revision, "b"), (message.Revision, message.Changes![0].Network!.Name));
    }

    [Theory]
    [InlineData("?from=1&incarnation=99")]
    [InlineData("?from=9999999&incarnation=1")]
    [InlineData("?from=-1&incarnation=0")]
    public async Task AnotherIncarnationOrAnImpossibleRevisionGetsASnapshot(string query)
    {
        await using var f = await ApiFixture.StartAsync();
        using var stream = await OpenAsync(f, query);
        Assert.NotNull((await NextAsync(stream)).Snapshot);
    }

    [Fact]
    public async Task SignsOfLifeComeWithoutChanges()
    {
        await using var f = await ApiFixture.StartAsync();
        using var stream = await OpenAsync(f, $"?from={f.Registry.Current.Revision}");
        var sign = await NextAsync(stream);
        Assert.Null(sign.Snapshot);
        Assert.Null(sign.Changes);
        Assert.Equal(f.Registry.Current.Revision, sign.Revision);
    }

    [Fact]
    public async Task AWatcherThatDoesNotReadDelaysNobodyAndGetsASnapshot()
    {
        await using var f = await ApiFixture.StartAsync(feedRevisions: 8);
        using var frozen = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        frozen.ReceiveBufferSize = 1024;
        await frozen.ConnectAsync(new UnixDomainSocketEndPoint(f.SocketPath));
        // Without chunks, whose sizes would stand between the pieces of a long line.
        await frozen.SendAsync(Encoding.ASCII.GetBytes("GET /v1/watch HTTP/1.0\r\nHost: x\r\n\r\n"));
        using var quick = await OpenAsync(f, "");
        var snapshot = Snapshot.From((await NextAsync(quick)).Snapshot!);
        var labels = new Dictionary<string, string> { ["filler"] = new string('x', 4000) };
        for (var i = 0; i < 300; i++)
            await f.Registry.CreateNetworkAsync(new NetworkCreateRequest { Name = $"n{i}", Labels = labels });
        while (snapshot.Revision < f.Registry.Current.Revision)
            snapshot = snapshot.Apply(await NextAsync(quick));
        Assert.Equal(300, snapshot.Networks.Count);

        // The frozen one thaws: what it reads is either in order without a gap, or starts over with a snapshot.
        using var reader = new StreamReader(new NetworkStream(frozen));
        var thawed = Snapshot.Empty;
        var snapshots = 0;
        var last = 0L;
        while (thawed.Revision < f.Registry.Current.Revision)
        {
            var line = (await reader.ReadLineAsync().WaitAsync(Patience))!;
            if (line.Length == 0 || line[0] != '{')
                continue;
            var message = JsonSerializer.Deserialize(line, OverlayNetJson.Default.WatchMessage)!;
            snapshots += message.Snapshot is null ? 0 : 1;
            if (message.Changes is not null)
                Assert.Equal(last + 1, message.Revision);
            last = message.Revision;
            thawed = thawed.Apply(message);
        }
        Assert.Equal(300, thawed.Networks.Count);
        Assert.True(snapshots >= 2, $"{snapshots} snapshots");
    }

    [Fact]
    public async Task AnOpenWatchDoesNotHoldUpTheStop()
    {
        await using var f = await ApiFixture.StartAsync();
        using var stream = await OpenAsync(f, "");
        await NextAsync(stream);
        await f.App.StopAsync().WaitAsync(Patience);
    }
}
