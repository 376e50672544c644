using System.Collections.Concurrent;
using System.Diagnostics;
using System.Globalization;
using System.Text;
using OverlayNet.Daemon.Registry.Store;
using OverlayNet.Daemon.Registry.Store.Etcd;

namespace OverlayNet.ClusterTests.Managers;

/// <summary>Three real members, clients at each, and faults: what clients saw is judged.</summary>
public sealed class EtcdFaultTests
{
    private const int Keys = 3;

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    public Task Histories_under_faults_are_linearizable_and_watches_have_no_gap(int seed) => RunAsync(seed, TimeSpan.FromSeconds(8));

    [Fact]
    [Trait("Category", "Soak")]
    public async Task Registry_soak_store_faults()
    {
        for (var seed = 1; seed <= 60; seed++)
            await RunAsync(seed, TimeSpan.FromSeconds(10));
    }

    private static async Task RunAsync(int seed, TimeSpan time)
    {
        var random = new Random(seed);
        using var etcd = new EtcdProcesses(3);
        await using var creator = await EtcdStore.CreateAsync(etcd.Options(), new StoreIdentity("faults", 1), []);
        for (var key = 0; key < Keys; key++)
            await creator.CommitAsync(new Transaction { Puts = [new Put(Name(key), Text(0))] });
        var start = (await creator.RangeAsync("")).Revision;
        var stores = new List<EtcdStore>();
        for (var i = 0; i < 3; i++)
            stores.Add((await EtcdStore.OpenAsync(etcd.Options(i)))!);
        using var stop = new CancellationTokenSource();
        using var endWatch = new CancellationTokenSource();
        var histories = Enumerable.Range(0, Keys).Select(_ => new ConcurrentQueue<Operation>()).ToArray();
        var acknowledged = new ConcurrentDictionary<(long Revision, int Key), int>();
        var watched = new ConcurrentQueue<WatchBatch>();
        var watching = Task.Run(() => WatchAsync(stores[1], start + 1, watched, endWatch.Token));
        var values = 0;
        var clients = Enumerable.Range(0, 6).Select(c => Task.Run(() => ClientAsync(
            stores[c % 3], new Random((seed * 100) + c), histories, acknowledged, () => Interlocked.Increment(ref values), stop.Token))).ToList();

        // One member at a time is struck: a majority is left, and everything must go on.
        var watch = Stopwatch.StartNew();
        var strikes = new List<string>();
        while (watch.Elapsed < time)
        {
            await Task.Delay(random.Next(400, 1200));
            var leader = etcd.Leader();
            var member = leader >= 0 && random.Next(3) > 0 ? leader : random.Next(3);
            if (random.Next(2) == 0)
            {
                strikes.Add($"{watch.ElapsedMilliseconds} ms: kill {member}");
                etcd.Kill(member);
                await Task.Delay(random.Next(500, 2500));
                etcd.Start(member);
            }
            else
            {
                strikes.Add($"{watch.ElapsedMilliseconds} ms: freeze {member}");
                etcd.Freeze(member);
                await Task.Delay(random.Next(500, 2500));
                etcd.Thaw(member);
            }
            // The next blow falls when the one before is healed: two at once would be a lost majority.
            await UntilWritableAsync(creator);
        }
        await stop.CancelAsync();
        await Task.WhenAll(clients);
        var last = await LastAsync(creator);
        Harness.Wait.Until("the watch has reached the last revision", () => watched.LastOrDefault()?.Revision >= last, TimeSpan.FromSeconds(30));
        await endWatch.CancelAsync();
        await watching;

        var said = $"seed {seed}: {string.Join("; ", strikes)}";
        for (var key = 0; key < Keys; key++)
        {
            Assert.True(histories[key].Count(o => o.Ok) > 5, $"{said}: key {key} saw {histories[key].Count} operations only");
            Assert.True(Linearizability.Holds([.. histories[key]], 0), $"{said}: key {key} is not linearizable:\n{string.Join('\n', histories[key].OrderBy(o => o.Invoked))}");
        }
        var revisions = watched.Select(b => b.Revision).ToList();
        Assert.True(revisions.SequenceEqual(revisions.Order().Distinct()), $"{said}: revisions out of order or twice");
        foreach (var ((revision, key), value) in acknowledged)
        {
            var change = watched.FirstOrDefault(b => b.Revision == revision)?.Changes.SingleOrDefault(c => c.Key == Name(key));
            Assert.True(change?.Value is not null && Number(change.Value.Value) == value, $"{said}: the watch lacks revision {revision} ({Name(key)} = {value})");
        }
        foreach (var store in stores)
            await store.DisposeAsync();
    }

    private static async Task ClientAsync(
        EtcdStore store, Random random, ConcurrentQueue<Operation>[] histories, ConcurrentDictionary<(long Revision, int Key), int> acknowledged, Func<int> next, CancellationToken stop)
    {
        while (!stop.IsCancellationRequested)
        {
            var key = random.Next(Keys);
            // Paced: the search for an order grows with what is open at the same time.
            await Task.Delay(random.Next(20, 120), CancellationToken.None);
            var invoked = Stopwatch.GetTimestamp();
            try
            {
                var item = (await store.RangeAsync(Name(key), limit: 1)).Items[0];
                var before = Number(item.Value);
                histories[key].Enqueue(new Operation(invoked, Stopwatch.GetTimestamp(), null, before, true));
                if (random.Next(2) == 0)
                    continue;
                var value = next();
                invoked = Stopwatch.GetTimestamp();
                CommitResult result;
                try
                {
                    result = await store.CommitAsync(new Transaction { Guards = [Guard.Unchanged(Name(key), item.ModRevision)], Puts = [new Put(Name(key), Text(value))] });
                }
                catch (RegistryStoreException)
                {
                    // Said to be certainly not done.
                    continue;
                }
                var returned = result.Outcome == CommitOutcome.Unknown ? long.MaxValue : Stopwatch.GetTimestamp();
                histories[key].Enqueue(new Operation(invoked, returned, before, value, result.Outcome != CommitOutcome.GuardFailed));
                if (result.Outcome == CommitOutcome.Committed)
                    acknowledged[(result.Revision, key)] = value;
            }
            catch (RegistryStoreException)
            {
                // A read that failed says nothing.
            }
        }
    }

    private static async Task WatchAsync(EtcdStore store, long from, ConcurrentQueue<WatchBatch> watched, CancellationToken stop)
    {
        try
        {
            await foreach (var batch in store.WatchAsync("", from, stop))
                watched.Enqueue(batch);
        }
        catch (OperationCanceledException)
        {
        }
    }

    private static async Task UntilWritableAsync(EtcdStore store)
    {
        for (var attempt = 0; attempt < 100; attempt++)
        {
            try
            {
                await store.RevisionAsync();
                return;
            }
            catch (RegistryStoreException)
            {
                await Task.Delay(50);
            }
        }
        Assert.Fail("no majority came back");
    }

    private static async Task<long> LastAsync(EtcdStore store) => (await store.RangeAsync("")).Items.Max(i => i.ModRevision);

    private static string Name(int key) => $"key/{key}";

    private static byte[] Text(int value) => Encoding.ASCII.GetBytes(value.ToString(CultureInfo.InvariantCulture));

    private static int Number(ReadOnlyMemory<byte> value) => int.Parse(value.Span, CultureInfo.InvariantCulture);
}
