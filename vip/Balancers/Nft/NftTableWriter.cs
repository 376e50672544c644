using OverlayNet.Kernel.Netlink;

namespace OverlayNet.Vip.Balancers.Nft;

/// <summary>Writes an image, or what a table lacks of one, into a batch.</summary>
internal static class NftTableWriter
{
    private const int SettleTries = 5;

    /// <summary>The whole table.</summary>
    internal static void Load(ref NfTablesBatch batch, NftImage image, bool networkNamespace)
    {
        var schema = image.Schema;
        batch.AddTable(schema.Table, NftSchema.Comment);
        foreach (var set in schema.Sets(networkNamespace))
            batch.AddSet(schema.Table, set);
        foreach (var chain in image.Chains(networkNamespace))
            AddChain(ref batch, schema, chain);
        foreach (var service in image.Classes)
            AddClass(ref batch, schema, service);
        foreach (var (key, data) in image.Elements(networkNamespace))
            AddElement(ref batch, schema, key, data);
    }

    /// <summary>What differs between two versions, for a table that holds the one before.</summary>
    internal static void Write(ref NfTablesBatch batch, NftImage image, NftDelta delta, bool networkNamespace)
    {
        var schema = image.Schema;
        foreach (var buckets in delta.TurnsAdded)
            AddChain(ref batch, schema, schema.TurnChain(buckets));
        foreach (var service in delta.ClassesAdded)
        {
            AddChain(ref batch, schema, schema.ClassChain(service));
            AddClass(ref batch, schema, service);
        }
        foreach (var key in delta.Removed.Keys)
            DeleteElement(ref batch, schema, key);
        foreach (var (key, data) in delta.Added)
            AddElement(ref batch, schema, key, data);
        if (networkNamespace)
        {
            foreach (var address in delta.LocalRemoved)
                DeleteElement(ref batch, schema, NftKey.Address(NftMap.Local, address));
            foreach (var address in delta.LocalAdded)
                AddElement(ref batch, schema, NftKey.Address(NftMap.Local, address), default);
        }
        foreach (var service in delta.ClassesRemoved)
        {
            batch.DeleteElement(schema.Table, NftSchema.Classes, BitConverter.GetBytes(service.Id));
            batch.DeleteChain(schema.Table, service.Chain);
        }
        foreach (var buckets in delta.TurnsRemoved)
            batch.DeleteChain(schema.Table, ServiceClass.TurnChainOf(buckets));
    }

    /// <summary>What a table lacks, from reading it.</summary>
    /// <returns>The differences, for a person.</returns>
    internal static string Compare(ref NfTablesBatch batch, NfTables nft, NftImage image, bool networkNamespace)
    {
        var schema = image.Schema;
        var table = schema.Table;
        var sets = nft.Sets(table).ToDictionary(set => set.Set.Name, set => set.Set);
        var chains = nft.Chains(table).ToDictionary(chain => chain.Chain.Name, chain => chain.Chain);
        var wantedChains = image.Chains(networkNamespace).ToList();
        var wantedSets = schema.Sets(networkNamespace).ToList();
        if (wantedSets.Any(set => sets.TryGetValue(set.Name, out var there) && !SameKind(set, there))
            || wantedChains.Any(chain => chains.TryGetValue(chain.Chain.Name, out var there) && !SameKind(chain.Chain, there)))
        {
            batch.DeleteTable(table);
            Load(ref batch, image, networkNamespace);
            return "of another kind, replaced";
        }
        var said = new List<string>();
        foreach (var set in wantedSets.Where(set => !sets.ContainsKey(set.Name)))
        {
            batch.AddSet(table, set);
            said.Add($"set {set.Name} added");
        }
        CompareChains(ref batch, nft, schema, wantedChains, chains, said);
        CompareClasses(ref batch, nft, image, sets, said);
        CompareElements(ref batch, nft, image, sets, networkNamespace, said);
        foreach (var (name, chain) in chains.OrderBy(chain => chain.Key.StartsWith("turn-", StringComparison.Ordinal)))
        {
            if (wantedChains.Any(wanted => wanted.Chain.Name == name))
                continue;
            batch.DeleteChain(table, name);
            said.Add($"chain {name} deleted");
        }
        foreach (var name in sets.Keys.Where(name => !wantedSets.Any(set => set.Name == name) && !name.StartsWith("__", StringComparison.Ordinal)))
        {
            batch.DeleteSet(table, name);
            said.Add($"set {name} deleted");
        }
        return string.Join(", ", said);
    }

    private static void CompareChains(ref NfTablesBatch batch, NfTables nft, NftSchema schema, List<ChainSpec> wanted, Dictionary<string, NfChain> there, List<string> said)
    {
        var rules = nft.Rules(schema.Table).ToLookup(rule => rule.Chain, rule => rule.Comment ?? "");
        foreach (var chain in wanted)
        {
            if (!there.ContainsKey(chain.Chain.Name))
            {
                AddChain(ref batch, schema, chain);
                said.Add($"chain {chain.Chain.Name} added");
            }
            else if (!rules[chain.Chain.Name].SequenceEqual(chain.Rules.Select(rule => rule.Comment)))
            {
                batch.FlushChain(schema.Table, chain.Chain.Name);
                foreach (var rule in chain.Rules)
                    batch.AddRule(schema.Table, chain.Chain.Name, rule.Expressions, rule.Comment);
                said.Add($"rules of chain {chain.Chain.Name} rewritten");
            }
        }
    }

