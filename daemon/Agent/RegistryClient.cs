using System.Globalization;
using System.Net;
using System.Runtime.CompilerServices;
using System.Text.Json;
using System.Text.Json.Serialization.Metadata;
using OverlayNet.Contracts;
using OverlayNet.Daemon.Metrics;
using OverlayNet.Daemon.Registry;
using OverlayNet.Daemon.Tracing;

namespace OverlayNet.Daemon.Agent;

/// <summary>
/// The agent's way to the registry: a manager's HTTP API over mutual TLS. The managers are asked in the order of
/// <see cref="ManagerSelector"/> until one answers that can.
/// </summary>
public sealed partial class RegistryClient(HttpClient http, ManagerSelector selector, TimeProvider time)
{
    // A manager may itself wait out an election before it answers.
    private static readonly TimeSpan MoveAfter = TimeSpan.FromSeconds(2);
    private static readonly TimeSpan AttemptTimeout = TimeSpan.FromSeconds(8), HeartbeatTimeout = TimeSpan.FromSeconds(1.5), StoreJoinTimeout = TimeSpan.FromSeconds(60);
    private static readonly TimeSpan StartPause = TimeSpan.FromMilliseconds(200);
    private const int MostStarts = 10;
    private long _lastAnswer;

    /// <summary>Timestamp of the last answer of a manager that was no refusal; 0: none yet.</summary>
    public long LastAnswer => Volatile.Read(ref _lastAnswer);

    /// <summary>The same over other connections: those that are open show the certificate they were made with.</summary>
    public RegistryClient Over(HttpClient other) => new(other, selector, time);

    /// <exception cref="RegistryException">Refused, or no manager answers (503, code <c>no-manager</c>).</exception>
    public Task<(Endpoint Endpoint, long Revision)> CreateEndpoint(EndpointCreateRequest request, CancellationToken cancellation) =>
        Send(HttpMethod.Post, "/v1/endpoints", request, OverlayNetJson.Default.EndpointCreateRequest, OverlayNetJson.Default.Endpoint, cancellation);

    /// <inheritdoc cref="CreateEndpoint"/>
    public Task<(Endpoint Endpoint, long Revision)> UpdateEndpoint(string id, EndpointUpdateRequest request, CancellationToken cancellation) =>
        Send(HttpMethod.Patch, $"/v1/endpoints/{id}", request, OverlayNetJson.Default.EndpointUpdateRequest, OverlayNetJson.Default.Endpoint, cancellation);

    /// <inheritdoc cref="CreateEndpoint"/>
    public Task<(Service Service, long Revision)> CreateService(ServiceCreateRequest request, CancellationToken cancellation) =>
        Send(HttpMethod.Post, "/v1/services", request, OverlayNetJson.Default.ServiceCreateRequest, OverlayNetJson.Default.Service, cancellation);

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
        (await Send(HttpMethod.Post, $"/v1/nodes/{request.NodeId}/heartbeat", request, OverlayNetJson.Default.HeartbeatRequest, OverlayNetJson.Default.HeartbeatResponse, cancellation, HeartbeatTimeout).ConfigureAwait(false)).Item1;

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

    /// <summary>Says what this node has, after the registry has been replaced.</summary>
    /// <inheritdoc cref="CreateEndpoint"/>
    public async Task<AssertResponse> Assert(string nodeId, AssertRequest request, CancellationToken cancellation) =>
        (await Send(HttpMethod.Post, $"/v1/nodes/{nodeId}/assert", request, ManagersJson.Default.AssertRequest, ManagersJson.Default.AssertResponse, cancellation).ConfigureAwait(false)).Item1;

    /// <summary>A certificate of this node's present role.</summary>
    /// <inheritdoc cref="CreateEndpoint"/>
    public async Task<CertificateResponse> Certificate(string nodeId, string csr, CancellationToken cancellation) =>
        (await Send(HttpMethod.Post, $"/v1/nodes/{nodeId}/certificate", new CertificateRequestBody { Csr = csr }, ManagersJson.Default.CertificateRequestBody, ManagersJson.Default.CertificateResponse, cancellation).ConfigureAwait(false)).Item1;

    /// <summary>A place in the store, for this node as a manager.</summary>
    /// <inheritdoc cref="CreateEndpoint"/>
    public async Task<StoreJoinResponse> JoinStore(StoreJoinRequest request, CancellationToken cancellation) =>
        (await Send(HttpMethod.Post, "/v1/managers/store", request, ManagersJson.Default.StoreJoinRequest, ManagersJson.Default.StoreJoinResponse, cancellation, StoreJoinTimeout).ConfigureAwait(false)).Item1;

