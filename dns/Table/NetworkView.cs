using System.Text;

namespace OverlayNet.Dns.Table;

/// <summary>
/// The names of one network: turns services and endpoints into entries of an <see cref="AnswerTable"/> and keeps it
/// up to date by difference. Several objects may give rise to the same name (an alias shared by two services, by every
/// task of one): their records are merged. Each name that changes is published once per update with its final
/// content, so that a name that moves from one object to another is never absent in between.
/// One writer; readers only use <see cref="Table"/>.
/// </summary>
internal sealed class NetworkView
{
    private readonly Contributions _contributions;
    private readonly int _suffixLength;
    private readonly uint _ttl;
    private readonly RecordSet _records = new();

    // Owner id (as stored in entries) → the service or lone endpoint that currently has it.
    private object?[] _owners = new object?[16];
    private readonly Stack<int> _freeOwners = new();
    private int _ownerCount;

    // Name → owners, for names with more than one contribution.
    private readonly Dictionary<string, List<int>> _shared = [];

    private AnswerTable _table = new(8, 512);

    /// <param name="id">Network id.</param>
    /// <param name="name">Network name, one label or more.</param>
    /// <param name="zoneSuffix">Wire form of <c>dc.domain</c> with the root octet.</param>
    /// <param name="ttl">Seconds.</param>
    /// <param name="reverse">Whether addresses get reverse names here.</param>
    public NetworkView(string id, string name, byte[] zoneSuffix, uint ttl, bool reverse = true)
    {
        Id = id;
        Name = name;
        _ttl = ttl;
        Span<byte> label = stackalloc byte[Limits.NameLength];
        var length = 0;
        DnsName.TryAppend(name, label, ref length);
        Label = label[..length].ToArray();
        _suffixLength = Label.Length + zoneSuffix.Length;
        _contributions = new Contributions([.. Label, .. zoneSuffix], reverse);
        Network = new DnsNetwork { Id = id, Name = name };
    }

    public string Id { get; }

    public string Name { get; }

    /// <summary>Wire labels of the network's name; empty when it is not a legal name.</summary>
    public byte[] Label { get; }

    /// <summary>The state applied last.</summary>
    public DnsNetwork Network { get; private set; }

    /// <summary>What readers search. Read it once per query and keep it alive.</summary>
    public AnswerTable Table => Volatile.Read(ref _table);

    /// <returns>Names, without the root octet, that were answered otherwise before; those of an empty network were not answered at all.</returns>
    public IReadOnlyList<byte[]> Apply(DnsNetwork network)
    {
        if (ReferenceEquals(network, Network))
            return [];
        var changed = new List<byte[]>();
        if (Network.Services.Count == 0 && Network.Endpoints.Count == 0)
            Load(network);
        else
            Update(network, changed);
        Network = network;
        return changed;
    }

    private void Load(DnsNetwork network)
    {
        // Built aside and published at once, so that readers never see half a network.
        var conflicts = new HashSet<string>();
        var (names, bytes) = Estimate(network);
        var building = new AnswerTable(names * 3 / 2, bytes);
        foreach (var service in network.Services)
            LoadOwner(service, ref building, conflicts);
        foreach (var endpoint in network.Endpoints)
            LoadOwner(endpoint, ref building, conflicts);
        foreach (var name in conflicts)
            RecomputeShared(Encoding.Latin1.GetBytes(name), name, [], ref building);
        Volatile.Write(ref _table, building);
    }

