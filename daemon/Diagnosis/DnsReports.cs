using System.Net;
using OverlayNet.Contracts;
using OverlayNet.Daemon.Agent;
using OverlayNet.Daemon.Registry;
using OverlayNet.Dns;

namespace OverlayNet.Daemon.Diagnosis;

/// <summary>What the node's DNS server would answer, holds and remembers, in the API's terms.</summary>
internal static class DnsReports
{
    /// <param name="from">Name, id or address of the endpoint that asks; empty: the node itself.</param>
    /// <exception cref="RegistryException">400: no such endpoint, or name or type cannot be read.</exception>
    public static async Task<DnsQueryReport> Query(NodeAgent agent, string name, string type, string from)
    {
        if (name.Length == 0)
            throw Refuse.Invalid("invalid-query", "name", name, "a name to ask for is missing", "write ?name=web");
        var (networkId, source) = Client(agent, from);
        try
        {
            var explained = await agent.Dns.ExplainAsync(name, type.Length > 0 ? type : "A", source, networkId, forward: true).ConfigureAwait(false);
            return new DnsQueryReport
            {
                Name = explained.Name,
                Type = explained.Type,
                Rcode = explained.Rcode.ToString().ToUpperInvariant(),
                Answers = Lines(explained.Answers),
                Why = Why(explained),
                Revision = explained.Revision,
                Source = explained.Source,
                Networks = explained.Networks,
                Origin = explained.Origin,
                Candidates = explained.Candidates,
                Age = explained.Age,
                Authority = Lines(explained.Authority),
                Additional = Lines(explained.Additional),
                InKernel = explained.InKernel,
            };
        }
        catch (FormatException e)
        {
            throw Refuse.Invalid("invalid-query", "name", name, e.Message, "give a DNS name and a record type such as A, AAAA, SRV, PTR or TXT");
        }
    }

    private static List<string> Lines(IReadOnlyList<DnsRecord> records) => [.. records.Select(record => $"{record.Name} {record.Ttl} {record.Type} {record.Data}")];

    /// <param name="network">Name or id; empty: all.</param>
    public static List<DnsTableEntry> Table(NodeAgent agent, string network) =>
    [
        .. agent.Dns.DumpTable(network.Length > 0 ? Resolve.Network(agent.Follower.Current, network).Id : null)
            .Select(record => new DnsTableEntry { Network = record.Network, Name = record.Name, Type = record.Type, Ttl = record.Ttl, Data = record.Data })
            .OrderBy(record => record.Network, StringComparer.Ordinal)
            .ThenBy(record => record.Name, StringComparer.Ordinal)
            .ThenBy(record => record.Type, StringComparer.Ordinal)
            .ThenBy(record => record.Data, StringComparer.Ordinal),
    ];

    public static List<DnsCacheEntry> Cache(NodeAgent agent) =>
    [
        .. agent.Dns.DumpCache()
            .Select(record => new DnsCacheEntry
            {
                Name = record.Name,
                Type = record.Type,
                Rcode = record.Rcode.ToString().ToUpperInvariant(),
                SecondsLeft = record.SecondsLeft,
                Upstream = record.Upstream,
                Hits = record.Hits,
                Bytes = record.Bytes,
            })
            .OrderBy(record => record.Name, StringComparer.Ordinal)
            .ThenBy(record => record.Type, StringComparer.Ordinal),
    ];

    public static List<string> Upstreams(NodeAgent agent) => [.. agent.Dns.DumpUpstreams()];

    private static (string? NetworkId, IPAddress Source) Client(NodeAgent agent, string from)
    {
        var snapshot = agent.Follower.Current;
        if (from.Length == 0)
        {
            // A node has no listener of its own here: it is answered as a member of its networks, the first by name first.
            var own = snapshot.Endpoints.Values
                .Where(endpoint => endpoint.Kind == EndpointKind.Node && endpoint.NodeId == agent.Membership.NodeId)
                .OrderBy(endpoint => snapshot.Networks.GetValueOrDefault(endpoint.NetworkId)?.Name, StringComparer.Ordinal)
                .FirstOrDefault();
            return own is null ? (null, agent.Membership.Address) : (own.NetworkId, own.Address4 ?? own.Address6!);
        }
        var endpoint = IPAddress.TryParse(from, out var address)
            ? snapshot.Endpoints.Values.FirstOrDefault(candidate => address.Equals(candidate.Address4) || address.Equals(candidate.Address6))
            : snapshot.FindEndpoint(from).Value;
        return endpoint is not null
            ? (endpoint.NetworkId, address ?? endpoint.Address4 ?? endpoint.Address6!)
            : throw Refuse.Invalid("not-found", "from", from, "no endpoint has this name, id or address", "see 'overlaynet endpoint ls'");
    }

    private static string Why(DnsExplanation explained) => explained.Origin switch
    {
        "table" => $"{explained.Rule}: {explained.Entry} in network {explained.Network}, revision {explained.Revision}",
        "none" => explained.Rule,
        _ => $"{explained.Rule}: {explained.Origin}{(explained.Upstream is { } upstream ? $" {upstream}" : "")}",
    };
}
