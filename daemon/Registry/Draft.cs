using System.Globalization;
using System.Net;
using System.Text;
using System.Text.Json;
using System.Text.Json.Serialization.Metadata;
using OverlayNet.Contracts;
using OverlayNet.Daemon.Registry.Store;

namespace OverlayNet.Daemon.Registry;

/// <summary>A transaction being put together from what is in memory; the guards make sure that it still was so.</summary>
internal sealed class Draft(RegistryState state, long nowUnixMs, TimeSpan quarantine)
{
    private readonly Dictionary<string, Guard> _guards = new(StringComparer.Ordinal);
    private readonly Dictionary<string, Put> _puts = new(StringComparer.Ordinal);
    private readonly HashSet<string> _deletes = new(StringComparer.Ordinal);
    private readonly List<(AddressTable Table, IPAddress Address)> _pending = [];

    public RegistryState State { get; } = state;

    public Snapshot Snapshot => State.Snapshot;

    public long NowUnixMs { get; } = nowUnixMs;

    public bool IsEmpty => _puts.Count == 0 && _deletes.Count == 0;

    public Transaction ToTransaction() => new()
    {
        Guards = [.. _guards.Values],
        Puts = [.. _puts.Values],
        Deletes = [.. _deletes],
        Incarnation = State.Snapshot.Incarnation,
    };

    /// <summary>Once the transaction is in memory, or has failed.</summary>
    public void ReleasePending()
    {
        foreach (var (table, address) in _pending)
            table.Pending.Remove(address);
        _pending.Clear();
    }

    /// <summary>Guards a key to be as it is in memory, absent included.</summary>
    public void GuardUnchanged(string key) => _guards[key] = Store.Guard.Unchanged(key, State.Key(key).Mod);

    /// <summary>A guard on a key that is not among the objects in memory.</summary>
    public void Guard(Guard guard) => _guards[guard.Key] = guard;

    /// <summary>Guards an object not to be removed; changes of it do not matter.</summary>
    public void GuardAlive(string key) => _guards.TryAdd(key, Store.Guard.Alive(key, State.Key(key).Create));

    /// <summary>Puts a key that must not exist yet.</summary>
    public void Claim(string key, string owner)
    {
        _guards[key] = Store.Guard.Absent(key);
        Mark(key, owner);
    }

    public void Mark(string key, string value) => Write(key, Encoding.ASCII.GetBytes(value));

    public void Release(string key)
    {
        if (!_puts.ContainsKey(key))
            _deletes.Add(key);
    }

    public void Put(Node node) => Put(Keys.Node(node.Id), node, OverlayNetJson.Default.Node);

    public void Put(Network network) => Put(Keys.Network(network.Id), network, OverlayNetJson.Default.Network);

    public void Put(Service service) => Put(Keys.Service(service.Id), service, OverlayNetJson.Default.Service);

    public void Put(Endpoint endpoint) => Put(Keys.Endpoint(endpoint.Id), endpoint, OverlayNetJson.Default.Endpoint);

    public void Put(FloatingVip vip) => Put(Keys.Vip(vip.Id), vip, OverlayNetJson.Default.FloatingVip);

    /// <summary>Deletes an object, provided that it is still as it was, and leaves word of it.</summary>
    public void Delete(string key)
    {
        GuardUnchanged(key);
        _deletes.Add(key);
        Mark(Keys.Gone(key), NowUnixMs.ToString(CultureInfo.InvariantCulture));
    }

    /// <summary>
    /// Addresses for an object, of each family the network has. Unless asked for, the IPv6 address has the same place in its
    /// prefix as the IPv4 address in its own, when that is free.
    /// </summary>
    /// <exception cref="RegistryException">An address that was asked for cannot be had, or none is left.</exception>
    public (IPAddress? Address4, IPAddress? Address6) Allocate(
        Network network, string ownerKey, IPAddress? wanted4, IPAddress? wanted6, string field4, string field6)
    {
        if (State.Waiting.Count > 0)
            throw Recovering();
        var table = State.Addresses(network.Id);
        var (pool4, pool6) = (AddressPool.V4(table, network), AddressPool.V6(table, network));
        // Checked before anything is taken: a refusal must leave no trace.
        CheckWanted(table, pool4, network, wanted4, field4, network.Subnet4);
        CheckWanted(table, pool6, network, wanted6, field6, network.Subnet6);

        IPAddress? address4 = null, address6 = null;
        if (pool4 is not null)
        {
            address4 = wanted4 ?? pool4.Value.Next(table.Last4, NowUnixMs, quarantine) ?? throw Exhausted(network, network.Subnet4!.Value);
            Take(table, network, address4, ownerKey);
        }
        if (pool6 is not null)
        {
            address6 = wanted6
                ?? (address4 is null ? null : pool6.Value.Matching(pool4!.Value.OffsetOf(address4), NowUnixMs, quarantine))
                ?? pool6.Value.Next(table.Last6, NowUnixMs, quarantine)
                ?? throw Exhausted(network, network.Subnet6!.Value);
            Take(table, network, address6, ownerKey);
        }
        RememberAllocation(network, table, wanted4 is null ? address4 : null, wanted6 is null ? address6 : null);
        return (address4, address6);
    }

    /// <summary>Gives addresses back to the owner that had them, resting ones included.</summary>
    /// <returns>Null: done; else why not.</returns>
    public string? Reclaim(Network network, string ownerKey, params ReadOnlySpan<IPAddress?> addresses)
    {
        var table = State.Addresses(network.Id);
        foreach (var address in addresses)
        {
            if (address is not null && (table.Pending.Contains(address) || (table.Entries.TryGetValue(address, out var entry) && entry.Owner is { } owner && owner != ownerKey)))
                return $"{address} belongs to another by now";
        }
        foreach (var address in addresses)
        {
            if (address is not null)
                Take(table, network, address, ownerKey);
        }
        TouchNetwork(network);
        return null;
    }

