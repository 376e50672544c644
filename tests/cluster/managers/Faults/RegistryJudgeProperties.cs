using FsCheck;
using FsCheck.Fluent;

namespace OverlayNet.ClusterTests.Managers.Faults;

/// <summary>The judge is judged: it has nothing to say of histories of a registry that works, and finds each kind of damage done to one.</summary>
public sealed class RegistryJudgeProperties
{
    private static readonly Config Cases = Config.QuickThrowOnFailure.WithMaxTest(300).WithReplay(new Replay(new Rnd(20261126, 5), null));

    private static void ForAll(Func<Random, RegistryHistory, bool> property) =>
        Check.One(Cases, Prop.ForAll(Gen.Choose(0, int.MaxValue - 1).ToArbitrary(), seed => property(new Random(seed), Simulate(new Random(seed)))));

    [Fact]
    public void A_registry_that_works_is_not_complained_about() => ForAll((_, history) =>
    {
        Assert.Empty(RegistryJudge.Judge(history));
        return true;
    });

    [Fact]
    public void A_lost_write_is_found() => ForAll((random, history) =>
    {
        if (Pick(random, history.Final) is not { } lost || !history.Writes.Any(w => w.Key == lost.Key && w.Acknowledged))
            return true;
        return Finds(history with { Final = [.. history.Final.Where(o => o != lost)] }, "is gone in the end") || history.Writes.Any(w => w.Key == lost.Key && w.Deletes);
    });

    [Fact]
    public void A_stale_read_called_fresh_is_found() => ForAll((random, history) =>
    {
        var end = history.Writes.Where(w => w.Acknowledged).Select(w => w.Returned).DefaultIfEmpty(0).Max() + 10;
        if (Pick(random, [.. history.Writes.Where(w => w is { Acknowledged: true, Version: > 0 })]) is not { } write)
            return true;
        var stale = new ClientRead(write.Key, write.Version - 1, true, end, end + 1, "x");
        return Finds(history with { Reads = [.. history.Reads, stale] }, "called it fresh")
            && RegistryJudge.Judge(history with { Reads = [.. history.Reads, stale with { Fresh = false }] }).Count == 0;
    });

    [Fact]
    public void A_gap_in_a_watch_is_found() => ForAll((random, history) =>
    {
        // Not the last of its watcher: what is still to come is no gap. Nor the only word of a revision.
        var inner = history.Lines.Where(l => !l.IsSnapshot && l.Objects.Count > 0
            && history.Lines.Any(o => o.Watcher == l.Watcher && !o.IsSnapshot && o.Revision > l.Revision)
            && history.Lines.Any(o => o.Watcher == l.Watcher && o.IsSnapshot && o.Revision < l.Revision)
            && !history.Lines.Any(o => o.Watcher == l.Watcher && o.IsSnapshot && o.Revision > l.Revision)).ToList();
        return Pick(random, inner) is not { } lost || Finds(history with { Lines = [.. history.Lines.Where(l => l != lost)] }, "watcher");
    });

    [Fact]
    public void A_reordered_watch_is_found() => ForAll((random, history) =>
    {
        var lines = history.Lines.ToList();
        var places = Enumerable.Range(0, Math.Max(0, lines.Count - 1)).Where(i => !lines[i].IsSnapshot && !lines[i + 1].IsSnapshot && lines[i].Watcher == lines[i + 1].Watcher).ToList();
        if (places.Count == 0)
            return true;
        var at = places[random.Next(places.Count)];
        (lines[at], lines[at + 1]) = (lines[at + 1], lines[at]);
        return Finds(history with { Lines = lines }, "was told of revision");
    });

    [Fact]
    public void A_resurrection_is_found() => ForAll((random, history) =>
    {
        if (Pick(random, [.. history.Lines.Where(l => !l.IsSnapshot && l.Objects.Any(o => o.Deleted))]) is not { } line)
            return true;
        var dead = line.Objects.First(o => o.Deleted);
        var last = history.Lines.Max(l => l.Revision);
        return Finds(history with { Lines = [.. history.Lines, new WatchLine(line.Watcher, last + 1, false, [new SeenObject(dead.Key, 0, null)])] }, "is back");
    });

    [Fact]
    public void An_address_in_two_hands_is_found() => ForAll((random, history) =>
    {
        if (history.Final.FirstOrDefault(o => o.Address is not null) is not { } owner)
            return true;
        var last = history.Lines.Max(l => l.Revision);
        var thief = new SeenObject("thief", 0, owner.Address);
        return Finds(history with
        {
            Writes = [.. history.Writes, new ClientWrite("thief", 0, false, owner.Address, 0, long.MaxValue, 0)],
            Lines = [.. history.Lines, new WatchLine(history.Lines[0].Watcher, last + 1, false, [thief])],
            Final = [.. history.Final, thief],
        }, "while");
    });

