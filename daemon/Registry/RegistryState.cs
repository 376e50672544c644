using System.Globalization;
using System.Net;
using System.Text;
using System.Text.Json;
using OverlayNet.Contracts;
using OverlayNet.Daemon.Registry.Store;

namespace OverlayNet.Daemon.Registry;

/// <summary>Revisions of a key; (0, 0) when it is absent.</summary>
internal readonly record struct KeyRevisions(long Create, long Mod);

/// <summary>
/// What a manager has in memory: the snapshot, and what guards need to know of the keys. Fed by the store's watch alone.
/// Not for concurrent use.
/// </summary>
internal sealed class RegistryState
{
    private readonly Dictionary<string, KeyRevisions> _keys = new(StringComparer.Ordinal);
    private readonly Dictionary<string, long> _gone = new(StringComparer.Ordinal);
    private readonly Dictionary<string, AddressTable> _addresses = new(StringComparer.Ordinal);

    public Snapshot Snapshot { get; private set; } = Snapshot.Empty;

    public long Revision => Snapshot.Revision;

    public string Dc { get; private set; } = ClusterRecord.DefaultDc;

    /// <summary>Nodes that have not yet said what they have since a restore or recovery; no address is given out before.</summary>
    public IReadOnlyList<string> Waiting { get; private set; } = [];

    public int LastVni { get; private set; }

    /// <summary>Leases and bids of floating VIPs.</summary>
    public LeaseTable Leases { get; private set; } = LeaseTable.Empty;

    /// <summary>Who has a floating address, or until when it rests.</summary>
    public VipAddressTable VipAddresses { get; } = new();

    public IReadOnlyDictionary<string, AddressTable> AddressTables => _addresses;

    /// <summary>Keys of objects that were deleted, and when, in UNIX milliseconds.</summary>
    public IReadOnlyDictionary<string, long> Gone => _gone;

    public KeyRevisions Key(string key) => _keys.GetValueOrDefault(key);

    public AddressTable Addresses(string networkId)
    {
        if (!_addresses.TryGetValue(networkId, out var table))
            _addresses[networkId] = table = new AddressTable();
        return table;
    }

    /// <summary>Forgets everything and takes the store's content; addresses on their way stay marked.</summary>
    public void Load(StoreIdentity identity, RangePage all)
    {
        _keys.Clear();
        _gone.Clear();
        foreach (var table in _addresses.Values)
            table.Entries.Clear();
        LastVni = 0;
        VipAddresses.Clear();
        Waiting = [];
        var (nodes, networks, services, endpoints) = (new List<Node>(), new List<Network>(), new List<Service>(), new List<Endpoint>());
        var (vips, holders) = (new List<FloatingVip>(), new List<VipHolder>());
        Leases = LeaseTable.Empty with { Incarnation = identity.Incarnation, Revision = all.Revision };
        var cluster = new ClusterRecord();
        foreach (var item in all.Items)
        {
            if (item.Key == Keys.Cluster)
                cluster = JsonSerializer.Deserialize(item.Value.Span, RegistryJson.Default.ClusterRecord)!;
            var change = Index(new KeyChange(item.Key, item));
            if (change?.Node is not null)
                nodes.Add(change.Node);
            if (change?.Network is not null)
                networks.Add(change.Network);
            if (change?.Service is not null)
                services.Add(change.Service);
            if (change?.Endpoint is not null)
                endpoints.Add(change.Endpoint);
            if (change?.Vip is not null)
                vips.Add(change.Vip);
            if (change?.VipHolder is not null)
                holders.Add(change.VipHolder);
        }
        Dc = cluster.Dc;
        Snapshot = Snapshot.From(new RegistrySnapshot
        {
            ClusterId = identity.ClusterId,
            ClusterDomain = cluster.ClusterDomain,
            Incarnation = identity.Incarnation,
            Revision = all.Revision,
            Nodes = nodes,
            Networks = networks,
            Services = services,
            Endpoints = endpoints,
            Vips = vips,
            VipHolders = holders,
        });
    }

    /// <returns>
    /// What agents have to know of the batch: possibly no change at all, but a revision; null for renewals of leases, which
    /// nobody follows by snapshot.
    /// </returns>
    public WatchMessage? Apply(WatchBatch batch)
    {
        var changes = new List<RegistryChange>();
        foreach (var change in batch.Changes)
        {
            if (Index(change) is { } visible)
                changes.Add(visible);
        }
        Leases = Leases with { Revision = batch.Revision };
        if (batch.Changes.All(change => change.Key.StartsWith(Keys.LeasePrefix, StringComparison.Ordinal)))
            return null;
        var message = new WatchMessage { Incarnation = Snapshot.Incarnation, Revision = batch.Revision, Changes = changes, TraceParent = TraceOf(batch) };
        Snapshot = Snapshot.Apply(message);
        return message;
    }

    /// <summary>What agents have to know of a batch that memory has already; null for renewals of leases.</summary>
    public static WatchMessage? Message(long incarnation, WatchBatch batch) =>
        batch.Changes.Count > 0 && batch.Changes.All(change => change.Key.StartsWith(Keys.LeasePrefix, StringComparison.Ordinal))
            ? null
            : new WatchMessage { Incarnation = incarnation, Revision = batch.Revision, Changes = [.. batch.Changes.Select(IndexObject).OfType<RegistryChange>()] };

