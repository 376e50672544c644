using System.Globalization;

namespace OverlayNet.ClusterTests.Managers.Faults;

/// <summary>One write of a key's only writer. Versions of a key count from 0; a key is not used again after its deletion, or after a write whose result is unknown.</summary>
/// <param name="Address">The address that was given out with it; null: none is known.</param>
/// <param name="Invoked">Before the request was sent, in any unit that all times of a history share.</param>
/// <param name="Returned">After the answer; <see cref="long.MaxValue"/>: nobody knows whether it was done.</param>
/// <param name="Revision">Of the answer: the write can be seen at it; 0: no answer.</param>
public sealed record ClientWrite(string Key, int Version, bool Deletes, string? Address, long Invoked, long Returned, long Revision)
{
    public bool Acknowledged => Returned != long.MaxValue;
}

/// <param name="Version">Null: the key was not there.</param>
/// <param name="Fresh">The answer said that it has everything acknowledged before the question.</param>
public sealed record ClientRead(string Key, int? Version, bool Fresh, long Invoked, long Returned, string By);

/// <param name="Deleted">The version is not known then.</param>
public sealed record SeenObject(string Key, int Version, string? Address, bool Deleted = false);

/// <summary>One line of a watcher: what changed at a revision, or all there was at it.</summary>
public sealed record WatchLine(string Watcher, long Revision, bool IsSnapshot, IReadOnlyList<SeenObject> Objects);

/// <summary>What clients of a registry saw from its (empty) beginning to its end.</summary>
/// <param name="Final">What every manager says at the end, when all faults are over.</param>
public sealed record RegistryHistory(
    IReadOnlyList<ClientWrite> Writes, IReadOnlyList<ClientRead> Reads, IReadOnlyList<WatchLine> Lines, IReadOnlyList<SeenObject> Final);

/// <summary>Judges a history: no acknowledged write lost, no stale read called fresh, no gap, reorder or resurrection in a watch, no address in two hands.</summary>
public static class RegistryJudge
{
    /// <returns>What is wrong with it, a sentence each; empty: nothing.</returns>
    public static IReadOnlyList<string> Judge(RegistryHistory history)
    {
        var complaints = new List<string>();
        var writes = history.Writes.GroupBy(w => w.Key).ToDictionary(g => g.Key, g => g.OrderBy(w => w.Version).ToList());
        var watchers = history.Lines.GroupBy(l => l.Watcher).ToDictionary(g => g.Key, g => g.ToList());
        var ranges = watchers.ToDictionary(w => w.Key, w => Ranges(w.Value));
        var log = Merge(history.Lines, complaints);
        var learned = Learn(log, history.Lines, [.. ranges.Values.SelectMany(r => r)]);
        Kept(writes, history.Final, complaints);
        foreach (var reads in history.Reads.GroupBy(r => r.Key))
            Reads(reads.Key, writes.GetValueOrDefault(reads.Key) ?? [], [.. reads.OrderBy(r => r.Invoked)], complaints);
        Order(log, writes, complaints);
        foreach (var (watcher, lines) in watchers)
            Watch(watcher, lines, ranges[watcher], log, learned, history.Writes, complaints);
        Addresses(log, history.Final, complaints);
        return complaints;
    }

    /// <summary>What all watchers together say happened at each revision; they must not disagree.</summary>
    private static SortedDictionary<long, IReadOnlyList<SeenObject>> Merge(IReadOnlyList<WatchLine> lines, List<string> complaints)
    {
        var log = new SortedDictionary<long, IReadOnlyList<SeenObject>>();
        foreach (var line in lines.Where(l => !l.IsSnapshot && l.Objects.Count > 0))
        {
            if (!log.TryGetValue(line.Revision, out var known))
                log[line.Revision] = line.Objects;
            else if (!known.OrderBy(o => o.Key).SequenceEqual(line.Objects.OrderBy(o => o.Key)))
                complaints.Add($"two watchers were told different things of revision {Text(line.Revision)}");
        }
        return log;
    }

    /// <summary>Half-open ranges (after, through] in which every revision has to have come to a watcher as a line.</summary>
    private static List<(long After, long Through)> Ranges(List<WatchLine> lines)
    {
        var ranges = new List<(long After, long Through)>();
        foreach (var line in lines)
        {
            if (line.IsSnapshot || ranges.Count == 0)
                ranges.Add(line.IsSnapshot ? (line.Revision, line.Revision) : (line.Revision - 1, line.Revision));
            else
                ranges[^1] = (ranges[^1].After, Math.Max(ranges[^1].Through, line.Revision));
        }
        return ranges;
    }