    /// <summary>The watch stream from a revision on; ends when the manager closes it, has lost its majority, or a better one is fit again.</summary>
    /// <inheritdoc cref="CreateEndpoint"/>
    public async IAsyncEnumerable<WatchMessage> Watch(long from, long incarnation, [EnumeratorCancellation] CancellationToken cancellation)
    {
        var path = string.Create(CultureInfo.InvariantCulture, $"/v1/watch?from={from}&incarnation={incarnation}");
        using var response = await Ask(() => new HttpRequestMessage(HttpMethod.Get, path), HttpCompletionOption.ResponseHeadersRead, cancellation).ConfigureAwait(false);
        await ThrowIfRefused(response, cancellation).ConfigureAwait(false);
        var manager = new Uri(response.RequestMessage!.RequestUri!, "/");
        var since = time.GetTimestamp();
        await using var stream = await response.Content.ReadAsStreamAsync(cancellation).ConfigureAwait(false);
        using var reader = new StreamReader(stream);
        while (await reader.ReadLineAsync(cancellation).ConfigureAwait(false) is { } line)
        {
            if (line.Length == 0)
                continue;
            var message = Read(line, manager);
            yield return message;
            if (message.Stale == true)
            {
                // Another may have the majority. When none has, this goes round, and serves as before.
                selector.Failed(manager);
                yield break;
            }
            if (message.Snapshot is null && message.Changes is null && time.GetElapsedTime(since) > MoveAfter && selector.Order()[0] is var better && better != manager)
            {
                since = time.GetTimestamp();
                if (await IsFit(better, cancellation).ConfigureAwait(false))
                    yield break;
                selector.Failed(better);
            }
        }
    }

    /// <exception cref="RegistryException">A manager of a newer release says what this one has no words for.</exception>
    private WatchMessage Read(string line, Uri manager)
    {
        try
        {
            return JsonSerializer.Deserialize(line, OverlayNetJson.Default.WatchMessage)!;
        }
        catch (JsonException e)
        {
            selector.Failed(manager);
            throw new RegistryException(StatusCodes.Status502BadGateway, new ErrorBody
            {
                Code = "not-understood",
                Message = $"manager {manager.Authority} says what this daemon ({Protocol.Release}) cannot read: {e.Message}",
                Remedy = "upgrade this node to the manager's release; names and VIPs go on from the last snapshot",
            }, e);
        }
    }

    private async Task<bool> IsFit(Uri manager, CancellationToken cancellation)
    {
        using var timeout = CancellationTokenSource.CreateLinkedTokenSource(cancellation);
        timeout.CancelAfter(HeartbeatTimeout);
        try
        {
            using var response = await http.GetAsync(new Uri(manager, $"/v1/nodes/{selector.ClientId}"), timeout.Token).ConfigureAwait(false);
            return response.IsSuccessStatusCode && Distance(response) is null && response.Headers.TryGetValues(Protocol.ReadHeader, out var read) && read.First() == "fresh";
        }
        catch (Exception e) when (e is HttpRequestException || (e is OperationCanceledException && !cancellation.IsCancellationRequested))
        {
            return false;
        }
    }

    /// <summary>Passes a request of this node's API on to a manager and gives its answer as it is.</summary>
    /// <inheritdoc cref="CreateEndpoint"/>
    public Task<HttpResponseMessage> Forward(Func<HttpRequestMessage> request, CancellationToken cancellation) =>
        Ask(
            () =>
            {
                var forwarded = request();
                forwarded.Headers.Add(Protocol.ForwardedHeader, "1");
                return forwarded;
            },
            HttpCompletionOption.ResponseHeadersRead, cancellation);

    private async Task<long> Delete(string path, CancellationToken cancellation)
    {
        using var response = await Ask(() => new HttpRequestMessage(HttpMethod.Delete, path), HttpCompletionOption.ResponseContentRead, cancellation).ConfigureAwait(false);
        if (response.StatusCode == HttpStatusCode.NotFound)
            return 0;
        await ThrowIfRefused(response, cancellation).ConfigureAwait(false);
        return RevisionOf(response);
    }