    [Fact]
    public void A_watcher_thrown_back_is_found() => ForAll((_, history) =>
    {
        var last = history.Lines.LastOrDefault(l => l is { IsSnapshot: false, Revision: > 3 });
        return last is null || Finds(history with { Lines = [.. history.Lines.Where(l => l.Watcher == last.Watcher), new WatchLine(last.Watcher, 1, true, [])] }, "thrown back");
    });

    private static bool Finds(RegistryHistory history, string what) => RegistryJudge.Judge(history).Any(c => c.Contains(what, StringComparison.Ordinal));

    private static T? Pick<T>(Random random, IReadOnlyList<T> from) where T : class => from.Count == 0 ? null : from[random.Next(from.Count)];

    /// <summary>A registry that does everything right, seen by writers (some of whose answers get lost), readers (some of them stale) and watchers (some of whom begin anew).</summary>
    private static RegistryHistory Simulate(Random random)
    {
        var time = 0L;
        var revision = 0L;
        var state = new SortedDictionary<string, SeenObject>(StringComparer.Ordinal);
        var past = new List<(long Revision, Dictionary<string, SeenObject> State)>();
        var writes = new List<ClientWrite>();
        var reads = new List<ClientRead>();
        var lines = Enumerable.Range(0, 2).Select(_ => new List<WatchLine>()).ToList();
        var live = new List<(string Key, int Version)>();
        var keys = 0;
        for (var w = 0; w < lines.Count; w++)
            lines[w].Add(new WatchLine($"w{w}", 0, true, []));
        for (var step = 0; step < 40; step++)
        {
            var invoked = time += random.Next(1, 4);
            if (random.Next(3) == 0 && live.Count > 0)
            {
                var (key, _) = live[random.Next(live.Count)];
                var stale = random.Next(4) == 0 && past.Count > 0;
                var from = stale ? past[random.Next(past.Count)].State : new Dictionary<string, SeenObject>(state);
                reads.Add(new ClientRead(key, from.TryGetValue(key, out var seen) ? seen.Version : null, !stale, invoked, time += 1, "r"));
                continue;
            }
            var at = live.Count > 0 && random.Next(3) > 0 ? random.Next(live.Count) : -1;
            var (name, version) = at < 0 ? ($"k{keys++}", 0) : (live[at].Key, live[at].Version + 1);
            var deletes = version > 0 && random.Next(3) == 0;
            var lost = random.Next(8) == 0;
            var done = !lost || random.Next(2) == 0;
            var address = state.TryGetValue(name, out var had) ? had.Address : Enumerable.Range(1, 99).Select(i => $"10.0.0.{i}").First(a => state.Values.All(o => o.Address != a));
            if (done)
            {
                revision += random.Next(1, 3);
                if (deletes)
                    state.Remove(name);
                else
                    state[name] = new SeenObject(name, version, address);
                past.Add((revision, new Dictionary<string, SeenObject>(state)));
                for (var w = 0; w < lines.Count; w++)
                {
                    if (random.Next(12) == 0)
                        lines[w].Add(new WatchLine($"w{w}", revision, true, [.. state.Values]));
                    else
                        lines[w].Add(new WatchLine($"w{w}", revision, false, [deletes ? new SeenObject(name, 0, null, Deleted: true) : state[name]]));
                }
            }
            time += 1;
            writes.Add(new ClientWrite(name, version, deletes, address, invoked, lost ? long.MaxValue : time, lost ? 0 : revision));
            if (at >= 0)
                live.RemoveAt(at);
            if (!lost && !deletes)
                live.Add((name, version));
        }
        // A snapshot is judged by what watchers were told: nobody may have skipped a change that only a snapshot showed.
        foreach (var missing in past.Select(p => p.Revision).Where(r => lines.All(l => !l.Any(x => x.Revision == r && !x.IsSnapshot))).ToList())
        {
            var index = lines[0].FindIndex(l => l.Revision == missing);
            var before = past.LastOrDefault(p => p.Revision < missing).State ?? [];
            var after = past.First(p => p.Revision == missing).State;
            var gone = before.Keys.Except(after.Keys).Select(k => new SeenObject(k, 0, null, Deleted: true));
            lines[0][index] = new WatchLine("w0", missing, false, [.. gone, .. after.Values.Where(o => !before.TryGetValue(o.Key, out var b) || b != o)]);
        }
        return new RegistryHistory(writes, reads, [.. lines.SelectMany(l => l)], [.. state.Values]);
    }
}
