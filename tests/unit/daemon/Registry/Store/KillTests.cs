using System.Globalization;
using System.Text;
using OverlayNet.Daemon.Registry;
using OverlayNet.Daemon.Registry.Store;

namespace OverlayNet.UnitTests.Daemon.Registry.Store;

/// <summary>Writes keys w/WRITER/N with 16 writers at once and prints each key once its commit is acknowledged.</summary>
internal static class StoreWriterProcess
{
    public static async Task<int> RunAsync(string path)
    {
        await using var store = SqliteStore.Open(new SqliteStoreOptions { Path = path });
        var output = Console.Out;
        await Task.WhenAll(Enumerable.Range(0, 16).Select(writer => Task.Run(async () =>
        {
            for (var n = 0; ; n++)
            {
                var key = $"w/{writer}/{Environment.ProcessId}-{n}";
                var result = await store.CommitAsync(new Transaction
                {
                    Guards = [Guard.Absent(key)],
                    Puts = [new Put(key, Encoding.ASCII.GetBytes(key)), new Put($"last/{writer}", Encoding.ASCII.GetBytes(key))],
                });
                output.WriteLine($"{key} {result.Revision}");
            }
        })));
        return 0;
    }
}

internal static class StateLockProcess
{
    public static Task<int> RunAsync(string directory)
    {
        using var held = StateLock.Acquire(directory);
        Console.WriteLine("held");
        Console.In.ReadLine();
        return Task.FromResult(0);
    }
}

public sealed class KillTests : IDisposable
{
    private readonly TempDirectory _directory = new();

    public void Dispose() => _directory.Dispose();

    [Fact]
    public async Task NothingAcknowledgedIsLostByKill9()
    {
        var path = _directory.File("registry.db");
        var acknowledged = new Dictionary<string, long>();
        for (var round = 0; round < 3; round++)
        {
            using var child = new ChildProcess("store-writer", path);
            var lines = new List<string>();
            for (var i = 0; i < 400; i++)
                lines.Add((await child.ReadLineAsync())!);
            // The last line may be cut off by the kill itself.
            var rest = await child.KillAsync();
            lines.AddRange(rest[..(rest.LastIndexOf('\n') + 1)].Split('\n', StringSplitOptions.RemoveEmptyEntries));
            foreach (var line in lines)
            {
                var parts = line.Split(' ');
                acknowledged.Add(parts[0], long.Parse(parts[1], CultureInfo.InvariantCulture));
            }

            await using var store = SqliteStore.Open(new SqliteStoreOptions { Path = path });
            var page = await store.RangeAsync("w/");
            var stored = page.Items.ToDictionary(i => i.Key);
            Assert.All(acknowledged, a => Assert.Equal(a.Value, stored[a.Key].ModRevision));
            // Both keys of a transaction or none, and no revision without its history.
            Assert.All((await store.RangeAsync("last/")).Items,
                last => Assert.Equal(last.ModRevision, stored[Encoding.ASCII.GetString(last.Value.Span)].ModRevision));
            var expected = 1L;
            await foreach (var batch in store.WatchAsync("", 1))
            {
                Assert.Equal(expected++, batch.Revision);
                if (batch.Revision == page.Revision)
                    break;
            }
        }
    }

    [Fact]
    public async Task ASecondDaemonOnTheSameStateIsToldWhoHoldsIt()
    {
        using (var child = new ChildProcess("state-lock", _directory.Path))
        {
            Assert.Equal("held", await child.ReadLineAsync());
            var refused = Assert.Throws<StateLockedException>(() => StateLock.Acquire(_directory.Path));
            Assert.Equal(child.Pid, refused.Pid);
            Assert.Contains($"process {child.Pid}", refused.Message);
            Assert.Contains(_directory.Path, refused.Message);
            await child.KillAsync();
        }
        using (StateLock.Acquire(_directory.Path))
            Assert.Equal(Environment.ProcessId, StateLock.Holder(_directory.Path));
        using var again = StateLock.Acquire(_directory.Path);
    }

    [Fact]
    public void NobodyHoldsADirectoryWithoutALock() => Assert.Null(StateLock.Holder(_directory.Path));
}
