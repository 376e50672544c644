using System.Globalization;
using System.Runtime.CompilerServices;
using System.Text.Json;
using OverlayNet.Contracts;

namespace OverlayNet.Daemon.Agent;

/// <summary>The leases of floating VIPs at a manager.</summary>
public sealed partial class RegistryClient
{
    /// <summary>Reads with quorum.</summary>
    /// <inheritdoc cref="CreateEndpoint"/>
    public async Task<VipLeaseReading> ReadLease(string set, CancellationToken cancellation)
    {
        using var response = await Ask(() => new HttpRequestMessage(HttpMethod.Get, LeasePath(set)), HttpCompletionOption.ResponseContentRead, cancellation).ConfigureAwait(false);
        await ThrowIfRefused(response, cancellation).ConfigureAwait(false);
        await using var stream = await response.Content.ReadAsStreamAsync(cancellation).ConfigureAwait(false);
        return (await JsonSerializer.DeserializeAsync(stream, OverlayNetJson.Default.VipLeaseReading, cancellation).ConfigureAwait(false))!;
    }

    /// <inheritdoc cref="CreateEndpoint"/>
    public async Task<VipLeaseCommitted> CommitLease(string set, VipLeaseCommit commit, CancellationToken cancellation) =>
        (await Send(HttpMethod.Put, LeasePath(set), commit, OverlayNetJson.Default.VipLeaseCommit, OverlayNetJson.Default.VipLeaseCommitted, cancellation).ConfigureAwait(false)).Item1;

    /// <inheritdoc cref="CreateEndpoint"/>
    public async Task PlaceBid(string set, VipBid bid, CancellationToken cancellation)
    {
        var json = JsonSerializer.SerializeToUtf8Bytes(bid, OverlayNetJson.Default.VipBid);
        using var response = await Ask(
            () => new HttpRequestMessage(HttpMethod.Post, $"{LeasePath(set)}/bids") { Content = new ByteArrayContent(json) },
            HttpCompletionOption.ResponseContentRead, cancellation).ConfigureAwait(false);
        await ThrowIfRefused(response, cancellation).ConfigureAwait(false);
    }

    /// <summary>Leases and bids of a node's sets; ends when the manager closes it.</summary>
    /// <param name="after">The newest revision already seen; null: none.</param>
    /// <inheritdoc cref="CreateEndpoint"/>
    public async IAsyncEnumerable<VipLeaseEvent> WatchLeases(string nodeId, long? after, [EnumeratorCancellation] CancellationToken cancellation)
    {
        var path = string.Create(CultureInfo.InvariantCulture, $"/v1/vip-leases?node={nodeId}{(after is { } revision ? $"&after={revision}" : "")}");
        using var response = await Ask(() => new HttpRequestMessage(HttpMethod.Get, path), HttpCompletionOption.ResponseHeadersRead, cancellation).ConfigureAwait(false);
        await ThrowIfRefused(response, cancellation).ConfigureAwait(false);
        await using var stream = await response.Content.ReadAsStreamAsync(cancellation).ConfigureAwait(false);
        using var reader = new StreamReader(stream);
        while (await reader.ReadLineAsync(cancellation).ConfigureAwait(false) is { } line)
        {
            if (line.Length > 0)
                yield return JsonSerializer.Deserialize(line, OverlayNetJson.Default.VipLeaseEvent)!;
        }
    }

    private static string LeasePath(string set) => $"/v1/vip-leases/{set}";
}
