using OverlayNet.Kernel.Netlink;

namespace OverlayNet.Vip.Balancers.Ipvs;

/// <summary>
/// A table of ours whose rules never change and whose sets hold all that does. The comment names the rules, so that a
/// table of another version, or for other addresses, is replaced in one transaction and one of ours is adopted.
/// </summary>
internal sealed record NftLayout(
    NfTable Table, string Comment, IReadOnlyList<NfSet> Sets, IReadOnlyList<NfChain> Chains, IReadOnlyList<(string Chain, NfExpressions Expressions)> Rules)
{
    private const int Tries = 5;

    /// <summary>The table is there, whatever is in it.</summary>
    internal bool Exists(NfTables nft) => nft.Tables(Table.Family).Any(there => there.Table == Table);

    /// <summary>The elements of the table in the kernel; null when it is missing or not this one.</summary>
    internal HashSet<NftElement>? Read(NfTables nft)
    {
        if (!nft.Tables(Table.Family).Any(there => there.Table == Table && there.Comment == Comment)
            || nft.Chains(Table).Count != Chains.Count
            || nft.Rules(Table).Count != Rules.Count)
            return null;
        var sets = nft.Sets(Table).Select(set => set.Set.Name).ToHashSet();
        if (!sets.SetEquals(Sets.Select(set => set.Name)))
            return null;
        return [.. sets.SelectMany(set => nft.Elements(Table, set), (set, element) => NftElement.Of(set, element.Key, element.Data))];
    }

    /// <summary>Makes the table hold what <paramref name="decide"/> wants, given what it holds; replaces it as a whole when it is not this one.</summary>
    /// <param name="decide">From the elements in the kernel (null: the table is missing or not this one) to those wanted.</param>
    /// <returns>The elements added and deleted, and whether the table itself was made.</returns>
    internal (IReadOnlyList<NftElement> Added, IReadOnlyList<NftElement> Deleted, bool Made) Reconcile(
        NfTables nft, Func<HashSet<NftElement>?, IReadOnlyCollection<NftElement>> decide, bool write)
    {
        for (var attempt = 1; ; attempt++)
        {
            var generation = nft.Generation();
            var there = Read(nft);
            var wanted = decide(there).ToHashSet();
            List<NftElement> added = [.. wanted.Where(element => there?.Contains(element) != true)];
            List<NftElement> deleted = there is null ? [] : [.. there.Where(element => !wanted.Contains(element))];
            if (!write || added.Count + deleted.Count == 0 && there is not null || Commit(nft, generation, there is null, added, deleted))
                return (added, deleted, there is null);
            if (attempt == Tries)
                throw new IOException($"{Table} could not be changed: somebody else changes the rule set all the time");
        }
    }

    /// <summary>Deletes the table if it is there.</summary>
    internal void Remove(NfTables nft)
    {
        var batch = new NfTablesBatch();
        try
        {
            batch.RemoveTable(Table);
            nft.Commit(ref batch);
        }
        finally
        {
            batch.Dispose();
        }
    }

    private bool Commit(NfTables nft, uint generation, bool make, List<NftElement> added, List<NftElement> deleted)
    {
        var batch = new NfTablesBatch();
        try
        {
            if (make)
            {
                batch.RemoveTable(Table);
                batch.AddTable(Table, Comment);
                foreach (var set in Sets)
                    batch.AddSet(Table, set);
                foreach (var chain in Chains)
                    batch.AddChain(Table, chain);
                foreach (var (chain, expressions) in Rules)
                    batch.AddRule(Table, chain, expressions);
            }
            // Deleting first: an element whose data changed has the same key.
            foreach (var element in deleted)
                batch.DeleteElement(Table, element.Set, Convert.FromHexString(element.Key));
            foreach (var element in added)
                batch.AddElement(Table, element.Set, Convert.FromHexString(element.Key), Convert.FromHexString(element.Data));
            return nft.TryCommit(ref batch, generation);
        }
        finally
        {
            batch.Dispose();
        }
    }
}