    private static string? TraceOf(WatchBatch batch) =>
        batch.Changes.FirstOrDefault(change => change.Key == Keys.Trace)?.Value is { } trace ? Encoding.ASCII.GetString(trace.Value.Span) : null;

    /// <returns>The change of an object, or null for keys that only the registry itself needs.</returns>
    private RegistryChange? Index(KeyChange change)
    {
        if (change.Key.StartsWith(Keys.AddressPrefix, StringComparison.Ordinal))
        {
            IndexAddress(change);
            return null;
        }
        if (change.Key.StartsWith(Keys.LeasePrefix, StringComparison.Ordinal))
        {
            Leases = Leases.With(change);
            return null;
        }
        if (change.Key.StartsWith(Keys.VipAddressPrefix, StringComparison.Ordinal))
            VipAddresses.Index(change);
        if (change.Value is null)
            _keys.Remove(change.Key);
        else
            _keys[change.Key] = new KeyRevisions(change.Value.CreateRevision, change.Value.ModRevision);
        if (change.Key.StartsWith(Keys.GonePrefix, StringComparison.Ordinal))
        {
            if (change.Value is null)
                _gone.Remove(change.Key);
            else
                _gone[change.Key] = long.Parse(change.Value.Value.Span, CultureInfo.InvariantCulture);
            return null;
        }
        if (change.Key == Keys.LastVni && change.Value is not null)
            LastVni = int.Parse(change.Value.Value.Span, CultureInfo.InvariantCulture);
        if (change.Key == Keys.Recovery)
            Waiting = change.Value is null ? [] : JsonSerializer.Deserialize(change.Value.Value.Span, RegistryJson.Default.RecoveryRecord)!.Waiting;
        if (change.Key.StartsWith(Keys.AllocationPrefix, StringComparison.Ordinal))
            IndexAllocation(change);
        return IndexObject(change);
    }

    private static RegistryChange? IndexObject(KeyChange change)
    {
        var slash = change.Key.IndexOf('/', StringComparison.Ordinal);
        if (slash < 0)
            return null;
        var kind = change.Key[..slash];
        if (kind is not (Kinds.Node or Kinds.Network or Kinds.Service or Kinds.Endpoint or Kinds.Vip or Kinds.VipHolder))
            return null;
        if (change.Value is null)
            return new RegistryChange { DeletedKind = kind, DeletedId = change.Key[(slash + 1)..] };
        var value = change.Value.Value.Span;
        return kind switch
        {
            Kinds.Node => new RegistryChange { Node = JsonSerializer.Deserialize(value, OverlayNetJson.Default.Node) },
            Kinds.Network => new RegistryChange { Network = JsonSerializer.Deserialize(value, OverlayNetJson.Default.Network) },
            Kinds.Service => new RegistryChange { Service = JsonSerializer.Deserialize(value, OverlayNetJson.Default.Service) },
            Kinds.Vip => new RegistryChange { Vip = JsonSerializer.Deserialize(value, OverlayNetJson.Default.FloatingVip) },
            Kinds.VipHolder => new RegistryChange { VipHolder = JsonSerializer.Deserialize(value, OverlayNetJson.Default.VipHolder) },
            _ => new RegistryChange { Endpoint = JsonSerializer.Deserialize(value, OverlayNetJson.Default.Endpoint) },
        };
    }

    private void IndexAddress(KeyChange change)
    {
        var rest = change.Key.AsSpan(Keys.AddressPrefix.Length);
        var slash = rest.IndexOf('/');
        var networkId = rest[..slash].ToString();
        var address = new IPAddress(Convert.FromHexString(rest[(slash + 1)..]));
        var table = Addresses(networkId);
        if (change.Value is null)
        {
            table.Entries.Remove(address);
            if (table.Entries.Count == 0 && table.Pending.Count == 0 && Key(Keys.Network(networkId)).Mod == 0)
                _addresses.Remove(networkId);
            return;
        }
        table.Entries[address] = AddressValue.Read(change.Value);
    }

    private void IndexAllocation(KeyChange change)
    {
        if (change.Value is null)
            return;
        var last = JsonSerializer.Deserialize(change.Value.Value.Span, RegistryJson.Default.AllocationRecord)!;
        var table = Addresses(change.Key[Keys.AllocationPrefix.Length..]);
        table.Last4 = last.Last4 ?? table.Last4;
        table.Last6 = last.Last6 ?? table.Last6;
    }
}

/// <summary>The text in an address's index key.</summary>
internal static class AddressValue
{
    private const string Freed = "freed/";

    public static AddressEntry Read(StoredValue value)
    {
        var text = Encoding.ASCII.GetString(value.Value.Span);
        return text.StartsWith(Freed, StringComparison.Ordinal)
            ? new AddressEntry(null, long.Parse(text.AsSpan(Freed.Length), CultureInfo.InvariantCulture), value.ModRevision)
            : new AddressEntry(text, 0, value.ModRevision);
    }

    public static byte[] Of(string ownerKey) => Encoding.ASCII.GetBytes(ownerKey);

    public static byte[] FreedAt(long unixMs) => Encoding.ASCII.GetBytes(Freed + unixMs.ToString(CultureInfo.InvariantCulture));
}
