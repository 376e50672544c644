using System.Text;
using OverlayNet.Daemon.Registry.Store;

namespace OverlayNet.UnitTests.Daemon.Registry.Store;

/// <summary>What every registry store has to do; a store's own test class inherits it.</summary>
public abstract class StoreConformance
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(60);

    /// <summary>An empty store.</summary>
    protected abstract Task<IRegistryStore> OpenAsync();

    /// <summary>Lets a lease of the given time run out.</summary>
    protected abstract Task ExpireAsync(TimeSpan ttl);

    private static Put Put(string key, string value, long lease = 0) => new(key, Encoding.UTF8.GetBytes(value), lease);

    private static Transaction Puts(params Put[] puts) => new() { Puts = puts };

    private static string Text(StoredValue value) => Encoding.UTF8.GetString(value.Value.Span);

    private static async Task<long> Commit(IRegistryStore store, Transaction transaction)
    {
        var result = await store.CommitAsync(transaction);
        Assert.Equal(CommitOutcome.Committed, result.Outcome);
        return result.Revision;
    }

    private static async Task<List<WatchBatch>> Take(IRegistryStore store, string prefix, long from, int count)
    {
        using var cancel = new CancellationTokenSource(Patience);
        var batches = new List<WatchBatch>();
        await foreach (var batch in store.WatchAsync(prefix, from, cancel.Token))
        {
            batches.Add(batch);
            if (batches.Count == count)
                break;
        }
        return batches;
    }

    [Fact]
    public async Task ATransactionGivesOneRevisionToAllItsKeys()
    {
        await using var store = await OpenAsync();
        var first = await Commit(store, Puts(Put("a/1", "x"), Put("a/2", "y")));
        var second = await Commit(store, Puts(Put("a/2", "z")));
        Assert.True(second > first);
        var page = await store.RangeAsync("a/");
        Assert.Equal(["a/1", "a/2"], page.Items.Select(i => i.Key));
        Assert.Equal(second, page.Revision);
        Assert.Equal((first, first, "x"), (page.Items[0].CreateRevision, page.Items[0].ModRevision, Text(page.Items[0])));
        Assert.Equal((first, second, "z"), (page.Items[1].CreateRevision, page.Items[1].ModRevision, Text(page.Items[1])));
    }

    [Fact]
    public async Task GuardsHoldTogetherOrNothingIsWritten()
    {
        await using var store = await OpenAsync();
        var rev = await Commit(store, Puts(Put("k", "1")));
        var failed = await store.CommitAsync(new Transaction
        {
            Guards = [Guard.Unchanged("k", rev), Guard.Absent("k")],
            Puts = [Put("other", "1")],
            Deletes = ["k"],
        });
        Assert.Equal(new CommitResult(CommitOutcome.GuardFailed, rev, "k"), failed);
        Assert.Single((await store.RangeAsync("")).Items);

        await Commit(store, new Transaction { Guards = [Guard.Unchanged("k", rev), Guard.Alive("k", rev)], Puts = [Put("k", "2")] });
        Assert.Equal(CommitOutcome.GuardFailed, (await store.CommitAsync(
            new Transaction { Guards = [Guard.Unchanged("k", rev)], Puts = [Put("k", "3")] })).Outcome);
        await Commit(store, new Transaction { Guards = [Guard.Alive("k", rev)], Puts = [Put("k", "3")] });
        await Commit(store, new Transaction { Deletes = ["k"] });
        await Commit(store, new Transaction { Guards = [Guard.Absent("k")], Puts = [Put("k", "4")] });
        Assert.Equal(CommitOutcome.GuardFailed, (await store.CommitAsync(
            new Transaction { Guards = [Guard.Alive("k", rev)], Puts = [Put("k", "5")] })).Outcome);
    }

    [Fact]
    public async Task ATransactionThatChangesNothingHasNoRevision()
    {
        await using var store = await OpenAsync();
        var rev = await Commit(store, Puts(Put("k", "1")));
        Assert.Equal(rev, await Commit(store, new Transaction { Deletes = ["absent"] }));
        Assert.Equal(rev, await Commit(store, new Transaction { Guards = [Guard.Unchanged("k", rev)] }));
    }

    [Fact]
    public async Task KeysOutsideTheRulesAreRefused()
    {
        await using var store = await OpenAsync();
        foreach (var key in (string[])["", "with space", "ünicode", "nul\0"])
            await Assert.ThrowsAsync<ArgumentException>(async () => await store.CommitAsync(Puts(Put(key, "x"))));
        await Assert.ThrowsAsync<ArgumentException>(async () => await store.CommitAsync(Puts(Put("a", "x"), Put("a", "y"))));
        await Assert.ThrowsAsync<ArgumentException>(
            async () => await store.CommitAsync(new Transaction { Puts = [Put("a", "x")], Deletes = ["a"] }));
    }

    [Fact]
    public async Task PagesOfOneRevisionDoNotSeeLaterWrites()
    {
        await using var store = await OpenAsync();
        for (var i = 0; i < 10; i++)
            await Commit(store, Puts(Put($"p/{i}", "old")));
        var page = await store.RangeAsync("p/", limit: 4);
        Assert.True(page.More);
        var at = page.Revision;
        await Commit(store, new Transaction { Puts = [Put("p/5", "new"), Put("p/99", "new"), Put("q/1", "new")], Deletes = ["p/6"] });
        var all = new List<StoredValue>(page.Items);
        while (page.More)
        {
            page = await store.RangeAsync("p/", all[^1].Key, 4, at);
            Assert.Equal(at, page.Revision);
            all.AddRange(page.Items);
        }
        Assert.Equal(Enumerable.Range(0, 10).Select(i => $"p/{i}"), all.Select(i => i.Key));
        Assert.All(all, i => Assert.Equal("old", Text(i)));
        Assert.Equal(10, (await store.RangeAsync("p/")).Items.Count);
        await Assert.ThrowsAnyAsync<RegistryStoreException>(async () => await store.RangeAsync("p/", atRevision: at + 100));
    }

    [Fact]
    public async Task AWatchSeesPastAndFutureOnceAndInOrder()
    {
        await using var store = await OpenAsync();
        var first = await Commit(store, Puts(Put("w/1", "a"), Put("other/1", "a")));
        await Commit(store, Puts(Put("other/2", "a")));
        var watching = Take(store, "w/", first, 3);
        var second = await Commit(store, new Transaction { Puts = [Put("w/2", "b")], Deletes = ["w/1"] });
        var third = await Commit(store, Puts(Put("w/1", "c")));
        var batches = await watching;
        Assert.Equal([first, second, third], batches.Select(b => b.Revision));
        Assert.Equal("w/1", Assert.Single(batches[0].Changes).Key);
        Assert.Equal(["w/1", "w/2"], batches[1].Changes.Select(c => c.Key).Order());
        Assert.Null(batches[1].Changes.Single(c => c.Key == "w/1").Value);
        Assert.Equal(third, batches[2].Changes[0].Value!.CreateRevision);
    }

    [Fact]
    public async Task AWatchFromTheFutureIsRefused()
    {
        await using var store = await OpenAsync();
        var rev = await Commit(store, Puts(Put("k", "1")));
        await Assert.ThrowsAnyAsync<RegistryStoreException>(() => Take(store, "", rev + 50, 1));
    }

    [Fact]
    public async Task CompactionKeepsTheLivingAndSaysWhatIsGone()
    {
        await using var store = await OpenAsync();
        var first = await Commit(store, Puts(Put("k", "1"), Put("still", "1")));
        await Commit(store, Puts(Put("k", "2")));
        await Commit(store, new Transaction { Deletes = ["k"] });
        var at = await Commit(store, Puts(Put("k", "3"), Put("gone", "1")));
        var last = await Commit(store, new Transaction { Puts = [Put("k", "4")], Deletes = ["gone"] });
        await store.CompactAsync(at);
        var gone = await Assert.ThrowsAsync<CompactedException>(() => Take(store, "", first, 1));
        Assert.Equal(at + 1, gone.Minimum);
        await Assert.ThrowsAsync<CompactedException>(async () => await store.RangeAsync("", atRevision: first));
        Assert.Equal(last, Assert.Single(await Take(store, "", gone.Minimum, 1)).Revision);
        Assert.Equal(["k=4", "still=1"], (await store.RangeAsync("")).Items.Select(i => $"{i.Key}={Text(i)}"));
        Assert.Equal(
            ["gone=1", "k=3", "still=1"],
            (await store.RangeAsync("", atRevision: at)).Items.Select(i => $"{i.Key}={Text(i)}"));
    }

    [Fact]
    public async Task AWatchUnderCompactionHasNoGap()
    {
        await using var store = await OpenAsync();
        const int writes = 600;
        var start = await Commit(store, Puts(Put("n", "0")));
        using var cancel = new CancellationTokenSource(Patience);
        var seen = new List<int>();
        var watcher = Task.Run(async () =>
        {
            var from = start + 1;
            while (true)
            {
                try
                {
                    await foreach (var batch in store.WatchAsync("n", from, cancel.Token))
                    {
                        seen.Add(int.Parse(Text(batch.Changes[0].Value!)));
                        from = batch.Revision + 1;
                        if (seen[^1] == writes)
                            return;
                    }
                }
                catch (CompactedException)
                {
                    // As every watcher has to: read the range, go on from there. Nothing newer may be missing.
                    var page = await store.RangeAsync("n");
                    seen.Clear();
                    seen.Add(int.Parse(Text(page.Items[0])));
                    from = page.Revision + 1;
                    if (seen[^1] == writes)
                        return;
                }
            }
        });
        for (var i = 1; i <= writes; i++)
        {
            var rev = await Commit(store, Puts(Put("n", i.ToString())));
            if (i % 50 == 0)
                await store.CompactAsync(rev - 10);
        }
        await watcher;
        Assert.Equal(Enumerable.Range(seen[0], writes - seen[0] + 1), seen);
    }

    [Fact]
    public async Task CompareAndSwapLosesNoIncrement()
    {
        await using var store = await OpenAsync();
        await Commit(store, Puts(Put("counter", "0")));
        const int workers = 8, each = 25;
        var history = new System.Collections.Concurrent.ConcurrentBag<(long Revision, int Value)>();
        await Task.WhenAll(Enumerable.Range(0, workers).Select(_ => Task.Run(async () =>
        {
            for (var done = 0; done < each;)
            {
                var item = (await store.RangeAsync("counter")).Items[0];
                var next = int.Parse(Text(item)) + 1;
                var result = await store.CommitAsync(new Transaction
                {
                    Guards = [Guard.Unchanged("counter", item.ModRevision)],
                    Puts = [Put("counter", next.ToString())],
                });
                if (result.Outcome != CommitOutcome.Committed)
                    continue;
                history.Add((result.Revision, next));
                done++;
            }
        })));
        // Linearizable: in the order of revisions every acknowledged value is one more than the one before.
        Assert.Equal(Enumerable.Range(1, workers * each), history.OrderBy(h => h.Revision).Select(h => h.Value));
    }

    [Fact]
    public async Task ManyWritersAtOnceAreSeenByWatchersOnceEachAndInOrder()
    {
        await using var store = await OpenAsync();
        var start = await Commit(store, Puts(Put("start", "")));
        const int writers = 32, each = 20;
        using var cancel = new CancellationTokenSource(Patience);
        var seen = new List<(long Revision, string Key)>();
        var watching = Task.Run(async () =>
        {
            await foreach (var batch in store.WatchAsync("m/", start, cancel.Token))
            {
                seen.AddRange(batch.Changes.Select(change => (batch.Revision, change.Key)));
                if (seen.Count >= writers * each)
                    return;
            }
        });
        var written = await Task.WhenAll(Enumerable.Range(0, writers).Select(w => Task.Run(async () =>
        {
            var mine = new List<(long Revision, string Key)>();
            for (var i = 0; i < each; i++)
                mine.Add((await Commit(store, Puts(Put($"m/{w}/{i}", ""))), $"m/{w}/{i}"));
            return mine;
        })));
        await watching;
        // One writer's are one after the other; those of several at once may share a revision.
        Assert.All(written, mine => Assert.Equal(mine.Select(m => m.Revision).Distinct().Order(), mine.Select(m => m.Revision)));
        Assert.Equal(written.SelectMany(mine => mine).OrderBy(w => w.Revision).ThenBy(w => w.Key, StringComparer.Ordinal), seen.OrderBy(w => w.Revision).ThenBy(w => w.Key, StringComparer.Ordinal));
        Assert.Equal(seen.Select(s => s.Revision).Order(), seen.Select(s => s.Revision));
    }

    [Fact]
    public async Task OfManyAtOnceThatWantOneKeyOneGetsIt()
    {
        await using var store = await OpenAsync();
        const int rounds = 20, writers = 24;
        for (var round = 0; round < rounds; round++)
        {
            var results = await Task.WhenAll(Enumerable.Range(0, writers).Select(w => Task.Run(async () => await store.CommitAsync(new Transaction
            {
                Guards = [Guard.Absent($"wanted/{round}")],
                Puts = [Put($"wanted/{round}", $"{w}"), Put($"own/{round}/{w}", "")],
            }))));
            var winner = Array.FindIndex(results, result => result.Outcome == CommitOutcome.Committed);
            Assert.Single(results, result => result.Outcome == CommitOutcome.Committed);
            Assert.All(results.Where(result => result.Outcome != CommitOutcome.Committed), result => Assert.Equal((CommitOutcome.GuardFailed, $"wanted/{round}"), (result.Outcome, result.FailedKey)));
            Assert.Equal($"{winner}", Text(Assert.Single((await store.RangeAsync($"wanted/{round}")).Items, item => item.Key == $"wanted/{round}")));
            Assert.Equal($"own/{round}/{winner}", Assert.Single((await store.RangeAsync($"own/{round}/")).Items).Key);
        }
    }

    [Fact]
    public async Task AnEndedLeaseRefusesNoneButItsOwnOfManyAtOnce()
    {
        await using var store = await OpenAsync();
        var lease = await store.GrantAsync(TimeSpan.FromMinutes(5));
        await store.RevokeAsync(lease);
        var results = await Task.WhenAll(Enumerable.Range(0, 40).Select(w => Task.Run(async () =>
        {
            try
            {
                return (await store.CommitAsync(Puts(Put($"l/{w}", "", w % 5 == 0 ? lease : 0)))).Outcome.ToString();
            }
            catch (LeaseNotFoundException)
            {
                return "no lease";
            }
        })));
        Assert.Equal(Enumerable.Range(0, 40).Select(w => w % 5 == 0 ? "no lease" : "Committed"), results);
        Assert.Equal(32, (await store.RangeAsync("l/")).Items.Count);
    }

    [Fact]
    public async Task AnyRevisionSinceTheCompactionReadsAsItWas()
    {
        await using var store = await OpenAsync();
        var random = new Random(4711);
        var now = new SortedDictionary<string, string>(StringComparer.Ordinal);
        var (at, compacted) = (new Dictionary<long, string[]>(), 0L);
        for (var i = 0; i < 120; i++)
        {
            var keys = Enumerable.Range(0, random.Next(1, 4)).Select(_ => $"r/{random.Next(12)}").Distinct().ToList();
            var deleted = keys.Where(_ => random.Next(3) == 0).ToList();
            var revision = await Commit(store, new Transaction { Puts = [.. keys.Except(deleted).Select(key => Put(key, $"{i}"))], Deletes = deleted });
            foreach (var key in keys)
            {
                if (deleted.Contains(key))
                    now.Remove(key);
                else
                    now[key] = $"{i}";
            }
            at[revision] = [.. now.Select(pair => $"{pair.Key}={pair.Value}")];
            if (i % 40 == 39)
                await store.CompactAsync(compacted = at.Keys.Order().ElementAt(i - 15));
        }
        foreach (var (revision, expected) in at.Where(pair => pair.Key >= compacted))
            Assert.Equal(expected, (await store.RangeAsync("r/", atRevision: revision)).Items.Select(item => $"{item.Key}={Text(item)}"));
        Assert.Equal(at[at.Keys.Max()], (await store.RangeAsync("r/")).Items.Select(item => $"{item.Key}={Text(item)}"));
    }

    [Fact]
    public async Task TheEndOfALeaseDeletesItsKeysAtOneRevision()
    {
        await using var store = await OpenAsync();
        var ttl = TimeSpan.FromSeconds(5);
        var lease = await store.GrantAsync(ttl);
        var rev = await Commit(store, Puts(Put("l/1", "", lease), Put("l/2", "", lease), Put("l/3", "")));
        Assert.Equal(lease, (await store.RangeAsync("l/1")).Items[0].Lease);
        await store.RenewAsync(lease);
        var watching = Take(store, "l/", rev + 1, 1);
        await ExpireAsync(ttl);
        Assert.Equal(["l/1", "l/2"], Assert.Single(await watching).Changes.Select(c => c.Key).Order());
        await Assert.ThrowsAsync<LeaseNotFoundException>(async () => await store.RenewAsync(lease));
        await Assert.ThrowsAsync<LeaseNotFoundException>(async () => await store.CommitAsync(Puts(Put("l/4", "", lease))));
        Assert.Equal(["l/3"], (await store.RangeAsync("l/")).Items.Select(i => i.Key));
    }

    [Fact]
    public async Task RevokingALeaseSparesKeysThatWerePutAgainWithoutIt()
    {
        await using var store = await OpenAsync();
        var lease = await store.GrantAsync(TimeSpan.FromMinutes(5));
        await Commit(store, Puts(Put("l/1", "", lease), Put("l/2", "", lease)));
        await Commit(store, Puts(Put("l/2", "mine")));
        await store.RevokeAsync(lease);
        Assert.Equal(["l/2"], (await store.RangeAsync("l/")).Items.Select(i => i.Key));
        await Assert.ThrowsAsync<LeaseNotFoundException>(async () => await store.RevokeAsync(lease));
    }

    [Fact]
    public async Task HealthTellsRevisionsAndABackupIsNotEmpty()
    {
        await using var store = await OpenAsync();
        var rev = await Commit(store, Puts(Put("k", "1")));
        var health = await store.HealthAsync();
        Assert.True(health.Writable);
        Assert.Equal(rev, health.Revision);
        using var copy = new MemoryStream();
        await store.BackupAsync(copy);
        Assert.True(copy.Length > 0);
    }
}
