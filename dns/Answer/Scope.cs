using System.Net;
using OverlayNet.Dns.Table;

namespace OverlayNet.Dns.Answer;

/// <summary>The networks one client sees, the asked one first. Immutable; the views inside change by themselves.</summary>
internal sealed class Scope
{
    private readonly NetworkView?[] _byLabel;
    private readonly uint[] _labelHash;

    /// <param name="views">In search order, the nodes' view last.</param>
    /// <param name="internalOnly">No network with a way out is among them.</param>
    public Scope(NetworkView[] views, bool internalOnly)
    {
        Views = views;
        InternalOnly = internalOnly;
        Subnets = [.. views.SelectMany(v => v.Network.Subnets)];
        var size = (int)System.Numerics.BitOperations.RoundUpToPowerOf2((uint)Math.Max(4, views.Length * 2));
        _byLabel = new NetworkView?[size];
        _labelHash = new uint[size];
        foreach (var view in views)
        {
            if (view.Label.Length == 0 || Find(view.Label) is not null)
                continue;
            var hash = NameHash.Compute(view.Label);
            var i = hash & (uint)(size - 1);
            while (_byLabel[i] is not null)
                i = (i + 1) & (uint)(size - 1);
            _byLabel[i] = view;
            _labelHash[i] = hash;
        }
    }

    public NetworkView[] Views { get; }

    public bool InternalOnly { get; }

    public IPNetwork[] Subnets { get; }

    /// <summary>The network with this name (lower-case wire label), or null.</summary>
    public NetworkView? Find(ReadOnlySpan<byte> label)
    {
        var hash = NameHash.Compute(label);
        for (var i = hash & (uint)(_byLabel.Length - 1); ; i = (i + 1) & (uint)(_byLabel.Length - 1))
        {
            var view = _byLabel[i];
            if (view is null)
                return null;
            if (_labelHash[i] == hash && label.SequenceEqual(view.Label))
                return view;
        }
    }
}

/// <summary>What a listener answers from. Replaced as one reference when networks, sources or the zone change.</summary>
internal sealed class ListenerView(ZoneInfo zone, Scope scope, SourceMap? sources, IPAddress[] addresses, DomainSet? delegations, bool forwardSingleLabel)
{
    public ZoneInfo Zone { get; } = zone;

    public Scope DefaultScope { get; } = scope;

    /// <summary>Addresses of this listener, the answer to <c>ns.domain</c>.</summary>
    public IPAddress[] Addresses { get; } = addresses;

    /// <summary>Domains below ours that other servers hold (another data centre's, say); null: none.</summary>
    public DomainSet? Delegations { get; } = delegations;

    public bool ForwardSingleLabel { get; } = forwardSingleLabel;

    /// <summary>Whether the network of the listener is there and so the first of every client's; not on the fixed listener.</summary>
    public bool OwnNetworkFirst { get; init; }

    public SourceMap? Sources { get; } = sources;

    public Scope ScopeOf(in ClientAddress client) =>
        Sources is null ? DefaultScope : Sources.Find(client) ?? DefaultScope;
}

/// <summary>A few domains to match names against.</summary>
internal sealed class DomainSet(byte[][] domains)
{
    /// <param name="name">Lower-case wire name with the root octet, as are the domains.</param>
    public bool Covers(ReadOnlySpan<byte> name)
    {
        foreach (var domain in domains)
        {
            if (DnsName.IsAtOrBelow(name, domain))
                return true;
        }

        return false;
    }
}
