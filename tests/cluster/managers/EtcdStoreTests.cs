using OverlayNet.Daemon.Registry.Store;
using OverlayNet.Daemon.Registry.Store.Etcd;
using OverlayNet.UnitTests.Daemon.Registry.Store;

namespace OverlayNet.ClusterTests.Managers;

/// <summary>One etcd for the tests of the class; each has a prefix of its own.</summary>
public sealed class OneEtcd : IDisposable
{
    public EtcdProcesses Etcd { get; } = new(1);

    public void Dispose() => Etcd.Dispose();
}

/// <summary>The same suite that defines SQLite's store, over real etcd.</summary>
public sealed class EtcdStoreConformance(OneEtcd one) : StoreConformance, IClassFixture<OneEtcd>
{
    private static int _count;

    protected override async Task<IRegistryStore> OpenAsync() => await EtcdStore.CreateAsync(
        one.Etcd.Options(), new StoreIdentity("test", 1), [], $"/t{Interlocked.Increment(ref _count)}/");

    // A lease of etcd's ends by its own clock; watchers are told a moment later.
    protected override Task ExpireAsync(TimeSpan ttl) => Task.Delay(ttl + TimeSpan.FromSeconds(2));
}

public sealed class EtcdStoreTests(OneEtcd one) : IClassFixture<OneEtcd>
{
    private static Transaction Put(string key, string value) => new() { Puts = [new Put(key, System.Text.Encoding.UTF8.GetBytes(value))] };

    [Fact]
    public async Task An_import_is_not_opened_before_it_is_whole_and_not_made_twice()
    {
        const string prefix = "/import/";
        Assert.Null(await EtcdStore.OpenAsync(one.Etcd.Options(), prefix));
        await using var store = await EtcdStore.CreateAsync(
            one.Etcd.Options(), new StoreIdentity("c", 7), Enumerable.Range(0, 1000).Select(i => new Put($"key/{i:d4}", new byte[] { 1 })), prefix);
        Assert.Equal(new StoreIdentity("c", 7), store.Identity);
        Assert.Equal(1000, (await store.RangeAsync("key/")).Items.Count);
        await Assert.ThrowsAnyAsync<RegistryStoreException>(() => EtcdStore.CreateAsync(one.Etcd.Options(), new StoreIdentity("d", 1), [], prefix));
    }

    [Fact]
    public async Task A_registry_replaced_underneath_takes_nothing_that_was_planned_before()
    {
        const string prefix = "/replaced/";
        await using var old = await EtcdStore.CreateAsync(one.Etcd.Options(), new StoreIdentity("c", 1), [], prefix);
        Assert.Equal(CommitOutcome.OtherIncarnation, (await old.CommitAsync(Put("a", "1") with { Incarnation = 2 })).Outcome);
        Assert.Equal(CommitOutcome.Committed, (await old.CommitAsync(Put("a", "1") with { Incarnation = 1 })).Outcome);
        Harness.Commands.Run("etcdctl", "--endpoints", one.Etcd.Url(0).ToString(), "put", prefix + "identity", """{"clusterId":"c","incarnation":2}""").Succeeded();
        Assert.Equal(CommitOutcome.OtherIncarnation, (await old.CommitAsync(Put("a", "2"))).Outcome);
        await using var now = await EtcdStore.OpenAsync(one.Etcd.Options(), prefix);
        Assert.Equal(2, now!.Identity.Incarnation);
        Assert.Equal(CommitOutcome.Committed, (await now.CommitAsync(Put("a", "3") with { Incarnation = 2 })).Outcome);
    }

    [Fact]
    public async Task Commits_that_come_while_one_is_under_way_go_together()
    {
        await using var store = await EtcdStore.CreateAsync(one.Etcd.Options(), new StoreIdentity("c", 1), [], "/together/");
        var revisions = await Task.WhenAll(Enumerable.Range(0, 320).Select(i => Task.Run(async () => (await store.CommitAsync(Put($"k/{i:d3}", $"{i}"))).Revision)));
        var items = (await store.RangeAsync("k/")).Items;
        Assert.Equal(Enumerable.Range(0, 320).Select(i => ($"k/{i:d3}", revisions[i])), items.Select(item => (item.Key, item.ModRevision)));
        Assert.InRange(revisions.Distinct().Count(), 320 / 64, 160);
    }

    [Fact]
    public async Task Nobody_there_is_said_with_the_member_and_the_reason()
    {
        var options = new EtcdClientOptions { Members = [new Uri("http://127.0.0.1:1")] };
        var error = await Assert.ThrowsAnyAsync<RegistryStoreException>(() => EtcdStore.OpenAsync(options));
        Assert.Contains("127.0.0.1:1", error.Message, StringComparison.Ordinal);
    }
}