    private async Task<(TAnswer, long)> Send<TBody, TAnswer>(
        HttpMethod method, string path, TBody body, JsonTypeInfo<TBody> bodyType, JsonTypeInfo<TAnswer> answerType, CancellationToken cancellation,
        TimeSpan? attempt = null)
    {
        var json = JsonSerializer.SerializeToUtf8Bytes(body, bodyType);
        using var response = await Ask(
            () => new HttpRequestMessage(method, path) { Content = JsonBody.Of(json) },
            HttpCompletionOption.ResponseContentRead,
            cancellation,
            attempt).ConfigureAwait(false);
        await ThrowIfRefused(response, cancellation).ConfigureAwait(false);
        await using var stream = await response.Content.ReadAsStreamAsync(cancellation).ConfigureAwait(false);
        var answer = await JsonSerializer.DeserializeAsync(stream, answerType, cancellation).ConfigureAwait(false);
        return (answer!, RevisionOf(response));
    }

    /// <remarks>Every call of an agent may be made twice: objects carry ids that the caller chose.</remarks>
    private async Task<HttpResponseMessage> Ask(Func<HttpRequestMessage> make, HttpCompletionOption completion, CancellationToken cancellation, TimeSpan? attempt = null)
    {
        for (var starts = 0; ; starts++)
        {
            try
            {
                return await AskOnce(make, completion, cancellation, attempt).ConfigureAwait(false);
            }
            catch (RegistryException e) when (starts < MostStarts
                && e.InnerException is HttpRequestException { HttpRequestError: HttpRequestError.SecureConnectionError or HttpRequestError.ResponseEnded })
            {
                // It took the connection and let it go: a manager that is just starting, or on its way down.
                DaemonInstruments.RegistryRetries.Add(1);
                await Task.Delay(StartPause, time, cancellation).ConfigureAwait(false);
            }
        }
    }

    private async Task<HttpResponseMessage> AskOnce(Func<HttpRequestMessage> make, HttpCompletionOption completion, CancellationToken cancellation, TimeSpan? attempt)
    {
        Exception? last = null;
        HttpResponseMessage? refusal = null;
        var managers = selector.Order();
        foreach (var manager in managers)
        {
            using var request = make();
            request.RequestUri = new Uri(manager, request.RequestUri!);
            request.Headers.Add(Protocol.Header, Protocol.Version.ToString(CultureInfo.InvariantCulture));
            if (Traces.Current?.Id is { } trace)
                request.Headers.TryAddWithoutValidation("traceparent", trace);
            request.Version = HttpVersion.Version11;
            using var timeout = CancellationTokenSource.CreateLinkedTokenSource(cancellation);
            timeout.CancelAfter(attempt ?? AttemptTimeout);
            try
            {
                var response = await http.SendAsync(request, completion, timeout.Token).ConfigureAwait(false);
                refusal?.Dispose();
                refusal = null;
                // The others may be of another release: managers are upgraded one after the other.
                if (Distance(response) is { } version)
                {
                    selector.Failed(manager);
                    last = new HttpRequestException($"it speaks protocol version {version}, this node {Protocol.Version}");
                    // It says so itself, and what to do.
                    if (response.IsSuccessStatusCode)
                        response.Dispose();
                    else
                        refusal = response;
                    continue;
                }
                if (response.StatusCode == HttpStatusCode.ServiceUnavailable)
                {
                    selector.Failed(manager);
                    DaemonInstruments.RegistryRetries.Add(1);
                    refusal = response;
                    continue;
                }
                selector.Succeeded(manager);
                if (response.IsSuccessStatusCode)
                    Volatile.Write(ref _lastAnswer, time.GetTimestamp());
                return response;
            }
            catch (Exception e) when (e is HttpRequestException || (e is OperationCanceledException && !cancellation.IsCancellationRequested))
            {
                last = e;
                DaemonInstruments.RegistryRetries.Add(1);
                selector.Failed(manager);
            }
        }
        if (refusal is not null)
            return refusal;
        throw new RegistryException((int)HttpStatusCode.ServiceUnavailable, new ErrorBody
        {
            Code = "no-manager",
            Message = $"no manager answers ({string.Join(", ", managers.Select(m => m.Authority))}): {last?.InnerException?.Message ?? last?.Message}",
            Remedy = "names and VIPs go on from the last snapshot; bring a manager back, or see 'overlaynet status'",
        }, last);
    }

    /// <returns>The version of a manager that is too far from ours to be understood; null: it is not.</returns>
    private static int? Distance(HttpResponseMessage response) =>
        response.Headers.TryGetValues(Protocol.Header, out var values)
        && int.TryParse(values.First(), NumberStyles.None, CultureInfo.InvariantCulture, out var version) && !Protocol.Understands(version)
            ? version
            : null;

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