    /// <summary>Names and bytes to expect, so that a big table is neither copied while it grows nor half empty.</summary>
    private (int Names, int Bytes) Estimate(DnsNetwork network)
    {
        // Entry and RRset heads with their padding.
        const int NameCost = Entry.NameAt + 8, SetCost = Entry.SetHead + 12, ReverseName = 30;
        long names = 0, bytes = 4096;
        void Endpoint(DnsEndpoint endpoint, int serviceLength)
        {
            var length = endpoint.Name.Length + 2;
            var records = endpoint.Addresses.Count * (SetCost + 8) + SetCost + 50;
            names += 1 + endpoint.Aliases.Count + endpoint.Addresses.Count + (serviceLength > 0 ? 1 : 0);
            bytes += (2 + endpoint.Aliases.Count) * (NameCost + length + serviceLength + records)
                + endpoint.Addresses.Count * (NameCost + ReverseName + SetCost + length + serviceLength + _suffixLength);
        }

        foreach (var service in network.Services)
        {
            var length = service.Name.Length + 1;
            var vips = (service.VipV4 is null ? 0 : 1) + (service.VipV6 is null ? 0 : 1);
            names += 2 + vips + service.Aliases.Count * 2 + service.Ports.Count * 2;
            bytes += (1 + service.Aliases.Count) * (2 * (NameCost + length) + 6 + vips * (SetCost + 8))
                + vips * (NameCost + ReverseName + SetCost + length + _suffixLength);
            foreach (var endpoint in service.Endpoints)
                Endpoint(endpoint, length);
        }

        foreach (var endpoint in network.Endpoints)
            Endpoint(endpoint, 0);
        return ((int)Math.Min(names, 1 << 28), (int)Math.Min(bytes, Array.MaxLength));
    }

    private void LoadOwner(object owner, ref AnswerTable building, HashSet<string> conflicts)
    {
        var sink = new LoadSink(this, owner, NewOwner(owner), building, conflicts);
        _contributions.Enumerate(owner, ref sink);
        building = sink.Table;
    }

    private void Update(DnsNetwork network, List<byte[]> changed)
    {
        var touched = new Dictionary<string, Touched>();
        var freed = new List<int>();
        ListDiff.Run(Network.Services, network.Services, s => s.Name, SameService, (old, now) => TouchService(old, now, touched, freed));
        ListDiff.Run(Network.Endpoints, network.Endpoints, e => e.Id, SameEndpoint, (old, now) =>
        {
            var owner = ChangeOwner(old, now, freed);
            if (old is not null)
                TouchEndpoint(old, null, owner, isNew: false, touched);
            if (now is not null)
                TouchEndpoint(now, null, owner, isNew: true, touched);
        });

        var table = _table;
        foreach (var (text, change) in touched)
        {
            var name = Encoding.Latin1.GetBytes(text);
            if (Publish(name, text, change, ref table))
                changed.Add(name);
        }

        foreach (var owner in freed)
            _freeOwners.Push(owner);
        if (table.GarbageBytes > 4096 && table.GarbageBytes > table.UsedBytes / 2)
            table = table.CopyTo(0);
        if (!ReferenceEquals(table, _table))
            Volatile.Write(ref _table, table);
    }

    private void TouchService(DnsService? old, DnsService? now, Dictionary<string, Touched> touched, List<int> freed)
    {
        var owner = ChangeOwner(old, now, freed);
        if (old is not null)
        {
            var sink = new TouchSink(touched, owner, isNew: false);
            _contributions.EnumerateService(old, ref sink);
        }

        if (now is not null)
        {
            var sink = new TouchSink(touched, owner, isNew: true);
            _contributions.EnumerateService(now, ref sink);
        }

        ListDiff.Run(old?.Endpoints ?? [], now?.Endpoints ?? [], e => e.Id, SameEndpoint, (a, b) =>
        {
            if (a is not null)
                TouchEndpoint(a, old, owner, isNew: false, touched);
            if (b is not null)
                TouchEndpoint(b, now, owner, isNew: true, touched);
        });
    }

    private void TouchEndpoint(DnsEndpoint endpoint, DnsService? service, int owner, bool isNew, Dictionary<string, Touched> touched)
    {
        var sink = new TouchSink(touched, owner, isNew);
        _contributions.EnumerateEndpoint(endpoint, service, ref sink);
    }

