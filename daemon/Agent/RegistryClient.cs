using System.Globalization;
using System.Net;
using System.Net.Http.Headers;
using System.Runtime.CompilerServices;
using System.Text.Json;
using System.Text.Json.Serialization.Metadata;
using OverlayNet.Contracts;
using OverlayNet.Daemon.Registry;

namespace OverlayNet.Daemon.Agent;

/// <summary>
/// The agent's way to the registry: a manager's HTTP API, over mutual TLS, or over the unix socket of its own node when
/// that is a manager. Managers are asked in turn until one answers.
/// </summary>
public sealed partial class RegistryClient(HttpClient http, IReadOnlyList<Uri> managers, TimeProvider time)
{
    private int _current;
    private long _lastAnswer;

    /// <summary>Timestamp of the last answer of a manager that was no refusal; 0: none yet.</summary>
    public long LastAnswer => Volatile.Read(ref _lastAnswer);

    /// <summary>The manager that answered last.</summary>
    public Uri Current => managers[_current % managers.Count];

    /// <exception cref="RegistryException">Refused, or no manager answers (503, code <c>no-manager</c>).</exception>
    public Task<(Endpoint Endpoint, long Revision)> CreateEndpoint(EndpointCreateRequest request, CancellationToken cancellation) =>
        Send(HttpMethod.Post, "/v1/endpoints", request, OverlayNetJson.Default.EndpointCreateRequest, OverlayNetJson.Default.Endpoint, cancellation);

    /// <inheritdoc cref="CreateEndpoint"/>
    public Task<(Endpoint Endpoint, long Revision)> UpdateEndpoint(string id, EndpointUpdateRequest request, CancellationToken cancellation) =>
        Send(HttpMethod.Patch, $"/v1/endpoints/{id}", request, OverlayNetJson.Default.EndpointUpdateRequest, OverlayNetJson.Default.Endpoint, cancellation);

    /// <inheritdoc cref="CreateEndpoint"/>
    public Task<(Network Network, long Revision)> CreateNetwork(NetworkCreateRequest request, CancellationToken cancellation) =>
        Send(HttpMethod.Post, "/v1/networks", request, OverlayNetJson.Default.NetworkCreateRequest, OverlayNetJson.Default.Network, cancellation);

    /// <inheritdoc cref="CreateEndpoint"/>
    public Task<(Network Network, long Revision)> UpdateNetwork(string id, NetworkUpdateRequest request, CancellationToken cancellation) =>
        Send(HttpMethod.Patch, $"/v1/networks/{id}", request, OverlayNetJson.Default.NetworkUpdateRequest, OverlayNetJson.Default.Network, cancellation);

    /// <returns>The revision without the network; one that is gone already is fine.</returns>
    /// <inheritdoc cref="CreateEndpoint"/>
    public Task<long> DeleteNetwork(string id, CancellationToken cancellation) => Delete($"/v1/networks/{id}", cancellation);

    /// <returns>The revision without the endpoint; one that is gone already is fine.</returns>
    /// <inheritdoc cref="CreateEndpoint"/>
    public Task<long> DeleteEndpoint(string id, CancellationToken cancellation) => Delete($"/v1/endpoints/{id}", cancellation);

    /// <inheritdoc cref="CreateEndpoint"/>
    public async Task<HeartbeatResponse> Heartbeat(HeartbeatRequest request, CancellationToken cancellation) =>
        (await Send(HttpMethod.Post, $"/v1/nodes/{request.NodeId}/heartbeat", request, OverlayNetJson.Default.HeartbeatRequest, OverlayNetJson.Default.HeartbeatResponse, cancellation).ConfigureAwait(false)).Item1;

    /// <returns>What managers ask of this node at present.</returns>
    /// <inheritdoc cref="CreateEndpoint"/>
    public async Task<ProbeTasks> ReportHealth(HealthReport report, CancellationToken cancellation) =>
        (await Send(HttpMethod.Post, $"/v1/nodes/{report.NodeId}/health", report, OverlayNetJson.Default.HealthReport, OverlayNetJson.Default.ProbeTasks, cancellation).ConfigureAwait(false)).Item1;

    /// <summary>Waits, for as long as a manager cares to, until it asks something else than in <paramref name="after"/>.</summary>
    /// <inheritdoc cref="CreateEndpoint"/>
    public async Task<ProbeTasks> WaitForProbeTasks(string nodeId, long after, CancellationToken cancellation)
    {
        var path = string.Create(CultureInfo.InvariantCulture, $"/v1/nodes/{nodeId}/probes?after={after}");
        using var response = await Ask(() => new HttpRequestMessage(HttpMethod.Get, path), HttpCompletionOption.ResponseContentRead, cancellation).ConfigureAwait(false);
        await ThrowIfRefused(response, cancellation).ConfigureAwait(false);
        await using var stream = await response.Content.ReadAsStreamAsync(cancellation).ConfigureAwait(false);
        return (await JsonSerializer.DeserializeAsync(stream, OverlayNetJson.Default.ProbeTasks, cancellation).ConfigureAwait(false))!;
    }

