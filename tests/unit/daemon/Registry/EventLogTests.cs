using OverlayNet.Daemon.Registry;

namespace OverlayNet.UnitTests.Daemon.Registry;

public sealed class EventLogTests : IDisposable
{
    private readonly TempDirectory _directory = new();
    private readonly ManualTime _time = new();

    public void Dispose() => _directory.Dispose();

    private EventLog Open(long maxBytes = 1 << 20) => EventLog.Open(_directory.Path, "n1", _time, maxBytes);

    [Fact]
    public void EventsAreNumberedAndSurvive()
    {
        using (var log = Open())
        {
            Assert.Equal(1, log.Append("node", "create", "a").Sequence);
            _time.Advance(TimeSpan.FromMinutes(1));
            log.Append("network", "remove", "b", "by local", 7);
        }
        using (var again = Open())
        {
            Assert.Equal(3, again.Append("node", "create", "c").Sequence);
            Assert.Equal(["a", "b", "c"], again.Since(0).Select(e => e.Object));
            Assert.Equal(["c"], again.Since(2).Select(e => e.Object));
            Assert.Equal(["b", "c"], again.Since(_time.GetUtcNow()).Select(e => e.Object));
            Assert.Equal((7, "by local", "n1"), (again.Since(1)[0].Revision, again.Since(1)[0].Message, again.Since(1)[0].Node));
        }
        // From the file alone: a thread of its own has written all by the log's end.
        Assert.Equal(3, EventLog.ReadFrom(_directory.Path).Count);
    }

    [Fact]
    public void ALineCutOffByACrashIsDropped()
    {
        using (var log = Open())
            log.Append("node", "create", "a");
        File.AppendAllText(_directory.File(EventLog.FileName), "{\"sequence\":2,\"ti");
        using var again = Open();
        again.Append("node", "create", "b");
        Assert.Equal([(1L, "a"), (2L, "b")], again.Since(0).Select(e => (e.Sequence, e.Object)));
    }

    [Fact]
    public void OldEventsGoWhenTheFilesAreFull()
    {
        using (var log = Open(maxBytes: 2000))
        {
            for (var i = 1; i <= 100; i++)
                log.Append("node", "create", $"n{i}");
        }
        Assert.Equal(2, Directory.GetFiles(_directory.Path).Length);
        using var again = Open(maxBytes: 2000);
        var kept = again.Since(0);
        Assert.InRange(kept.Count, 10, 30);
        Assert.Equal(Enumerable.Range((int)kept[0].Sequence, kept.Count).Select(i => (long)i), kept.Select(e => e.Sequence));
        Assert.Equal(100, kept[^1].Sequence);
        Assert.Equal(101, again.Append("node", "create", "x").Sequence);
    }

    [Fact]
    public async Task AFollowerSeesWhatWasAndWhatComes()
    {
        using var log = Open(maxBytes: 2000);
        log.Append("node", "create", "1");
        using var cancel = new CancellationTokenSource(TimeSpan.FromSeconds(60));
        var seen = new List<long>();
        var following = Task.Run(async () =>
        {
            await foreach (var recorded in log.FollowAsync(0, cancel.Token))
            {
                seen.Add(recorded.Sequence);
                if (recorded.Object == "last")
                    return;
            }
        });
        for (var i = 2; i < 20; i++)
            log.Append("node", "create", $"{i}");
        log.Append("node", "create", "last");
        await following;
        Assert.Equal(seen.Order().Distinct(), seen);
        Assert.Equal(20, seen[^1]);
    }
}