    /// <summary>A node has said what it has, or is declared lost.</summary>
    public void StopWaitingFor(string nodeId)
    {
        if (!State.Waiting.Contains(nodeId))
            return;
        GuardUnchanged(Keys.Recovery);
        var waiting = State.Waiting.Where(id => id != nodeId).ToList();
        if (waiting.Count == 0)
            Release(Keys.Recovery);
        else
            Write(Keys.Recovery, JsonSerializer.SerializeToUtf8Bytes(new RecoveryRecord { Waiting = waiting }, RegistryJson.Default.RecoveryRecord));
    }

    /// <summary>Marks the network as used without giving an address, for the guard of its removal.</summary>
    public void TouchNetwork(Network network) => RememberAllocation(network, State.Addresses(network.Id), null, null);

    /// <summary>Frees an address into quarantine.</summary>
    public void Free(string networkId, IPAddress? address)
    {
        if (address is not null)
            Write(Keys.Address(networkId, address), AddressValue.FreedAt(NowUnixMs));
    }

    /// <summary>Forgets an address whose quarantine is over.</summary>
    public void Forget(string networkId, IPAddress address, AddressEntry entry)
    {
        var key = Keys.Address(networkId, address);
        _guards[key] = Store.Guard.Unchanged(key, entry.ModRevision);
        _deletes.Add(key);
    }

    private void Put<T>(string key, T value, JsonTypeInfo<T> type)
    {
        GuardUnchanged(key);
        if (State.Key(key).Mod == 0)
            GuardUnchanged(Keys.Gone(key));
        Write(key, JsonSerializer.SerializeToUtf8Bytes(value, type));
    }

    private void Write(string key, byte[] value)
    {
        _deletes.Remove(key);
        _puts[key] = new Put(key, value);
    }

    private void Take(AddressTable table, Network network, IPAddress address, string ownerKey)
    {
        var key = Keys.Address(network.Id, address);
        _guards[key] = Store.Guard.Unchanged(key, table.Entries.GetValueOrDefault(address).ModRevision);
        Write(key, AddressValue.Of(ownerKey));
        table.Pending.Add(address);
        _pending.Add((table, address));
    }

    private void RememberAllocation(Network network, AddressTable table, IPAddress? last4, IPAddress? last6)
    {
        // Within one draft several may be allocated: the later must not pick again from before the earlier.
        table.Last4 = last4 ?? table.Last4;
        table.Last6 = last6 ?? table.Last6;
        Write(Keys.Allocation(network.Id), JsonSerializer.SerializeToUtf8Bytes(
            new AllocationRecord { Last4 = table.Last4, Last6 = table.Last6 }, RegistryJson.Default.AllocationRecord));
    }

    private void CheckWanted(
        AddressTable table, AddressPool? pool, Network network, IPAddress? wanted, string field, IPNetwork? subnet)
    {
        if (wanted is null)
            return;
        if (pool is null)
            throw Refuse.Invalid("no-such-family", field, wanted.ToString(), $"network '{network.Name}' has no subnet of that family",
                "leave the address out");
        if (!pool.Value.Contains(wanted))
            throw Refuse.Invalid("address-outside-subnet", field, wanted.ToString(),
                $"it is outside the subnet {subnet} of network '{network.Name}'", $"choose a free address of {subnet}, or leave it out");
        if (pool.Value.Reserved(wanted) is { } why)
            throw Refuse.Invalid("address-reserved", field, wanted.ToString(), $"{why} of network '{network.Name}'",
                "choose another address, or leave it out");
        if (table.Pending.Contains(wanted))
            throw Refuse.Conflict("address-taken", field, wanted.ToString(), "somebody is being given it just now",
                "choose another address, or leave it out");
        if (table.Entries.TryGetValue(wanted, out var entry) && entry.Owner is not null)
            throw Refuse.Conflict("address-taken", field, wanted.ToString(), $"{Describe(entry.Owner)} has it",
                "choose another address, or leave it out");
    }

    private RegistryException Recovering()
    {
        var names = State.Waiting.Select(id => Snapshot.Nodes.GetValueOrDefault(id)?.Name ?? id).Order(StringComparer.Ordinal).ToList();
        return new RegistryException(StatusCodes.Status503ServiceUnavailable, new ErrorBody
        {
            Code = "recovering",
            Message = $"registry: it was restored, and no address is given out before every node has said what it has; waiting for {string.Join(", ", names)}",
            Field = "registry",
            Remedy = $"start the daemons there, or declare nodes lost that will not come back: overlaynet node rm --force {string.Join(' ', names)}",
        });
    }

    private string Describe(string ownerKey)
    {
        var slash = ownerKey.IndexOf('/', StringComparison.Ordinal);
        var (kind, id) = (ownerKey[..slash], ownerKey[(slash + 1)..]);
        var name = kind == Kinds.Service
            ? Snapshot.Services.GetValueOrDefault(id)?.Name
            : Snapshot.Endpoints.GetValueOrDefault(id)?.Name;
        return $"{kind} '{name ?? id}'";
    }

    private static RegistryException Exhausted(Network network, IPNetwork subnet) => Refuse.Conflict(
        "subnet-full", "network", network.Name, $"every address of {network.IpRange4 ?? subnet} is taken",
        "remove endpoints that are no longer needed ('overlaynet endpoint ls'), or create a network with a larger subnet");
}
