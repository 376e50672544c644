using System.Net.Sockets;
using System.Runtime.CompilerServices;
using System.Text.Json;
using System.Text.Json.Serialization.Metadata;
using OverlayNet.Contracts;
using OverlayNet.Tools.Cli;

namespace OverlayNet.Tools.Api;

/// <summary>The daemon does not answer on its socket: it is dead, hung, or somewhere else.</summary>
internal sealed class DaemonUnreachable(string socket, string reason) : Exception($"the daemon does not answer on {socket}: {reason}")
{
    public string Socket { get; } = socket;
}

/// <summary>The daemon's HTTP API over its unix socket.</summary>
internal sealed class ApiClient : IDisposable
{
    // Longer than any request of ours takes: a hung daemon must not hang its clients for good.
    private static readonly TimeSpan Timeout = TimeSpan.FromSeconds(60);
    private readonly HttpClient _http;
    private readonly string _socket;
    private bool _saidStale;

    public ApiClient(string socket, TimeSpan? timeout = null)
    {
        _socket = socket;
        _http = new HttpClient(new SocketsHttpHandler
        {
            UseProxy = false,
            UseCookies = false,
            AllowAutoRedirect = false,
            ConnectCallback = async (_, cancellation) =>
            {
                var connection = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
                try
                {
                    await connection.ConnectAsync(new UnixDomainSocketEndPoint(socket), cancellation).ConfigureAwait(false);
                    return new NetworkStream(connection, ownsSocket: true);
                }
                catch
                {
                    connection.Dispose();
                    throw;
                }
            },
        })
        {
            BaseAddress = new Uri("http://overlaynet"),
            Timeout = timeout ?? Timeout,
        };
        _http.DefaultRequestHeaders.Add(Protocol.Header, Protocol.Version.ToString(System.Globalization.CultureInfo.InvariantCulture));
    }

    /// <exception cref="CommandFailure">The daemon refused.</exception>
    /// <exception cref="DaemonUnreachable">It does not answer.</exception>
    public Task<byte[]> Get(string path, CancellationToken cancellation) => Send(HttpMethod.Get, path, null, cancellation);

    /// <inheritdoc cref="Get"/>
    public async Task<T> Get<T>(string path, JsonTypeInfo<T> type, CancellationToken cancellation) =>
        Parse(await Get(path, cancellation).ConfigureAwait(false), type);

    /// <inheritdoc cref="Get"/>
    public Task<byte[]> Post(string path, CancellationToken cancellation) => Send(HttpMethod.Post, path, null, cancellation);

    /// <inheritdoc cref="Get"/>
    public Task<byte[]> Post<T>(string path, T body, JsonTypeInfo<T> type, CancellationToken cancellation) =>
        Send(HttpMethod.Post, path, JsonSerializer.SerializeToUtf8Bytes(body, type), cancellation);

    /// <inheritdoc cref="Get"/>
    public Task<byte[]> Patch<T>(string path, T body, JsonTypeInfo<T> type, CancellationToken cancellation) =>
        Send(HttpMethod.Patch, path, JsonSerializer.SerializeToUtf8Bytes(body, type), cancellation);

    /// <inheritdoc cref="Get"/>
    public Task<byte[]> Delete(string path, CancellationToken cancellation) => Send(HttpMethod.Delete, path, null, cancellation);

    /// <summary>The lines of a stream that ends when the daemon closes it.</summary>
    /// <inheritdoc cref="Get"/>
    public async IAsyncEnumerable<string> Lines(string path, [EnumeratorCancellation] CancellationToken cancellation)
    {
        using var response = await Exchange(HttpMethod.Get, path, null, HttpCompletionOption.ResponseHeadersRead, cancellation).ConfigureAwait(false);
        var stream = await response.Content.ReadAsStreamAsync(cancellation).ConfigureAwait(false);
        using var reader = new StreamReader(stream);
        while (true)
        {
            string? line;
            try
            {
                line = await reader.ReadLineAsync(cancellation).ConfigureAwait(false);
            }
            catch (Exception e) when (e is IOException or HttpRequestException)
            {
                throw new DaemonUnreachable(_socket, "the stream broke off");
            }
            if (line is null)
                yield break;
            if (line.Length > 0)
                yield return line;
        }
    }

