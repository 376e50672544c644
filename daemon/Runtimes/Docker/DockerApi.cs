using System.Net;
using System.Net.Sockets;
using System.Runtime.CompilerServices;
using System.Text.Json;
using System.Text.Json.Serialization.Metadata;
using OverlayNet.Contracts;

namespace OverlayNet.Daemon.Runtimes.Docker;

/// <summary>Docker did not do what was asked of it, or does not answer; the message is Docker's own.</summary>
internal sealed class DockerException(string message, HttpStatusCode? status = null) : Exception(message)
{
    /// <summary>Null: no answer.</summary>
    public HttpStatusCode? Status { get; } = status;
}

/// <summary>The Docker Engine API on its unix socket. Never called while Docker waits for an answer of ours: it may hold locks.</summary>
/// <remarks>Every method throws <see cref="DockerException"/>.</remarks>
internal sealed class DockerApi : IDisposable
{
    private static readonly TimeSpan Timeout = TimeSpan.FromSeconds(30);
    private readonly string _path;
    private readonly HttpClient _http;

    public DockerApi(string path)
    {
        _path = path;
        _http = new HttpClient(new SocketsHttpHandler
        {
            // A restarted dockerd leaves dead connections behind.
            PooledConnectionIdleTimeout = TimeSpan.FromSeconds(10),
            ConnectCallback = async (_, cancellation) =>
            {
                var socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
                try
                {
                    await socket.ConnectAsync(new UnixDomainSocketEndPoint(path), cancellation).ConfigureAwait(false);
                    return new NetworkStream(socket, ownsSocket: true);
                }
                catch
                {
                    socket.Dispose();
                    throw;
                }
            },
        })
        {
            BaseAddress = new Uri("http://docker/"),
            Timeout = System.Threading.Timeout.InfiniteTimeSpan,
        };
    }

    /// <summary>Whether there is a Docker on this host at all.</summary>
    public bool Exists => File.Exists(_path);

    public Task<DockerVersion> Version(CancellationToken cancellation) => Get("version", DockerJson.Default.DockerVersion, cancellation);

    public Task<List<DockerNetwork>> Networks(CancellationToken cancellation) => Get("networks", DockerJson.Default.ListDockerNetwork, cancellation);

    /// <summary>Running containers.</summary>
    public Task<List<DockerContainerEntry>> Containers(CancellationToken cancellation) => Get("containers/json", DockerJson.Default.ListDockerContainerEntry, cancellation);

    /// <returns>Null when it is gone.</returns>
    public async Task<DockerContainer?> Container(string id, CancellationToken cancellation)
    {
        try
        {
            return await Get($"containers/{id}/json", DockerJson.Default.DockerContainer, cancellation).ConfigureAwait(false);
        }
        catch (DockerException e) when (e.Status == HttpStatusCode.NotFound)
        {
            return null;
        }
    }

    public async Task CreateNetwork(DockerNetworkCreate network, CancellationToken cancellation)
    {
        using var request = new HttpRequestMessage(HttpMethod.Post, "networks/create") { Content = JsonBody.Of(network, DockerJson.Default.DockerNetworkCreate) };
        using var response = await Send(request, HttpCompletionOption.ResponseContentRead, cancellation).ConfigureAwait(false);
    }

    /// <summary>One that is gone already is fine.</summary>
    public async Task RemoveNetwork(string id, CancellationToken cancellation)
    {
        using var request = new HttpRequestMessage(HttpMethod.Delete, $"networks/{id}");
        try
        {
            using var response = await Send(request, HttpCompletionOption.ResponseContentRead, cancellation).ConfigureAwait(false);
        }
        catch (DockerException e) when (e.Status == HttpStatusCode.NotFound)
        {
            // As wanted.
        }
    }

    /// <summary>Events of containers and networks from now on; ends when Docker does.</summary>
    public async IAsyncEnumerable<DockerEvent> Events(Action connected, [EnumeratorCancellation] CancellationToken cancellation)
    {
        const string filters = """{"type":["container","network"]}""";
        using var request = new HttpRequestMessage(HttpMethod.Get, $"events?filters={Uri.EscapeDataString(filters)}");
        using var response = await Send(request, HttpCompletionOption.ResponseHeadersRead, cancellation).ConfigureAwait(false);
        connected();
        await using var stream = await response.Content.ReadAsStreamAsync(cancellation).ConfigureAwait(false);
        using var reader = new StreamReader(stream);
        while (await Line(reader, cancellation).ConfigureAwait(false) is { } line)
        {
            if (line.Length > 0 && JsonSerializer.Deserialize(line, DockerJson.Default.DockerEvent) is { } entry)
                yield return entry;
        }
    }

    public void Dispose() => _http.Dispose();

    private static async Task<string?> Line(StreamReader reader, CancellationToken cancellation)
    {
        try
        {
            return await reader.ReadLineAsync(cancellation).ConfigureAwait(false);
        }
        catch (Exception e) when (e is IOException or HttpRequestException)
        {
            // It ended in the middle, as at a kill.
            return null;
        }
    }

    private async Task<T> Get<T>(string path, JsonTypeInfo<T> type, CancellationToken cancellation)
    {
        using var request = new HttpRequestMessage(HttpMethod.Get, path);
        using var response = await Send(request, HttpCompletionOption.ResponseContentRead, cancellation).ConfigureAwait(false);
        try
        {
            return JsonSerializer.Deserialize(await response.Content.ReadAsByteArrayAsync(cancellation).ConfigureAwait(false), type)!;
        }
        catch (JsonException e)
        {
            throw new DockerException($"{path}: {e.Message}");
        }
    }

    private async Task<HttpResponseMessage> Send(HttpRequestMessage request, HttpCompletionOption completion, CancellationToken cancellation)
    {
        using var timeout = CancellationTokenSource.CreateLinkedTokenSource(cancellation);
        timeout.CancelAfter(Timeout);
        HttpResponseMessage response;
        try
        {
            response = await _http.SendAsync(request, completion, timeout.Token).ConfigureAwait(false);
        }
        catch (HttpRequestException e)
        {
            throw new DockerException($"{_path}: {e.InnerException?.Message ?? e.Message}");
        }
        catch (OperationCanceledException) when (!cancellation.IsCancellationRequested)
        {
            throw new DockerException($"{_path}: no answer to {request.RequestUri} within {Timeout.TotalSeconds:0} s");
        }
        if (response.IsSuccessStatusCode)
            return response;
        using (response)
        {
            var text = await response.Content.ReadAsStringAsync(cancellation).ConfigureAwait(false);
            throw new DockerException(MessageOf(text) ?? $"{(int)response.StatusCode} {response.ReasonPhrase}", response.StatusCode);
        }
    }

    private static string? MessageOf(string text)
    {
        try
        {
            return JsonSerializer.Deserialize(text, DockerJson.Default.DockerError)?.Message;
        }
        catch (JsonException)
        {
            return null;
        }
    }
}
