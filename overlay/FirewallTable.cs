using OverlayNet.Kernel.Netlink;

namespace OverlayNet.Overlay;

/// <summary>A rule and the comment it is known by. A rule that changes its meaning needs another comment.</summary>
internal sealed record FirewallRule(string Comment, NfExpressions Expressions);

/// <summary>
/// A small nftables table that is all ours: compared by its chains and its rules' comments, and replaced as a whole in
/// one transaction when it differs.
/// </summary>
internal sealed class FirewallTable(NfTable table)
{
    private readonly List<(NfChain Chain, List<FirewallRule> Rules)> chains = [];

    internal FirewallTable Chain(NfChain chain, params IEnumerable<FirewallRule> rules)
    {
        chains.Add((chain, [.. rules]));
        return this;
    }

    /// <summary>Makes the kernel's table this one.</summary>
    internal void Mend(Reconciliation account, string network, NfTables kernel)
    {
        if (!Differs(kernel))
            return;
        account.Mend(network, $"set {table}", () =>
        {
            using var batch = new NfTablesBatch();
            batch.RemoveTable(table);
            batch.AddTable(table);
            foreach (var (chain, rules) in chains)
            {
                batch.AddChain(table, chain);
                foreach (var rule in rules)
                    batch.AddRule(table, chain.Name, rule.Expressions, rule.Comment);
            }
            Commit(kernel, batch);
        });
    }

    /// <summary>Removes the kernel's table of that name.</summary>
    internal static void Remove(Reconciliation account, string network, NfTables kernel, NfTable table)
    {
        if (!Exists(kernel, table))
            return;
        account.Mend(network, $"delete {table}", () =>
        {
            using var batch = new NfTablesBatch();
            batch.RemoveTable(table);
            Commit(kernel, batch);
        });
    }

    internal static void Commit(NfTables kernel, NfTablesBatch batch) => kernel.Commit(ref batch);

    private static bool Exists(NfTables kernel, NfTable table) => kernel.Tables(table.Family).Any(info => info.Table == table);

    private bool Differs(NfTables kernel)
    {
        if (!Exists(kernel, table))
            return true;
        var present = kernel.Chains(table);
        if (present.Count != chains.Count)
            return true;
        var rules = kernel.Rules(table).ToLookup(rule => rule.Chain);
        return chains.Any(wanted =>
            present.FirstOrDefault(info => info.Chain.Name == wanted.Chain.Name)?.Chain is not { } chain
            || chain.Hook != wanted.Chain.Hook || chain.Priority != wanted.Chain.Priority || chain.Type != wanted.Chain.Type || chain.Policy != wanted.Chain.Policy
            || !rules[wanted.Chain.Name].Select(rule => rule.Comment).SequenceEqual(wanted.Rules.Select(rule => rule.Comment)));
    }
}