    /// <summary>Brings one name to its final content; false when it has it already.</summary>
    private unsafe bool Publish(byte[] name, string text, Touched change, ref AnswerTable table)
    {
        var hash = NameHash.Compute(name);
        var sole = true;
        fixed (byte* p = name)
        {
            var entry = table.Find(p, name.Length, hash);
            // Somebody untouched also contributes: look at all of them.
            if (entry != null && ((entry[Entry.FlagsAt] & Entry.FlagMerged) != 0 || change.OldCount == 0))
                sole = false;
        }

        if (!sole)
            return RecomputeShared(name, text, change.New, ref table);
        if (change.New.Count == 0)
            return table.Remove(name, hash);

        _records.Clear();
        foreach (var (owner, contribution) in change.New)
            _contributions.Collect(_owners[owner]!, contribution, _records);
        var merged = change.New.Count > 1;
        if (merged)
            _shared[text] = change.New.Select(n => n.Owner).Distinct().ToList();
        return Replace(name, hash, change.New[0].Owner, merged, ref table);
    }

    /// <summary>Recollects a name from every owner that may contribute to it.</summary>
    private unsafe bool RecomputeShared(byte[] name, string text, List<(int Owner, Contribution Contribution)> added, ref AnswerTable table)
    {
        var hash = NameHash.Compute(name);
        var owners = _shared.TryGetValue(text, out var known) ? known : [];
        fixed (byte* p = name)
        {
            var entry = table.Find(p, name.Length, hash);
            if (entry != null && !owners.Contains(Entry.Owner(entry)))
                owners.Add(Entry.Owner(entry));
        }

        foreach (var (owner, _) in added)
        {
            if (!owners.Contains(owner))
                owners.Add(owner);
        }

        _records.Clear();
        var contributing = new List<int>();
        var contributions = 0;
        foreach (var owner in owners)
        {
            if (_owners[owner] is not { } current)
                continue;
            var sink = new MatchSink(name, _contributions, current, _records);
            _contributions.Enumerate(current, ref sink);
            contributions += sink.Matches;
            if (sink.Matches > 0)
                contributing.Add(owner);
        }

        if (contributions > 1)
            _shared[text] = contributing;
        else
            _shared.Remove(text);
        return contributions == 0 ? table.Remove(name, hash) : Replace(name, hash, contributing[0], contributions > 1, ref table);
    }

    /// <summary>Most changes of a service leave most of its names as they are.</summary>
    private unsafe bool Replace(byte[] name, uint hash, int owner, bool merged, ref AnswerTable table)
    {
        var entry = _records.Encode(name, owner, merged, _ttl);
        fixed (byte* p = name)
        {
            var existing = table.Find(p, name.Length, hash);
            if (existing != null && Entry.Span(existing).SequenceEqual(entry))
                return false;
        }

        Put(entry, hash, ref table);
        return true;
    }

    private static void Put(ReadOnlySpan<byte> entry, uint hash, ref AnswerTable table)
    {
        if (table.TryPut(entry, hash))
            return;
        table = table.CopyTo(entry.Length + 8);
        table.TryPut(entry, hash);
    }

    private int NewOwner(object owner)
    {
        if (!_freeOwners.TryPop(out var id))
        {
            id = _ownerCount++;
            if (id == _owners.Length)
                Array.Resize(ref _owners, id * 2);
        }

        _owners[id] = owner;
        return id;
    }

    /// <summary>Passes an owner id from the old object to its successor, or makes or frees one.</summary>
    private int ChangeOwner(object? old, object? now, List<int> freed)
    {
        if (old is null)
            return NewOwner(now!);
        var id = FindOwner(old);
        if (id < 0)
            return now is null ? -1 : NewOwner(now); // it had no legal name
        _owners[id] = now;
        if (now is null)
            freed.Add(id);
        return id;
    }

    /// <summary>Found through the object's names, which saves an index the size of the configuration.</summary>
    private int FindOwner(object owner)
    {
        var sink = new OwnerSink(this, owner);
        _contributions.Enumerate(owner, ref sink);
        return sink.Owner;
    }

