using System.Text;
using Microsoft.Data.Sqlite;
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
    public async Task ADatabaseOfTheFirstVersionIsTakenOver()
    {
        using (var connection = new SqliteConnection($"Data Source={_directory.File("registry.db")};Pooling=False"))
        {
            connection.Open();
            using var command = connection.CreateCommand();
            // As version 1 wrote it: a put, a put over it, a delete, a put again; compacted up to revision 1.
            command.CommandText = """
                CREATE TABLE meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
                CREATE TABLE kv (
                    key TEXT PRIMARY KEY, value BLOB NOT NULL, create_rev INTEGER NOT NULL, mod_rev INTEGER NOT NULL,
                    lease INTEGER NOT NULL) WITHOUT ROWID;
                CREATE INDEX kv_lease ON kv (lease) WHERE lease <> 0;
                CREATE TABLE history (
                    rev INTEGER NOT NULL, key TEXT NOT NULL, value BLOB, create_rev INTEGER NOT NULL, lease INTEGER NOT NULL,
                    PRIMARY KEY (key, rev)) WITHOUT ROWID;
                CREATE INDEX history_rev ON history (rev);
                CREATE TABLE lease (id INTEGER PRIMARY KEY, ttl_ms INTEGER NOT NULL);
                INSERT INTO meta VALUES ('cluster', 'c'), ('incarnation', 3), ('revision', 6), ('compacted', 1);
                INSERT INTO lease VALUES (7, 60000);
                INSERT INTO kv VALUES ('a', x'34', 5, 5, 7), ('b', x'31', 2, 2, 0);
                INSERT INTO history VALUES
                    (1, 'a', x'31', 1, 0), (2, 'b', x'31', 2, 0), (3, 'a', x'32', 1, 0), (4, 'a', NULL, 0, 0), (5, 'a', x'34', 5, 7),
                    (6, 'c', NULL, 0, 0);
                PRAGMA user_version = 1;
                """;
            command.ExecuteNonQuery();
        }
        for (var opened = 0; opened < 2; opened++)
        {
            await using var store = Open();
            Assert.Equal(new StoreIdentity("c", 3), store.Identity);
            var page = await store.RangeAsync("");
            Assert.Equal(6, page.Revision);
            Assert.Equal(["a 4 5 5 7", "b 1 2 2 0"], page.Items.Select(Describe));
            Assert.Equal(["a 2 1 3 0", "b 1 2 2 0"], (await store.RangeAsync("", atRevision: 3)).Items.Select(Describe));
            Assert.Equal(["b 1 2 2 0"], (await store.RangeAsync("", atRevision: 4)).Items.Select(Describe));
        }
        await using (var store = Open())
        {
            Assert.Equal(7, (await store.CommitAsync(new Transaction { Guards = [Guard.Unchanged("a", 5)], Puts = [new Put("a", "5"u8.ToArray())] })).Revision);
            await store.CompactAsync(7);
        }
        await using (var store = Open())
        {
            Assert.Equal(["a 5 5 7 0", "b 1 2 2 0"], (await store.RangeAsync("")).Items.Select(Describe));
            Assert.Equal(8, (await store.CommitAsync(Put("d", "1"))).Revision);
        }
    }

    [Fact]
    public async Task TheRevisionStaysWhenItsOnlyTraceIsCompactedAway()
    {
        await using (var store = Open())
        {
            await store.CommitAsync(Put("a", "1"));
            var last = (await store.CommitAsync(new Transaction { Deletes = ["a"] })).Revision;
            await store.CompactAsync(last);
            Assert.Equal(2, (await store.RangeAsync("")).Revision);
        }
        await using (var store = Open())
        {
            Assert.Equal(2, (await store.RangeAsync("")).Revision);
            Assert.Equal(3, (await store.CommitAsync(Put("a", "1"))).Revision);
        }
    }

    private static string Describe(StoredValue item) => $"{item.Key} {Encoding.UTF8.GetString(item.Value.Span)} {item.CreateRevision} {item.ModRevision} {item.Lease}";

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
