using System.Buffers.Binary;
using System.Globalization;
using System.Net;
using System.Net.Http.Headers;
using System.Runtime.CompilerServices;
using Google.Protobuf;

namespace OverlayNet.Daemon.Registry.Store.Etcd;

/// <summary>Status codes of gRPC that matter here (grpc/doc/statuscodes.md).</summary>
internal enum GrpcCode
{
    Ok = 0,
    Cancelled = 1,
    Unknown = 2,
    InvalidArgument = 3,
    DeadlineExceeded = 4,
    NotFound = 5,
    ResourceExhausted = 8,
    FailedPrecondition = 9,
    OutOfRange = 11,
    Unavailable = 14,
}

/// <summary>A call that a member refused, or that did not come through.</summary>
/// <param name="sent">False: the request certainly did not reach the member.</param>
internal sealed class GrpcException(string member, GrpcCode code, string message, bool sent, Exception? inner = null)
    : RegistryStoreException($"etcd at {member}: {message}", inner)
{
    public GrpcCode Code { get; } = code;

    public string Text { get; } = message;

    /// <summary>The member, or the network on the way, may have acted on the request without our knowing how it ended.</summary>
    /// <remarks>
    /// etcd answers these before a proposal is made; everything else that is "unavailable", and every time-out, may still be
    /// committed later (etcd clientv3 has the same list).
    /// </remarks>
    public bool MayHaveHappened { get; } = sent && code is GrpcCode.Unavailable or GrpcCode.DeadlineExceeded or GrpcCode.Unknown or GrpcCode.Cancelled
        && sent && message is not ("etcdserver: no leader" or "etcdserver: rpc not supported for learner" or "etcdserver: too many requests" or "etcdserver: not capable");

    /// <summary>Another member may do better.</summary>
    public bool IsTransient => Code is GrpcCode.Unavailable or GrpcCode.DeadlineExceeded or GrpcCode.Cancelled or GrpcCode.Unknown
        || Text == "etcdserver: too many requests";
}

/// <summary>
/// gRPC to one etcd member, framed by hand over HTTP/2: a five-byte prefix a message and the status in the trailers
/// (grpc/doc/PROTOCOL-HTTP2.md). Watches and leases have a connection of their own, so that no bulk read delays them.
/// </summary>
internal sealed class GrpcChannel : IDisposable
{
    private const int Prefix = 5;
    private static readonly MediaTypeHeaderValue GrpcContent = new("application/grpc");
    private static readonly TransferCodingWithQualityHeaderValue Trailers = new("trailers");
    private readonly HttpClient _calls;
    private readonly HttpClient _streams;

    /// <param name="handler">Makes a handler with the TLS of this cluster.</param>
    public GrpcChannel(Uri address, Func<SocketsHttpHandler> handler)
    {
        Address = address;
        _calls = Client(handler());
        _streams = Client(handler());
    }

    public Uri Address { get; }

    /// <summary>One request, one answer.</summary>
    /// <exception cref="GrpcException">Refused, or no answer within the time.</exception>
    public async Task<TAnswer> CallAsync<TRequest, TAnswer>(
        string method, TRequest request, MessageParser<TAnswer> parser, TimeSpan timeout, CancellationToken cancel, bool stream = false, bool needsLeader = true)
        where TRequest : IMessage
        where TAnswer : IMessage<TAnswer>
    {
        using var ends = CancellationTokenSource.CreateLinkedTokenSource(cancel);
        ends.CancelAfter(timeout);
        try
        {
            using var message = Message(method, Frame(request), timeout, needsLeader);
            using var response = await (stream ? _streams : _calls).SendAsync(message, HttpCompletionOption.ResponseHeadersRead, ends.Token).ConfigureAwait(false);
            ThrowIfRefused(response.Headers);
            var body = await response.Content.ReadAsStreamAsync(ends.Token).ConfigureAwait(false);
            await using (body.ConfigureAwait(false))
            {
                var answer = await ReadAsync(body, parser, ends.Token).ConfigureAwait(false);
                // The trailers come after the end of the body.
                if (!stream)
                {
                    await ReadAsync(body, parser, ends.Token).ConfigureAwait(false);
                    ThrowIfRefused(response.TrailingHeaders);
                }
                return answer ?? throw new GrpcException(Address.Authority, GrpcCode.Unavailable, "the answer is empty", sent: true);
            }
        }
        catch (OperationCanceledException e) when (!cancel.IsCancellationRequested)
        {
            throw new GrpcException(Address.Authority, GrpcCode.DeadlineExceeded, $"no answer within {timeout.TotalSeconds:0.#} s", sent: true, e);
        }
        catch (Exception e) when (e is HttpRequestException or IOException)
        {
            throw Broken(e);
        }
    }

    /// <summary>One request, answers without end. The request's side stays open until the caller stops reading.</summary>
    /// <inheritdoc cref="CallAsync"/>
    public async IAsyncEnumerable<TAnswer> StreamAsync<TRequest, TAnswer>(
        string method, TRequest request, MessageParser<TAnswer> parser, [EnumeratorCancellation] CancellationToken cancel)
        where TRequest : IMessage
        where TAnswer : IMessage<TAnswer>
    {
        var open = new OpenContent(Frame(request), cancel);
        using var message = Message(method, null, null, needsLeader: true);
        message.Content = open;
        HttpResponseMessage response;
        try
        {
            response = await _streams.SendAsync(message, HttpCompletionOption.ResponseHeadersRead, cancel).ConfigureAwait(false);
        }
        catch (Exception e) when (e is HttpRequestException or IOException)
        {
            open.End();
            throw Broken(e);
        }
        try
        {
            ThrowIfRefused(response.Headers);
            var body = await response.Content.ReadAsStreamAsync(cancel).ConfigureAwait(false);
            await using (body.ConfigureAwait(false))
            {
                while (true)
                {
                    TAnswer? answer;
                    try
                    {
                        answer = await ReadAsync(body, parser, cancel).ConfigureAwait(false);
                    }
                    catch (Exception e) when (e is HttpRequestException or IOException)
                    {
                        throw Broken(e);
                    }
                    if (answer is null)
                        break;
                    yield return answer;
                }
                ThrowIfRefused(response.TrailingHeaders);
            }
        }
        finally
        {
            open.End();
            response.Dispose();
        }
    }