    /// <summary>
    /// What happened where no watcher had a line is known from the next snapshot alone, and goes into the log at its revision. It must
    /// fit what was before all the same: <see cref="Order"/> sees to that.
    /// </summary>
    private static HashSet<long> Learn(SortedDictionary<long, IReadOnlyList<SeenObject>> log, IReadOnlyList<WatchLine> lines, List<(long After, long Through)> ranges)
    {
        var learned = new HashSet<long>();
        var known = lines.Where(l => l.IsSnapshot).Select(l => l.Revision).DefaultIfEmpty(0).Min();
        foreach (var snapshot in lines.Where(l => l.IsSnapshot).OrderBy(l => l.Revision))
        {
            if (IsCovered(known, snapshot.Revision, ranges))
                continue;
            var before = StateAt(log, snapshot.Revision);
            var now = snapshot.Objects.ToDictionary(o => o.Key);
            List<SeenObject> changes =
            [
                .. before.Keys.Where(key => !now.ContainsKey(key)).Select(key => new SeenObject(key, 0, null, Deleted: true)),
                .. now.Values.Where(o => before.GetValueOrDefault(o.Key) != o),
            ];
            if (changes.Count > 0)
            {
                log[snapshot.Revision] = log.TryGetValue(snapshot.Revision, out var there) ? [.. there, .. changes] : changes;
                learned.Add(snapshot.Revision);
            }
            known = snapshot.Revision;
        }
        return learned;
    }

    private static bool IsCovered(long after, long through, List<(long After, long Through)> ranges)
    {
        foreach (var range in ranges.OrderBy(r => r.After))
        {
            if (range.After <= after && range.Through > after)
                after = range.Through;
        }
        return after >= through;
    }

    private static void Kept(Dictionary<string, List<ClientWrite>> writes, IReadOnlyList<SeenObject> final, List<string> complaints)
    {
        var left = final.ToDictionary(o => o.Key);
        foreach (var (key, history) in writes)
        {
            var acknowledged = history.LastOrDefault(w => w.Acknowledged);
            // Unknown results come last: their writer has left the key alone since.
            var possible = history.Where(w => acknowledged is null || w.Version >= acknowledged.Version).ToList();
            if (left.TryGetValue(key, out var found))
            {
                if (!possible.Any(w => !w.Deletes && w.Version == found.Version))
                    complaints.Add($"{key} is at version {Text(found.Version)} in the end, but {Say(acknowledged)} was acknowledged");
            }
            else if (acknowledged is not null && !possible.Any(w => w.Deletes))
            {
                complaints.Add($"{key} is gone in the end, but {Say(acknowledged)} was acknowledged");
            }
        }
        foreach (var found in final.Where(o => !writes.ContainsKey(o.Key)))
            complaints.Add($"{found.Key} is there in the end, and nobody wrote it");
    }

    /// <summary>With one writer a key, a read is right when it lies between what was certainly there before it and what may have been there after it.</summary>
    private static void Reads(string key, List<ClientWrite> writes, List<ClientRead> reads, List<string> complaints)
    {
        var fresh = new List<(long Returned, int Version)>();
        foreach (var read in reads)
        {
            var begun = writes.Where(w => w.Invoked < read.Returned).ToList();
            var deletion = begun.FirstOrDefault(w => w.Deletes);
            if (read.Version is { } seen && !begun.Any(w => !w.Deletes && w.Version == seen))
            {
                complaints.Add($"{read.By} read {key} at version {Text(seen)}, which had not been written");
                continue;
            }
            if (!read.Fresh)
                continue;
            var least = Math.Max(
                writes.Where(w => w.Returned < read.Invoked).Select(w => w.Version).DefaultIfEmpty(-1).Max(),
                fresh.Where(f => f.Returned < read.Invoked).Select(f => f.Version).DefaultIfEmpty(-1).Max());
            var version = read.Version ?? (deletion is not null ? deletion.Version : -1);
            // Absent may also mean: not yet there.
            if (read.Version is null && deletion is not null && least == -1)
                version = -1;
            if (version < least)
                complaints.Add($"{read.By} read {key} at {(read.Version is { } v ? $"version {Text(v)}" : "nothing")} and called it fresh, but version {Text(least)} was certain before (asked at {Text(read.Invoked)}, answered at {Text(read.Returned)}; {string.Join(", ", writes.Select(w => $"{w.Version}{(w.Deletes ? "d" : "")}: {Text(w.Invoked)}-{(w.Acknowledged ? Text(w.Returned) : "")}"))})");
            else
                fresh.Add((read.Returned, version));
        }
    }

    private static void Order(SortedDictionary<long, IReadOnlyList<SeenObject>> log, Dictionary<string, List<ClientWrite>> writes, List<string> complaints)
    {
        var last = new Dictionary<string, SeenObject>();
        foreach (var (revision, objects) in log)
        {
            foreach (var seen in objects)
            {
                // The same version again is a change of somebody else's making, such as a state.
                if (last.TryGetValue(seen.Key, out var before) && before.Deleted)
                    complaints.Add($"revision {Text(revision)}: {seen.Key} had been deleted, and is back");
                else if (before is not null && !seen.Deleted && seen.Version < before.Version)
                    complaints.Add($"revision {Text(revision)}: {seen.Key} goes from version {Text(before.Version)} to {Text(seen.Version)}");
                if (!seen.Deleted && !(writes.GetValueOrDefault(seen.Key)?.Any(w => w.Version == seen.Version && !w.Deletes) ?? false))
                    complaints.Add($"revision {Text(revision)}: {seen.Key} at version {Text(seen.Version)}, which nobody wrote");
                last[seen.Key] = seen;
            }
        }
    }

