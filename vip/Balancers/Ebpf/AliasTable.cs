namespace OverlayNet.Vip.Balancers.Ebpf;

/// <summary>
/// Weighted choice in constant time with one slot for each candidate, whatever the weights (Walker 1977, as set up by
/// Vose 1991): a slot is chosen evenly, and a fraction decides between its two candidates. Pure.
/// </summary>
internal static class AliasTable
{
    /// <param name="backends">Index and weight; those of weight 0 are left out.</param>
    /// <returns>The slots and whether every candidate has the same weight.</returns>
    internal static (Slot[] Slots, bool Even) Build(IReadOnlyList<(uint Backend, int Weight)> backends)
    {
        var chosen = backends.Where(backend => backend.Weight > 0).ToArray();
        if (chosen.Length == 0)
            return ([], true);
        if (chosen.All(backend => backend.Weight == chosen[0].Weight))
            return ([.. chosen.Select(backend => new Slot(uint.MaxValue, backend.Backend, backend.Backend))], true);

        // In units of 1/total: a slot holds `total`, candidate i brings weight * count of it. All integers, so exact.
        var count = chosen.Length;
        var total = chosen.Sum(backend => (long)backend.Weight);
        var rest = chosen.Select(backend => backend.Weight * (long)count).ToArray();
        var below = new Stack<int>(Enumerable.Range(0, count).Where(i => rest[i] < total));
        var above = new Stack<int>(Enumerable.Range(0, count).Where(i => rest[i] >= total));
        var slots = new Slot[count];
        while (below.TryPop(out var small))
        {
            var large = above.Peek();
            slots[small] = new Slot((uint)(((UInt128)rest[small] << 32) / (UInt128)total), chosen[small].Backend, chosen[large].Backend);
            rest[large] -= total - rest[small];
            if (rest[large] < total)
                below.Push(above.Pop());
        }
        foreach (var full in above)
            slots[full] = new Slot(uint.MaxValue, chosen[full].Backend, chosen[full].Backend);
        return (slots, false);
    }
}
