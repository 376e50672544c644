using System.Collections.Concurrent;
using System.Net;
using System.Security.Cryptography;
using System.Text;

namespace OverlayNet.Dns.Forward;

/// <summary>All groups of upstreams of one configuration, and the search for loops among them. Immutable but for health.</summary>
internal sealed class UpstreamSet : IDisposable
{
    // Not below the cluster domain, which may rightly be forwarded to us; not a special-use name that forwarders
    // answer by themselves.
    private static readonly byte[] ProbeDomain = DnsName.Encode("loop-probe.internal");

    private readonly CancellationTokenSource _stop = new();
    private readonly ConcurrentDictionary<string, Upstream> _probes = new();
    private readonly UpstreamGroup[] _groups;
    private readonly UpstreamGroup _default;

    public UpstreamSet(
        IReadOnlyList<IPEndPoint> servers, IReadOnlyList<DnsDomainUpstreams> domains, UpstreamClient client, TimeProvider time, TimeSpan tryTime, TimeSpan totalTime)
    {
        Servers = servers;
        Domains = domains;
        // One health record per address, however many domains it serves.
        var known = new Dictionary<IPEndPoint, Upstream>();
        UpstreamGroup Group(string domain, IReadOnlyList<IPEndPoint> endpoints)
        {
            var members = new List<Upstream>();
            foreach (var endpoint in endpoints)
            {
                if (!known.TryGetValue(endpoint, out var upstream))
                    known[endpoint] = upstream = new Upstream(endpoint, client, time, _stop.Token);
                members.Add(upstream);
            }

            return new UpstreamGroup(domain, members, time, tryTime, totalTime);
        }

        _default = Group("", servers);
        _groups = [.. domains.Select(d => Group(d.Domain, d.Upstreams)).OrderByDescending(g => g.WireDomain.Length)];
        All = [.. known.Values];
    }

    public IReadOnlyList<IPEndPoint> Servers { get; }

    public IReadOnlyList<DnsDomainUpstreams> Domains { get; }

    public IReadOnlyList<Upstream> All { get; }

    /// <summary>The upstreams for a lower-case wire name: those of the longest domain above it.</summary>
    public UpstreamGroup For(ReadOnlySpan<byte> name)
    {
        foreach (var group in _groups)
        {
            if (DnsName.IsAtOrBelow(name, group.WireDomain))
                return group;
        }

        return _default;
    }

    /// <summary>Asks every upstream for a name only we would ask for; whoever passes it back to us is a loop.</summary>
    public void StartLoopProbes()
    {
        foreach (var upstream in All)
        {
            var token = Convert.ToHexStringLower(RandomNumberGenerator.GetBytes(16));
            _probes[token] = upstream;
            byte[] name = [(byte)token.Length, .. Encoding.ASCII.GetBytes(token), .. ProbeDomain];
            _ = upstream.ProbeForLoopAsync(new UpstreamQuery(name, RrType.TXT, false, false, false));
        }
    }

    /// <summary>The upstream whose probe this name is; it is then out of use.</summary>
    public Upstream? RecogniseLoop(ReadOnlySpan<byte> name)
    {
        if (!name.EndsWith(ProbeDomain) || name.Length != ProbeDomain.Length + 33)
            return null;
        if (!_probes.TryGetValue(Encoding.ASCII.GetString(name.Slice(1, 32)), out var upstream))
            return null;
        upstream.IsLooping = true;
        return upstream;
    }

    /// <summary>Ends the probing; questions under way are let finish.</summary>
    public void Dispose() => _stop.Cancel();
}