    /// <summary>The watch stream from a revision on; ends when the manager closes it.</summary>
    /// <inheritdoc cref="CreateEndpoint"/>
    public async IAsyncEnumerable<WatchMessage> Watch(long from, long incarnation, [EnumeratorCancellation] CancellationToken cancellation)
    {
        var path = string.Create(CultureInfo.InvariantCulture, $"/v1/watch?from={from}&incarnation={incarnation}");
        using var response = await Ask(() => new HttpRequestMessage(HttpMethod.Get, path), HttpCompletionOption.ResponseHeadersRead, cancellation).ConfigureAwait(false);
        await ThrowIfRefused(response, cancellation).ConfigureAwait(false);
        await using var stream = await response.Content.ReadAsStreamAsync(cancellation).ConfigureAwait(false);
        using var reader = new StreamReader(stream);
        while (await reader.ReadLineAsync(cancellation).ConfigureAwait(false) is { } line)
        {
            if (line.Length > 0)
                yield return JsonSerializer.Deserialize(line, OverlayNetJson.Default.WatchMessage)!;
        }
    }

    /// <summary>Passes a request of this node's API on to a manager and gives its answer as it is.</summary>
    /// <inheritdoc cref="CreateEndpoint"/>
    public Task<HttpResponseMessage> Forward(Func<HttpRequestMessage> request, CancellationToken cancellation) =>
        Ask(request, HttpCompletionOption.ResponseHeadersRead, cancellation);

    private async Task<long> Delete(string path, CancellationToken cancellation)
    {
        using var response = await Ask(() => new HttpRequestMessage(HttpMethod.Delete, path), HttpCompletionOption.ResponseContentRead, cancellation).ConfigureAwait(false);
        if (response.StatusCode == HttpStatusCode.NotFound)
            return 0;
        await ThrowIfRefused(response, cancellation).ConfigureAwait(false);
        return RevisionOf(response);
    }

    private async Task<(TAnswer, long)> Send<TBody, TAnswer>(
        HttpMethod method, string path, TBody body, JsonTypeInfo<TBody> bodyType, JsonTypeInfo<TAnswer> answerType, CancellationToken cancellation)
    {
        var json = JsonSerializer.SerializeToUtf8Bytes(body, bodyType);
        using var response = await Ask(
            () =>
            {
                var content = new ByteArrayContent(json);
                content.Headers.ContentType = new MediaTypeHeaderValue("application/json");
                return new HttpRequestMessage(method, path) { Content = content };
            },
            HttpCompletionOption.ResponseContentRead,
            cancellation).ConfigureAwait(false);
        await ThrowIfRefused(response, cancellation).ConfigureAwait(false);
        await using var stream = await response.Content.ReadAsStreamAsync(cancellation).ConfigureAwait(false);
        var answer = await JsonSerializer.DeserializeAsync(stream, answerType, cancellation).ConfigureAwait(false);
        return (answer!, RevisionOf(response));
    }

    private async Task<HttpResponseMessage> Ask(Func<HttpRequestMessage> make, HttpCompletionOption completion, CancellationToken cancellation)
    {
        HttpRequestException? last = null;
        for (var attempt = 0; attempt < managers.Count; attempt++)
        {
            using var request = make();
            request.RequestUri = new Uri(Current, request.RequestUri!);
            request.Headers.Add(Protocol.Header, Protocol.Version.ToString(CultureInfo.InvariantCulture));
            request.Version = HttpVersion.Version11;
            try
            {
                var response = await http.SendAsync(request, completion, cancellation).ConfigureAwait(false);
                if (response.IsSuccessStatusCode)
                    Volatile.Write(ref _lastAnswer, time.GetTimestamp());
                return response;
            }
            catch (HttpRequestException e)
            {
                last = e;
                _current = (_current + 1) % managers.Count;
            }
        }
        throw new RegistryException((int)HttpStatusCode.ServiceUnavailable, new ErrorBody
        {
            Code = "no-manager",
            Message = $"no manager answers ({string.Join(", ", managers.Select(m => m.Authority))}): {last?.InnerException?.Message ?? last?.Message}",
            Remedy = "names and VIPs go on from the last snapshot; bring a manager back, or see 'overlaynet status'",
        });
    }

    private static async Task ThrowIfRefused(HttpResponseMessage response, CancellationToken cancellation)
    {
        if (response.IsSuccessStatusCode)
            return;
        var text = await response.Content.ReadAsStringAsync(cancellation).ConfigureAwait(false);
        ErrorBody? error = null;
        try
        {
            error = JsonSerializer.Deserialize(text, OverlayNetJson.Default.ErrorBody);
        }
        catch (JsonException)
        {
            // Not ours (a proxy's page): said below with its status.
        }
        throw new RegistryException((int)response.StatusCode, error ?? new ErrorBody
        {
            Code = "unexpected-answer",
            Message = $"the manager answered {(int)response.StatusCode} {response.ReasonPhrase}",
        });
    }

    private static long RevisionOf(HttpResponseMessage response) =>
        response.Headers.TryGetValues(Protocol.RevisionHeader, out var values)
        && long.TryParse(values.First(), NumberStyles.None, CultureInfo.InvariantCulture, out var revision)
            ? revision
            : 0;
}