    private static void Watch(
        string watcher, List<WatchLine> lines, List<(long After, long Through)> ranges, SortedDictionary<long, IReadOnlyList<SeenObject>> log, HashSet<long> learned,
        IReadOnlyList<ClientWrite> writes, List<string> complaints)
    {
        var at = -1L;
        var heard = new HashSet<long>();
        foreach (var line in lines)
        {
            if (line.IsSnapshot)
            {
                if (line.Revision < at)
                    complaints.Add($"watcher {watcher} had revision {Text(at)} and was thrown back to a snapshot of {Text(line.Revision)}");
                var expected = StateAt(log, line.Revision);
                foreach (var difference in Differences(expected, line.Objects))
                    complaints.Add($"watcher {watcher}: the snapshot of revision {Text(line.Revision)} {difference}");
                at = line.Revision;
                continue;
            }
            if (line.Revision <= at)
                complaints.Add($"watcher {watcher} was told of revision {Text(line.Revision)} after {Text(at)}");
            at = Math.Max(at, line.Revision);
            heard.Add(line.Revision);
        }
        bool Covered(long revision) => ranges.Any(r => r.After < revision && revision <= r.Through);
        foreach (var revision in log.Keys.Where(r => Covered(r) && !heard.Contains(r) && !learned.Contains(r)))
            complaints.Add($"watcher {watcher} was not told of revision {Text(revision)}");
        foreach (var write in writes.Where(w => w.Acknowledged && w.Revision > 0 && Covered(w.Revision)))
        {
            // Not always at that very revision: a manager that was not told what became of its commit answers with the revision at which it found it.
            if (!log.TakeWhile(entry => entry.Key <= write.Revision).Any(entry => entry.Value.Any(o => o.Key == write.Key && (write.Deletes ? o.Deleted : !o.Deleted && o.Version == write.Version))))
                complaints.Add($"watcher {watcher} passed revision {Text(write.Revision)} without {Say(write)}");
        }
    }

    private static Dictionary<string, SeenObject> StateAt(SortedDictionary<long, IReadOnlyList<SeenObject>> log, long revision)
    {
        var state = new Dictionary<string, SeenObject>();
        foreach (var (_, objects) in log.TakeWhile(entry => entry.Key <= revision))
        {
            foreach (var seen in objects)
            {
                if (seen.Deleted)
                    state.Remove(seen.Key);
                else
                    state[seen.Key] = seen;
            }
        }
        return state;
    }

    private static IEnumerable<string> Differences(Dictionary<string, SeenObject> expected, IReadOnlyList<SeenObject> found)
    {
        var keys = found.ToDictionary(o => o.Key);
        foreach (var (key, was) in expected)
        {
            if (!keys.TryGetValue(key, out var now))
                yield return $"lacks {key}";
            else if (now != was)
                yield return $"has {key} at version {Text(now.Version)}, not {Text(was.Version)}";
        }
        foreach (var key in keys.Keys.Where(key => !expected.ContainsKey(key)))
            yield return $"has {key}, which is not there";
    }

    private static void Addresses(SortedDictionary<long, IReadOnlyList<SeenObject>> log, IReadOnlyList<SeenObject> final, List<string> complaints)
    {
        var owners = new Dictionary<string, string>();
        var addresses = new Dictionary<string, string>();
        foreach (var (revision, objects) in log)
        {
            foreach (var seen in objects.OrderByDescending(o => o.Deleted))
            {
                if (addresses.Remove(seen.Key, out var old) && owners.GetValueOrDefault(old) == seen.Key)
                    owners.Remove(old);
                if (seen.Deleted || seen.Address is null)
                    continue;
                if (owners.TryGetValue(seen.Address, out var other))
                    complaints.Add($"revision {Text(revision)}: {seen.Address} is given to {seen.Key} while {other} has it");
                owners[seen.Address] = seen.Key;
                addresses[seen.Key] = seen.Address;
            }
        }
        foreach (var twice in final.Where(o => o.Address is not null).GroupBy(o => o.Address).Where(g => g.Count() > 1))
            complaints.Add($"in the end {twice.Key} belongs to {string.Join(" and ", twice.Select(o => o.Key))}");
    }

    private static string Say(ClientWrite? write) => write is null ? "nothing" : write.Deletes ? $"the deletion of {write.Key}" : $"{write.Key} at version {Text(write.Version)}";

    private static string Text(long number) => number.ToString(CultureInfo.InvariantCulture);
}