    /// <summary>An answer that goes on until the daemon, or the token, ends it.</summary>
    /// <inheritdoc cref="Get"/>
    public async Task<Stream> Open(string path, CancellationToken cancellation)
    {
        const int buffer = 1 << 16;
        var response = await Exchange(HttpMethod.Get, path, null, HttpCompletionOption.ResponseHeadersRead, cancellation).ConfigureAwait(false);
        return new BufferedStream(new ApiStream(response, await response.Content.ReadAsStreamAsync(cancellation).ConfigureAwait(false), cancellation), buffer);
    }

    public static T Parse<T>(byte[] body, JsonTypeInfo<T> type)
    {
        try
        {
            return JsonSerializer.Deserialize(body, type) ?? throw new JsonException("null");
        }
        catch (JsonException e)
        {
            throw new CommandFailure(ExitCodes.Failed, $"the daemon's answer cannot be read: {e.Message}", "use the overlaynet that came with this overlaynetd");
        }
    }

    public void Dispose() => _http.Dispose();

    private async Task<byte[]> Send(HttpMethod method, string path, byte[]? body, CancellationToken cancellation)
    {
        using var response = await Exchange(method, path, body, HttpCompletionOption.ResponseContentRead, cancellation).ConfigureAwait(false);
        return await response.Content.ReadAsByteArrayAsync(cancellation).ConfigureAwait(false);
    }

    private async Task<HttpResponseMessage> Exchange(HttpMethod method, string path, byte[]? body, HttpCompletionOption completion, CancellationToken cancellation)
    {
        using var request = new HttpRequestMessage(method, path);
        if (body is not null)
        {
            request.Content = JsonBody.Of(body);
        }
        HttpResponseMessage response;
        try
        {
            response = await _http.SendAsync(request, completion, cancellation).ConfigureAwait(false);
        }
        catch (HttpRequestException e)
        {
            throw new DaemonUnreachable(_socket, Reason(e));
        }
        catch (TaskCanceledException) when (!cancellation.IsCancellationRequested)
        {
            throw new DaemonUnreachable(_socket, $"no answer within {_http.Timeout.TotalSeconds:0} s");
        }
        if (response.IsSuccessStatusCode)
        {
            if (response.Headers.TryGetValues(Protocol.ReadHeader, out var read) && read.First() == "stale" && !_saidStale)
            {
                _saidStale = true;
                Console.Error.WriteLine("overlaynet: stale: no majority of managers (or no manager) confirms this; it is what this node knew last");
            }
            return response;
        }
        using (response)
            throw await Refusal(response, cancellation).ConfigureAwait(false);
    }

    private static string Reason(HttpRequestException e) => (e.InnerException ?? e) switch
    {
        SocketException { SocketErrorCode: SocketError.AddressNotAvailable } => "no such socket",
        SocketException { SocketErrorCode: SocketError.ConnectionRefused } => "nothing listens",
        SocketException { SocketErrorCode: SocketError.AccessDenied } => "permission denied",
        var other => other.Message,
    };

    private static async Task<CommandFailure> Refusal(HttpResponseMessage response, CancellationToken cancellation)
    {
        var status = (int)response.StatusCode;
        var code = status is >= 400 and < 500 ? ExitCodes.BadInput : ExitCodes.Failed;
        var body = await response.Content.ReadAsByteArrayAsync(cancellation).ConfigureAwait(false);
        try
        {
            if (JsonSerializer.Deserialize(body, OverlayNetJson.Default.ErrorBody) is { } error)
                return new CommandFailure(code, error.Message, error.Remedy);
        }
        catch (JsonException)
        {
            // Not ours: said below with its status.
        }
        return new CommandFailure(code, $"the daemon answered {status} {response.ReasonPhrase}", "use the overlaynet that came with this overlaynetd");
    }
}