    private static void CompareClasses(ref NfTablesBatch batch, NfTables nft, NftImage image, Dictionary<string, NfSet> sets, List<string> said)
    {
        var schema = image.Schema;
        var there = sets.ContainsKey(NftSchema.Classes)
            ? nft.Elements(schema.Table, NftSchema.Classes).ToDictionary(element => BitConverter.ToUInt32(element.Key), element => element.Verdict?.Chain)
            : [];
        var changed = 0;
        foreach (var service in image.Classes)
        {
            if (there.Remove(service.Id, out var chain) && chain == service.Chain)
                continue;
            if (chain is not null)
                batch.DeleteElement(schema.Table, NftSchema.Classes, BitConverter.GetBytes(service.Id));
            AddClass(ref batch, schema, service);
            changed++;
        }
        foreach (var id in there.Keys)
        {
            batch.DeleteElement(schema.Table, NftSchema.Classes, BitConverter.GetBytes(id));
            changed++;
        }
        if (changed > 0)
            said.Add($"{changed} classes changed");
    }

    private static void CompareElements(ref NfTablesBatch batch, NfTables nft, NftImage image, Dictionary<string, NfSet> sets, bool networkNamespace, List<string> said)
    {
        var schema = image.Schema;
        var wanted = new Dictionary<NftKey, NftData>(image.Elements(networkNamespace));
        Dictionary<NftKey, NftData> there = [];
        for (var attempt = 1; attempt <= SettleTries; attempt++)
        {
            foreach (var map in new[] { NftMap.Services, NftMap.Ports, NftMap.Servers, NftMap.Slots, NftMap.Local })
            {
                if (!sets.ContainsKey(NftSchema.NameOf(map)) || map == NftMap.Local && !networkNamespace)
                    continue;
                foreach (var element in nft.Elements(schema.Table, NftSchema.NameOf(map)))
                    there[NftKey.Read(map, element.Key)] = NftData.Read(element.Data);
            }
            // While a hash grows in the background, walking it may miss elements: what seems to be missing is looked for again.
            if (there.Count >= wanted.Count || there.Count == 0)
                break;
        }
        int added = 0, deleted = 0, changed = 0;
        foreach (var (key, data) in there)
        {
            if (wanted.TryGetValue(key, out var right) && right == data)
            {
                wanted.Remove(key);
                continue;
            }
            DeleteElement(ref batch, schema, key);
            if (wanted.ContainsKey(key))
                changed++;
            else
                deleted++;
        }
        foreach (var (key, data) in wanted)
        {
            AddElement(ref batch, schema, key, data);
            added++;
        }
        if (added + deleted > 0)
            said.Add($"elements: {added - changed} added, {deleted} deleted, {changed} changed");
    }

    private static bool SameKind(NfSet a, NfSet b) =>
        a.KeyType == b.KeyType && a.KeyLength == b.KeyLength && a.Flags == b.Flags && a.DataType == b.DataType && a.DataLength == b.DataLength;

    private static bool SameKind(NfChain a, NfChain b) =>
        a.Hook == b.Hook && (a.Hook is null || a.Type == b.Type && a.Priority == b.Priority && a.Policy == b.Policy);

    private static void AddChain(ref NfTablesBatch batch, NftSchema schema, ChainSpec chain)
    {
        batch.AddChain(schema.Table, chain.Chain);
        foreach (var rule in chain.Rules)
            batch.AddRule(schema.Table, chain.Chain.Name, rule.Expressions, rule.Comment);
    }

    private static void AddClass(ref NfTablesBatch batch, NftSchema schema, ServiceClass service) =>
        batch.AddVerdict(schema.Table, NftSchema.Classes, BitConverter.GetBytes(service.Id), NfVerdict.Goto(service.Chain));

    private static void AddElement(ref NfTablesBatch batch, NftSchema schema, NftKey key, NftData data)
    {
        Span<byte> keyOctets = stackalloc byte[NftKey.Most];
        Span<byte> dataOctets = stackalloc byte[16];
        keyOctets = keyOctets[..schema.KeyLength(key.Map)];
        dataOctets = dataOctets[..schema.DataLength(key.Map)];
        key.Write(keyOctets);
        data.Write(dataOctets);
        batch.AddElement(schema.Table, NftSchema.NameOf(key.Map), keyOctets, dataOctets);
    }

    private static void DeleteElement(ref NfTablesBatch batch, NftSchema schema, NftKey key)
    {
        Span<byte> octets = stackalloc byte[NftKey.Most];
        octets = octets[..schema.KeyLength(key.Map)];
        key.Write(octets);
        batch.DeleteElement(schema.Table, NftSchema.NameOf(key.Map), octets);
    }
}
