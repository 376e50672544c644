namespace OverlayNet.Dns.Table;

/// <summary>
/// Differences between two lists of keyed immutable objects. The common head and tail are skipped at the cost of a
/// reference comparison each; only what lies between is indexed.
/// </summary>
internal static class ListDiff
{
    /// <param name="before">The list applied last.</param>
    /// <param name="after">The list to apply.</param>
    /// <param name="key">Identity of an item; of items with an equal key the last one counts.</param>
    /// <param name="same">Whether two items of one key say the same.</param>
    /// <param name="change">Called with (old, null) for removals, (null, new) for additions, (old, new) for changes.</param>
    public static void Run<T>(
        IReadOnlyList<T> before, IReadOnlyList<T> after, Func<T, string> key, Func<T, T, bool> same, Action<T?, T?> change)
        where T : class
    {
        if (ReferenceEquals(before, after))
            return;
        var head = 0;
        var shorter = Math.Min(before.Count, after.Count);
        for (; head < shorter; head++)
        {
            var (a, b) = (before[head], after[head]);
            if (ReferenceEquals(a, b))
                continue;
            if (key(a) != key(b))
                break;
            if (!same(a, b))
                change(a, b);
        }

        var (endBefore, endAfter) = (before.Count, after.Count);
        for (; endBefore > head && endAfter > head; endBefore--, endAfter--)
        {
            var (a, b) = (before[endBefore - 1], after[endAfter - 1]);
            if (ReferenceEquals(a, b))
                continue;
            if (key(a) != key(b))
                break;
            if (!same(a, b))
                change(a, b);
        }

        var old = new Dictionary<string, T>(endBefore - head);
        for (var i = head; i < endBefore; i++)
            old[key(before[i])] = before[i];
        for (var i = head; i < endAfter; i++)
        {
            var b = after[i];
            if (!old.Remove(key(b), out var a))
                change(null, b);
            else if (!ReferenceEquals(a, b) && !same(a, b))
                change(a, b);
        }

        foreach (var a in old.Values)
            change(a, null);
    }

    /// <summary>Element-wise equality of short lists.</summary>
    public static bool SameItems<T>(IReadOnlyList<T> a, IReadOnlyList<T> b, Func<T, T, bool> same)
    {
        if (ReferenceEquals(a, b))
            return true;
        if (a.Count != b.Count)
            return false;
        for (var i = 0; i < a.Count; i++)
        {
            if (!same(a[i], b[i]))
                return false;
        }

        return true;
    }
}