    /// <summary>Whether two objects are states of one: an equal copy may have taken the place of the one we hold.</summary>
    private static bool IsSuccession(object? held, object owner) => (held, owner) switch
    {
        (DnsService a, DnsService b) => a.Name == b.Name,
        (DnsEndpoint a, DnsEndpoint b) => a.Id == b.Id,
        _ => false,
    };

    private static bool SameService(DnsService a, DnsService b) =>
        a.Name == b.Name && a.Mode == b.Mode && a.SubsetLimit == b.SubsetLimit && a.PublishNotReady == b.PublishNotReady
        && Equals(a.VipV4, b.VipV4) && Equals(a.VipV6, b.VipV6)
        && ListDiff.SameItems(a.Aliases, b.Aliases, string.Equals)
        && ListDiff.SameItems(a.Ports, b.Ports, Equals)
        && ListDiff.SameItems(a.Endpoints, b.Endpoints, SameEndpoint);

    private static bool SameEndpoint(DnsEndpoint a, DnsEndpoint b) =>
        ReferenceEquals(a, b)
        || (a.Id == b.Id && a.Name == b.Name && a.Weight == b.Weight && a.State == b.State && a.Node == b.Node
            && ListDiff.SameItems(a.Addresses, b.Addresses, Equals)
            && ListDiff.SameItems(a.Aliases, b.Aliases, string.Equals));

    private sealed class Touched
    {
        public int OldCount;
        public readonly List<(int Owner, Contribution Contribution)> New = [];
    }

    private readonly struct TouchSink(Dictionary<string, Touched> touched, int owner, bool isNew) : IContributionSink
    {
        public void Add(scoped ReadOnlySpan<byte> name, in Contribution contribution)
        {
            var text = Encoding.Latin1.GetString(name);
            if (!touched.TryGetValue(text, out var change))
                touched[text] = change = new Touched();
            if (isNew)
                change.New.Add((owner, contribution));
            else
                change.OldCount++;
        }
    }

    private struct LoadSink(
        NetworkView view, object owner, int id, AnswerTable table, HashSet<string> conflicts) : IContributionSink
    {
        public AnswerTable Table = table;

        public unsafe void Add(scoped ReadOnlySpan<byte> name, in Contribution contribution)
        {
            var hash = NameHash.Compute(name);
            byte* entry;
            fixed (byte* p = name)
                entry = Table.Find(p, name.Length, hash);
            if (entry != null)
            {
                var text = Encoding.Latin1.GetString(name);
                conflicts.Add(text);
                if (!view._shared.TryGetValue(text, out var owners))
                    view._shared[text] = owners = [Entry.Owner(entry)];
                if (owners[^1] != id)
                    owners.Add(id);
                return;
            }

            view._records.Clear();
            view._contributions.Collect(owner, contribution, view._records);
            Put(view._records.Encode(name, id, merged: false, view._ttl), hash, ref Table);
        }
    }

    private struct MatchSink(byte[] wanted, Contributions contributions, object owner, RecordSet records) : IContributionSink
    {
        public int Matches;

        public void Add(scoped ReadOnlySpan<byte> name, in Contribution contribution)
        {
            if (!name.SequenceEqual(wanted))
                return;
            Matches++;
            contributions.Collect(owner, contribution, records);
        }
    }

    private unsafe struct OwnerSink(NetworkView view, object owner) : IContributionSink
    {
        public int Owner = -1;

        public void Add(scoped ReadOnlySpan<byte> name, in Contribution contribution)
        {
            if (Owner >= 0)
                return;
            byte* entry;
            fixed (byte* p = name)
                entry = view._table.Find(p, name.Length, NameHash.Compute(name));
            if (entry == null)
                return;
            var id = Entry.Owner(entry);
            if (IsSuccession(view._owners[id], owner))
                Owner = id;
            else if (view._shared.TryGetValue(Encoding.Latin1.GetString(name), out var owners))
                Owner = FindIn(owners);
        }

        private readonly int FindIn(List<int> owners)
        {
            foreach (var id in owners)
            {
                if (IsSuccession(view._owners[id], owner))
                    return id;
            }

            return -1;
        }
    }
}
