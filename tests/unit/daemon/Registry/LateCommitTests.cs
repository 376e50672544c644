using OverlayNet.Contracts;
using OverlayNet.Daemon.Registry;
using OverlayNet.Daemon.Registry.Store;

namespace OverlayNet.UnitTests.Daemon.Registry;

/// <summary>A commit whose answer is lost, and which the store carries out when it likes.</summary>
public sealed class LateCommitTests
{
    [Fact]
    public async Task ACreationThatIsCarriedOutAfterItsRepetitionWasDeletedDoesNothing()
    {
        using var directory = new TempDirectory();
        await using var sqlite = SqliteStore.Open(new SqliteStoreOptions { Path = directory.File("registry.db") });
        await using var store = new LateStore(sqlite);
        await using var registry = await ClusterRegistry.StartAsync(store, new ClusterRegistryOptions());
        store.LoseNext = true;
        var network = await registry.CreateNetworkAsync(new NetworkCreateRequest { Name = "a" });
        Assert.NotNull(store.Lost);
        await registry.RemoveNetworkAsync("a");
        Assert.Equal(CommitOutcome.GuardFailed, (await sqlite.CommitAsync(store.Lost)).Outcome);
        Assert.Empty(registry.Current.Networks);
        // Nothing stands in the way of the same name, or of somebody who uses an id again knowing that it was deleted.
        Assert.NotEqual(network.Value.Id, (await registry.CreateNetworkAsync(new NetworkCreateRequest { Name = "a" })).Value.Id);
    }

    [Fact]
    public async Task ARemovalThatWasCarriedOutWithoutAnAnswerIsNoMistake()
    {
        using var directory = new TempDirectory();
        await using var sqlite = SqliteStore.Open(new SqliteStoreOptions { Path = directory.File("registry.db") });
        await using var store = new LateStore(sqlite);
        await using var registry = await ClusterRegistry.StartAsync(store, new ClusterRegistryOptions());
        await registry.CreateNetworkAsync(new NetworkCreateRequest { Name = "a" });
        (store.LoseNext, store.CarryOut) = (true, true);
        Assert.Equal("a", (await registry.RemoveNetworkAsync("a")).Value.Name);
        Assert.Empty(registry.Current.Networks);
        await Assert.ThrowsAsync<RegistryException>(() => registry.RemoveNetworkAsync("a"));
    }

    private sealed class LateStore(IRegistryStore store) : IRegistryStore
    {
        public bool LoseNext { get; set; }

        public bool CarryOut { get; set; }

        public Transaction? Lost { get; private set; }

        public StoreIdentity Identity => store.Identity;

        public TimeSpan SinceConfirmed => store.SinceConfirmed;

        public async ValueTask<CommitResult> CommitAsync(Transaction transaction, CancellationToken cancel = default)
        {
            if (!LoseNext)
                return await store.CommitAsync(transaction, cancel);
            (LoseNext, Lost) = (false, transaction);
            if (CarryOut)
                await store.CommitAsync(transaction, cancel);
            return new CommitResult(CommitOutcome.Unknown, 0);
        }

        public ValueTask<RangePage> RangeAsync(string prefix, string? after = null, int limit = 0, long? atRevision = null, bool stale = false, CancellationToken cancel = default) =>
            store.RangeAsync(prefix, after, limit, atRevision, stale, cancel);

        public IAsyncEnumerable<WatchBatch> WatchAsync(string prefix, long fromRevision, CancellationToken cancel = default) => store.WatchAsync(prefix, fromRevision, cancel);

        public ValueTask<long> GrantAsync(TimeSpan ttl, CancellationToken cancel = default) => store.GrantAsync(ttl, cancel);

        public ValueTask RenewAsync(long lease, CancellationToken cancel = default) => store.RenewAsync(lease, cancel);

        public ValueTask RevokeAsync(long lease, CancellationToken cancel = default) => store.RevokeAsync(lease, cancel);

        public ValueTask CompactAsync(long revision, CancellationToken cancel = default) => store.CompactAsync(revision, cancel);

        public Task BackupAsync(Stream destination, CancellationToken cancel = default) => store.BackupAsync(destination, cancel);

        public ValueTask<long?> ConfirmAsync(CancellationToken cancel = default) => store.ConfirmAsync(cancel);

        public ValueTask<StoreHealth> HealthAsync(CancellationToken cancel = default) => store.HealthAsync(cancel);

        public ValueTask DisposeAsync() => ValueTask.CompletedTask;
    }
}
