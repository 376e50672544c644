using OverlayNet.Kernel.Netlink;

namespace OverlayNet.Vip.Ingress;

/// <summary>A small table that is kept as one piece: compared with the kernel's and replaced in one transaction when it differs.</summary>
internal sealed class WholeTable(NfTable table)
{
    private readonly List<NfSet> sets = [];
    private readonly List<(NfChain Chain, List<(NfExpressions Expressions, string Comment)> Rules)> chains = [];
    private readonly Dictionary<string, SortedDictionary<string, Element>> elements = [];

    private readonly record struct Element(byte[] Key, byte[]? Data, NfVerdict? Verdict)
    {
        public override string ToString() => $"{Convert.ToHexString(Data ?? [])} {Verdict?.Chain}";
    }

    internal NfTable Table => table;

    internal void AddSet(NfSet set)
    {
        sets.Add(set);
        elements[set.Name] = [];
    }

    /// <summary>Chains in an order in which none refers to a later one.</summary>
    internal void AddChain(NfChain chain, params IEnumerable<NfExpressions> rules) =>
        chains.Add((chain, [.. rules.Select(rule => (rule, Hash(rule)))]));

    internal void AddElement(string set, byte[] key, byte[] data) => elements[set][Convert.ToHexString(key)] = new Element(key, data, null);

    internal void AddElement(string set, byte[] key, NfVerdict verdict) => elements[set][Convert.ToHexString(key)] = new Element(key, null, verdict);

    internal bool IsIn(NfTables kernel)
    {
        if (!kernel.Tables(table.Family).Any(info => info.Table == table))
            return false;
        var rules = kernel.Rules(table).ToLookup(rule => rule.Chain, rule => rule.Comment ?? "");
        return kernel.Chains(table).Select(chain => chain.Chain.Name).Order().SequenceEqual(chains.Select(chain => chain.Chain.Name).Order())
            && kernel.Sets(table).Select(set => set.Set.Name).Order().SequenceEqual(sets.Select(set => set.Name).Order())
            && chains.All(chain => rules[chain.Chain.Name].SequenceEqual(chain.Rules.Select(rule => rule.Comment)))
            && sets.All(set => Same(kernel, set.Name));
    }

    internal void Replace(NfTables kernel)
    {
        var batch = new NfTablesBatch();
        try
        {
            batch.RemoveTable(table);
            batch.AddTable(table, "overlaynet");
            foreach (var set in sets)
                batch.AddSet(table, set);
            foreach (var (chain, rules) in chains)
            {
                batch.AddChain(table, chain);
                foreach (var (expressions, comment) in rules)
                    batch.AddRule(table, chain.Name, expressions, comment);
            }
            foreach (var (set, list) in elements)
            {
                foreach (var element in list.Values)
                {
                    if (element.Verdict is { } verdict)
                        batch.AddVerdict(table, set, element.Key, verdict);
                    else
                        batch.AddElement(table, set, element.Key, element.Data);
                }
            }
            kernel.Commit(ref batch);
        }
        finally
        {
            batch.Dispose();
        }
    }

    internal static bool Remove(NfTables kernel, NfTable table)
    {
        if (!kernel.Tables(table.Family).Any(info => info.Table == table))
            return false;
        var batch = new NfTablesBatch();
        try
        {
            batch.RemoveTable(table);
            kernel.Commit(ref batch);
        }
        finally
        {
            batch.Dispose();
        }
        return true;
    }

    private bool Same(NfTables kernel, string set)
    {
        var there = kernel.Elements(table, set);
        return there.Count == elements[set].Count && there.All(element =>
            elements[set].TryGetValue(Convert.ToHexString(element.Key), out var wanted)
            && wanted.ToString() == new Element(element.Key, element.Data, element.Verdict).ToString());
    }

    private static string Hash(NfExpressions rule) => $"#{Convert.ToHexStringLower(System.Security.Cryptography.SHA256.HashData(rule.Written)[..6])}";
}
