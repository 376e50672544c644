using System.Net;
using System.Net.Sockets;
using System.Runtime.CompilerServices;
using OverlayNet.Dns.Table;

namespace OverlayNet.Dns.Answer;

/// <summary>Which name is meant, and in which network. False from the methods here means: not ours.</summary>
internal sealed unsafe partial class QueryProcessor
{
    private bool Resolve(ref ParsedQuery query, ListenerView view, Scope scope)
    {
        var name = (byte*)Unsafe.AsPointer(ref query.Lower[0]);
        if (query.Labels == 0)
            return false;

        var zone = _zone = view.Zone;
        var domainLabel = query.Labels - zone.DomainLabels;
        if (domainLabel >= 0)
        {
            var domainAt = domainLabel == query.Labels ? query.NameLength - 1 : query.LabelAt[domainLabel];
            if (new ReadOnlySpan<byte>(name + domainAt, query.NameLength - domainAt).SequenceEqual(zone.Domain))
                return ResolveInZone(ref query, name, domainLabel, domainAt, view, scope);
        }

        if (!zone.Synced)
        {
            if (query.Labels > 1 || view.ForwardSingleLabel)
                return false;
            return ServFail("not synced: names of one label may be ours");
        }

        // web.network before name.service: networks are named by the administrator.
        var relativeLength = query.NameLength - 1;
        if (query.Labels > 1)
        {
            var lastAt = query.LabelAt[query.Labels - 1];
            var network = scope.Find(new ReadOnlySpan<byte>(name + lastAt, relativeLength - lastAt));
            if (network is not null && TryAnswer(ref query, network, name, lastAt, RootOwner, "name.network"))
            {
                _unambiguous = true;
                return true;
            }
        }

        var hash = NameHash.Compute(name, relativeLength);
        foreach (var network in scope.Views)
        {
            var table = network.Table;
            var entry = table.Find(name, relativeLength, hash);
            if (entry == null)
                continue;
            Found(network, entry, "name in the client's networks");
            _unambiguous = query.Labels == 1;
            AnswerEntry(ref query, entry, zone, RootOwner);
            GC.KeepAlive(table);
            return true;
        }

        return NotFound(ref query, name, view, scope);
    }

    private bool NotFound(ref ParsedQuery query, byte* name, ListenerView view, Scope scope)
    {
        var zone = view.Zone;
        if (query.Labels == 1)
        {
            if (view.ForwardSingleLabel)
                return false;
            Trace?.Because("a name of one label that no network of the client has");
            return Negative(Rcode.NxDomain, zone, RootOwner);
        }

        var relative = new ReadOnlySpan<byte>(name, query.NameLength - 1);
        if (relative.EndsWith("\u0004arpa"u8) && scope.Subnets.Length > 0
            && DnsName.TryParseReverse(relative, out var address, out var prefixLength))
        {
            foreach (var subnet in scope.Subnets)
            {
                if (prefixLength < subnet.PrefixLength || !subnet.Contains(address))
                    continue;
                // A name cut short may have others below it: it is empty, not absent.
                var whole = address.AddressFamily == AddressFamily.InterNetwork ? 32 : 128;
                Trace?.Because($"reverse name inside {subnet} that nothing has");
                return Negative(prefixLength == whole ? Rcode.NxDomain : Rcode.NoError, zone, RootOwner);
            }
        }

        if (!scope.InternalOnly)
            return false;
        Trace?.Because("not a name of ours, and the client's networks are internal");
        return Negative(Rcode.NxDomain, zone, RootOwner);
    }

    /// <summary>A name at or below the cluster domain: <c>[rest.]network[.dc].domain</c>, the apex, or <c>ns.domain</c>.</summary>
    private bool ResolveInZone(ref ParsedQuery query, byte* name, int domainLabel, int domainAt, ListenerView view, Scope scope)
    {
        var zone = view.Zone;
        if (!zone.Synced)
            return ServFail("not synced");
        if (domainLabel == 0)
            return Apex(ref query, zone, domainAt);

        var last = domainLabel - 1;
        var end = domainAt;
        if (LabelIs(ref query, name, last, end, zone.Dc))
        {
            if (last == 0)
            {
                Trace?.Because("the data centre's own name");
                return Negative(Rcode.NoError, zone, domainAt);
            }

            var dcAt = query.LabelAt[last];
            if (TryQualified(ref query, name, last - 1, dcAt, domainAt, scope))
            {
                _unambiguous = true;
                return true;
            }

            // A network called as the data centre: a name found here would give way to one found above.
            if (TryQualified(ref query, name, last, end, domainAt, scope))
                return true;
        }
        else if (TryQualified(ref query, name, last, end, domainAt, scope))
        {
            _unambiguous = true;
            return true;
        }

        if (last == 0 && LabelIs(ref query, name, 0, end, "\u0002ns"u8))
            return NameServer(ref query, view, domainAt);
        if (view.Delegations is { } delegations && delegations.Covers(query.Name))
            return false;
        Trace?.Because("below the cluster domain, but no network of the client has it");
        return Negative(Rcode.NxDomain, zone, domainAt);
    }

    /// <summary>The name before <paramref name="end"/>, whose last label <paramref name="networkLabel"/> names a network.</summary>
    private bool TryQualified(ref ParsedQuery query, byte* name, int networkLabel, int end, int domainAt, Scope scope)
    {
        var networkAt = query.LabelAt[networkLabel];
        var network = scope.Find(new ReadOnlySpan<byte>(name + networkAt, end - networkAt));
        if (network is null)
            return false;
        if (networkLabel == 0)
        {
            Trace?.In(network, "the network's own name");
            return Negative(Rcode.NoError, _zone!, domainAt);
        }

        return TryAnswer(ref query, network, name, networkAt, domainAt, "full name");
    }

    private bool TryAnswer(ref ParsedQuery query, NetworkView network, byte* name, int length, int soaOwnerAt, string rule)
    {
        var table = network.Table;
        var entry = table.Find(name, length, NameHash.Compute(name, length));
        if (entry == null)
        {
            // Above every tasks.service.network, so it is empty, not absent (RFC 8020).
            if (!new ReadOnlySpan<byte>(name, length).SequenceEqual("\u0005tasks"u8))
                return false;
            Trace?.In(network, "the name above tasks.service");
            return Negative(Rcode.NoError, _zone!, soaOwnerAt);
        }

        Found(network, entry, rule);
        AnswerEntry(ref query, entry, _zone!, soaOwnerAt);
        GC.KeepAlive(table);
        return true;
    }

    private static bool LabelIs(ref ParsedQuery query, byte* name, int label, int end, ReadOnlySpan<byte> wire)
    {
        var at = query.LabelAt[label];
        return new ReadOnlySpan<byte>(name + at, end - at).SequenceEqual(wire);
    }

    private void Found(NetworkView network, byte* entry, string rule)
    {
        Counters.Owned++;
        _owner = network;
        Trace?.Found(network, entry, rule);
    }

    private bool ServFail(string why)
    {
        Trace?.Because(why);
        _rcode = (int)Rcode.ServFail;
        return true;
    }
}
