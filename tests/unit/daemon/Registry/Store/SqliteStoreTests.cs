using System.Text;
using OverlayNet.Daemon.Registry.Store;

namespace OverlayNet.UnitTests.Daemon.Registry.Store;

public sealed class SqliteStoreConformance : StoreConformance, IDisposable
{
    private readonly TempDirectory _directory = new();
    private readonly ManualTime _time = new();

    public void Dispose() => _directory.Dispose();

    // A short memory makes watchers read the history on disk too.
    protected override Task<IRegistryStore> OpenAsync() => Task.FromResult<IRegistryStore>(SqliteStore.Open(
        new SqliteStoreOptions { Path = _directory.File("registry.db"), Time = _time, RecentRevisions = 16 }));

    protected override Task ExpireAsync(TimeSpan ttl)
    {
        _time.Advance(ttl + TimeSpan.FromSeconds(1));
        return Task.CompletedTask;
    }
}

public sealed class SqliteStoreTests : IDisposable
{
    private readonly TempDirectory _directory = new();
    private readonly ManualTime _time = new();

    public void Dispose() => _directory.Dispose();

    private SqliteStore Open(int historyRevisions = 100_000) => SqliteStore.Open(new SqliteStoreOptions
    {
        Path = _directory.File("registry.db"),
        Time = _time,
        HistoryRevisions = historyRevisions,
    });

    private static Transaction Put(string key, string value, long lease = 0) =>
        new() { Puts = [new Put(key, Encoding.UTF8.GetBytes(value), lease)] };

    [Fact]
    public async Task EverythingSurvivesAReopening()
    {
        StoreIdentity identity;
        long revision;
        await using (var store = Open())
        {
            identity = store.Identity;
            await store.CommitAsync(Put("a", "1"));
            revision = (await store.CommitAsync(Put("a", "2"))).Revision;
        }
        await using (var store = Open())
        {
            Assert.Equal(identity, store.Identity);
            Assert.Equal(revision, (await store.RangeAsync("")).Revision);
            Assert.Equal(revision + 1, (await store.CommitAsync(Put("a", "3"))).Revision);
            var first = 0L;
            await foreach (var batch in store.WatchAsync("", 1))
            {
                first = batch.Revision;
                break;
            }
            Assert.Equal(1, first);
        }
    }

    [Fact]
    public async Task ALeaseGetsItsWholeTimeAgainAfterAReopening()
    {
        var ttl = TimeSpan.FromSeconds(30);
        await using (var store = Open())
            await store.CommitAsync(Put("l", "", await store.GrantAsync(ttl)));
        _time.Advance(TimeSpan.FromHours(1));
        await using (var store = Open())
        {
            _time.Advance(ttl - TimeSpan.FromSeconds(1));
            Assert.Single((await store.RangeAsync("l")).Items);
            Assert.NotEqual(1, await store.GrantAsync(ttl));
            _time.Advance(TimeSpan.FromSeconds(2));
            await foreach (var batch in store.WatchAsync("l", 2))
            {
                Assert.Null(batch.Changes[0].Value);
                break;
            }
        }
    }

    [Fact]
    public async Task HistoryIsCompactedByCountAndByAge()
    {
        await using var store = Open(historyRevisions: 10);
        for (var i = 0; i < 30; i++)
            await store.CommitAsync(Put("k", "v"));
        _time.Advance(TimeSpan.FromSeconds(31));
        await Eventually.True(async () => (await store.HealthAsync()).CompactedRevision == 20);
        _time.Advance(TimeSpan.FromHours(2));
        await Eventually.True(async () => (await store.HealthAsync()).CompactedRevision == 30);
        Assert.Single((await store.RangeAsync("")).Items);
    }

    [Fact]
    public void AFileThatIsNoDatabaseIsRefusedWithTheWayOut()
    {
        File.WriteAllText(_directory.File("registry.db"), new string('x', 5000));
        var error = Assert.Throws<RegistryStoreException>(() => Open());
        Assert.Contains(_directory.File("registry.db"), error.Message);
        Assert.Contains("restore", error.Message);
        Assert.Equal(new string('x', 5000), File.ReadAllText(_directory.File("registry.db")));
    }

    [Fact]
    public async Task ADamagedDatabaseIsRefused()
    {
        await using (var store = Open())
        {
            for (var i = 0; i < 200; i++)
                await store.CommitAsync(Put($"key/{i}", new string('v', 500)));
        }
        using (var file = File.OpenWrite(_directory.File("registry.db")))
        {
            file.Position = 4096 * 2;
            file.Write(Encoding.ASCII.GetBytes(new string('x', 4096 * 20)));
        }
        var error = Assert.Throws<RegistryStoreException>(() => Open());
        Assert.Contains("restore", error.Message);
    }

    [Fact]
    public async Task ABackupIsADatabaseWithTheSameContent()
    {
        await using var store = Open();
        await store.CommitAsync(Put("a", "1"));
        using (var copy = File.Create(_directory.File("copy.db")))
            await store.BackupAsync(copy);
        Assert.Equal(["copy.db", "registry.db", "registry.db-shm", "registry.db-wal"],
            Directory.GetFiles(_directory.Path).Select(Path.GetFileName).Order(StringComparer.Ordinal));
        await using var restored = SqliteStore.Open(new SqliteStoreOptions { Path = _directory.File("copy.db"), Time = _time });
        Assert.Equal(store.Identity, restored.Identity);
        Assert.Equal("a", Assert.Single((await restored.RangeAsync("")).Items).Key);
    }

    [Fact]
    public async Task OnlyTheOwnerMayReadTheDatabase()
    {
        await using var store = Open();
        await store.CommitAsync(Put("a", "1"));
        foreach (var file in Directory.GetFiles(_directory.Path))
            Assert.Equal(UnixFileMode.UserRead | UnixFileMode.UserWrite, File.GetUnixFileMode(file));
    }

    [Fact]
    public async Task AClosedStoreRefuses()
    {
        var store = Open();
        await store.DisposeAsync();
        await store.DisposeAsync();
        await Assert.ThrowsAsync<RegistryStoreException>(async () => await store.CommitAsync(Put("a", "1")));
    }
}