    public void Dispose()
    {
        _calls.Dispose();
        _streams.Dispose();
    }

    private static HttpClient Client(SocketsHttpHandler handler)
    {
        handler.EnableMultipleHttp2Connections = false;
        handler.ConnectTimeout = TimeSpan.FromSeconds(1);
        handler.PooledConnectionLifetime = Timeout.InfiniteTimeSpan;
        // etcd takes pings more often than every 5 s for an attack and closes the connection.
        handler.KeepAlivePingDelay = TimeSpan.FromSeconds(8);
        handler.KeepAlivePingTimeout = TimeSpan.FromSeconds(4);
        handler.KeepAlivePingPolicy = HttpKeepAlivePingPolicy.WithActiveRequests;
        return new HttpClient(handler) { Timeout = Timeout.InfiniteTimeSpan };
    }

    private HttpRequestMessage Message(string method, byte[]? frame, TimeSpan? timeout, bool needsLeader)
    {
        var message = new HttpRequestMessage(HttpMethod.Post, new Uri(Address, method))
        {
            Version = HttpVersion.Version20,
            VersionPolicy = HttpVersionPolicy.RequestVersionExact,
        };
        message.Headers.TE.Add(Trailers);
        // Without it a member that has lost the others answers a watch with silence.
        if (needsLeader)
            message.Headers.Add("hasleader", "true");
        if (timeout is { } time)
            message.Headers.Add("grpc-timeout", ((long)time.TotalMilliseconds).ToString(CultureInfo.InvariantCulture) + "m");
        if (frame is not null)
        {
            message.Content = new ByteArrayContent(frame);
            message.Content.Headers.ContentType = GrpcContent;
        }
        return message;
    }

    private GrpcException Broken(Exception e)
    {
        var sent = e is not HttpRequestException { HttpRequestError: HttpRequestError.ConnectionError or HttpRequestError.SecureConnectionError or HttpRequestError.NameResolutionError };
        return new GrpcException(Address.Authority, GrpcCode.Unavailable, e.InnerException?.Message ?? e.Message, sent, e);
    }

    private static byte[] Frame(IMessage message)
    {
        var size = message.CalculateSize();
        var frame = new byte[Prefix + size];
        BinaryPrimitives.WriteInt32BigEndian(frame.AsSpan(1), size);
        message.WriteTo(frame.AsSpan(Prefix));
        return frame;
    }

    /// <returns>Null: the stream has ended.</returns>
    private async Task<T?> ReadAsync<T>(Stream body, MessageParser<T> parser, CancellationToken cancel)
        where T : IMessage<T>
    {
        var prefix = new byte[Prefix];
        var read = await body.ReadAtLeastAsync(prefix, Prefix, throwOnEndOfStream: false, cancel).ConfigureAwait(false);
        if (read == 0)
            return default;
        var size = BinaryPrimitives.ReadInt32BigEndian(prefix.AsSpan(1));
        if (read < Prefix || prefix[0] != 0 || size < 0)
            throw new GrpcException(Address.Authority, GrpcCode.Unavailable, "the answer is not a gRPC message", sent: true);
        var message = new byte[size];
        await body.ReadExactlyAsync(message, cancel).ConfigureAwait(false);
        return parser.ParseFrom(message);
    }

    private void ThrowIfRefused(HttpResponseHeaders headers)
    {
        if (!headers.TryGetValues("grpc-status", out var values))
            return;
        var code = int.TryParse(values.First(), NumberStyles.None, CultureInfo.InvariantCulture, out var number) ? (GrpcCode)number : GrpcCode.Unknown;
        if (code == GrpcCode.Ok)
            return;
        var text = headers.TryGetValues("grpc-message", out var messages) ? Uri.UnescapeDataString(messages.First()) : $"status {number}";
        throw new GrpcException(Address.Authority, code, text, sent: true);
    }

    /// <summary>A request body that sends one frame and then stays open.</summary>
    private sealed class OpenContent : HttpContent
    {
        private readonly byte[] _frame;
        private readonly TaskCompletionSource _end = new(TaskCreationOptions.RunContinuationsAsynchronously);
        private readonly CancellationToken _cancel;

        public OpenContent(byte[] frame, CancellationToken cancel)
        {
            _frame = frame;
            _cancel = cancel;
            Headers.ContentType = GrpcContent;
        }

        public void End() => _end.TrySetResult();

        protected override async Task SerializeToStreamAsync(Stream stream, TransportContext? context)
        {
            await stream.WriteAsync(_frame, _cancel).ConfigureAwait(false);
            await stream.FlushAsync(_cancel).ConfigureAwait(false);
            await _end.Task.WaitAsync(_cancel).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        }

        protected override bool TryComputeLength(out long length)
        {
            length = 0;
            return false;
        }
    }
}
