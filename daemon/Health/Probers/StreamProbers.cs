using System.Buffers;
using System.Globalization;
using System.Net;
using System.Net.Http.Headers;
using System.Net.Security;
using System.Net.Sockets;
using System.Text;
using OverlayNet.Contracts;

namespace OverlayNet.Daemon.Health.Probers;

/// <summary>Checks over a TCP connection: that alone, HTTP, HTTPS, gRPC.</summary>
internal static class StreamProbers
{
    private const int MostBody = 64 << 10, MostHead = 16 << 10;

    /// <param name="socket">Made in the network's namespace, not connected; stays the caller's to dispose.</param>
    /// <param name="cancellation">Ends at the check's time-out.</param>
    public static async Task<ProbeResult?> Run(PlannedCheck plan, Socket socket, CancellationToken cancellation)
    {
        var target = new IPEndPoint(plan.Address, plan.Port);
        try
        {
            await socket.ConnectAsync(target, cancellation).ConfigureAwait(false);
        }
        catch (SocketException e) when (plan.Reach && e.SocketErrorCode == SocketError.ConnectionRefused)
        {
            return ProbeResult.Pass;
        }
        return plan.Check.Kind switch
        {
            _ when plan.Reach => ProbeResult.Pass,
            CheckKind.Http => await Http(plan, new SocketBytes(socket), cancellation).ConfigureAwait(false),
            CheckKind.Https => await Https(plan, socket, cancellation).ConfigureAwait(false),
            CheckKind.Grpc => await Grpc(plan, socket, cancellation).ConfigureAwait(false),
            _ => ProbeResult.Pass,
        };
    }

    private static async Task<ProbeResult?> Https(PlannedCheck plan, Socket socket, CancellationToken cancellation)
    {
        await using var stream = new SslStream(new NetworkStream(socket));
        try
        {
            await stream.AuthenticateAsClientAsync(
                new SslClientAuthenticationOptions
                {
                    TargetHost = plan.Check.Host ?? plan.Name,
                    // Checked only when the service asks for it: what is asked here is whether it serves.
                    RemoteCertificateValidationCallback = plan.Check.Verify ? null : (_, _, _, _) => true,
                },
                cancellation).ConfigureAwait(false);
        }
        catch (System.Security.Authentication.AuthenticationException e)
        {
            return ProbeResult.Bad($"TLS: {e.Message}");
        }
        return await Http(plan, new StreamBytes(stream), cancellation).ConfigureAwait(false);
    }

    private static async Task<ProbeResult?> Http<TBytes>(PlannedCheck plan, TBytes bytes, CancellationToken cancellation)
        where TBytes : IBytes
    {
        await bytes.Write(HttpRequest(plan), cancellation).ConfigureAwait(false);
        var buffer = ArrayPool<byte>.Shared.Rent(plan.Check.Body is null ? 2048 : MostHead + MostBody);
        try
        {
            var length = 0;
            while (true)
            {
                var read = length < buffer.Length ? await bytes.Read(buffer.AsMemory(length), cancellation).ConfigureAwait(false) : 0;
                length += read;
                if (HttpAnswer.Judge(plan.Check, buffer.AsSpan(0, length), ended: read == 0) is { } result)
                    return result;
            }
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(buffer);
        }
    }

    private static byte[] HttpRequest(PlannedCheck plan)
    {
        var check = plan.Check;
        var text = new StringBuilder(128);
        text.Append(check.Method).Append(' ').Append(check.Path).Append(" HTTP/1.1\r\nHost: ").Append(check.Host ?? plan.Name)
            .Append("\r\nUser-Agent: overlaynet-health\r\nConnection: close\r\n");
        foreach (var header in check.Headers)
            text.Append(header).Append("\r\n");
        return Encoding.ASCII.GetBytes(text.Append("\r\n").ToString());
    }

    /// <summary>grpc.health.v1: the framework's HTTP/2, the message framed by hand (5 octets: not compressed, length, big-endian).</summary>
    private static async Task<ProbeResult?> Grpc(PlannedCheck plan, Socket socket, CancellationToken cancellation)
    {
        using var handler = new SocketsHttpHandler { UseProxy = false, ConnectCallback = (_, _) => new(new NetworkStream(socket)) };
        using var http = new HttpClient(handler);
        var service = Encoding.UTF8.GetBytes(plan.Check.GrpcService);
        // HealthCheckRequest { string service = 1; }, absent when empty; its length fits one octet (HealthSpecs sees to it).
        byte[] message = service.Length == 0 ? [] : [0x0A, (byte)service.Length, .. service];
        using var content = new ByteArrayContent([0, 0, 0, 0, (byte)message.Length, .. message]);
        content.Headers.ContentType = new MediaTypeHeaderValue("application/grpc");
        using var request = new HttpRequestMessage(HttpMethod.Post, "/grpc.health.v1.Health/Check")
        {
            RequestUri = new Uri($"http://{new IPEndPoint(plan.Address, plan.Port)}/grpc.health.v1.Health/Check"),
            Version = HttpVersion.Version20,
            VersionPolicy = HttpVersionPolicy.RequestVersionExact,
            Content = content,
        };
        request.Headers.TE.Add(new TransferCodingWithQualityHeaderValue("trailers"));
        using var response = await http.SendAsync(request, cancellation).ConfigureAwait(false);
        var body = await response.Content.ReadAsByteArrayAsync(cancellation).ConfigureAwait(false);
        return GrpcAnswer.Judge((int)response.StatusCode, Header(response.TrailingHeaders, response.Headers, "grpc-status"), Header(response.TrailingHeaders, response.Headers, "grpc-message"), body);
    }

    private static string? Header(HttpResponseHeaders trailers, HttpResponseHeaders headers, string name) =>
        trailers.TryGetValues(name, out var values) || headers.TryGetValues(name, out values) ? values.FirstOrDefault() : null;

    private interface IBytes
    {
        ValueTask Write(ReadOnlyMemory<byte> bytes, CancellationToken cancellation);

        ValueTask<int> Read(Memory<byte> into, CancellationToken cancellation);
    }

    private readonly struct SocketBytes(Socket socket) : IBytes
    {
        public async ValueTask Write(ReadOnlyMemory<byte> bytes, CancellationToken cancellation) =>
            await socket.SendAsync(bytes, cancellation).ConfigureAwait(false);

        public ValueTask<int> Read(Memory<byte> into, CancellationToken cancellation) => socket.ReceiveAsync(into, cancellation);
    }

    private readonly struct StreamBytes(Stream stream) : IBytes
    {
        public ValueTask Write(ReadOnlyMemory<byte> bytes, CancellationToken cancellation) => stream.WriteAsync(bytes, cancellation);

        public ValueTask<int> Read(Memory<byte> into, CancellationToken cancellation) => stream.ReadAsync(into, cancellation);
    }
}

/// <summary>Judges an HTTP/1 answer from its beginning. Pure.</summary>
internal static class HttpAnswer
{
    private static ReadOnlySpan<byte> HeadEnd => "\r\n\r\n"u8;

    /// <param name="ended">No more will come: the connection ended, or the answer is longer than is looked at.</param>
    /// <returns>Null: more is needed.</returns>
    public static ProbeResult? Judge(HealthCheck check, ReadOnlySpan<byte> answer, bool ended)
    {
        // HTTP-version SP 3DIGIT SP (RFC 9112 section 4)
        if (answer.Length < 12)
            return ended ? ProbeResult.Bad(answer.IsEmpty ? "the connection ended without an answer" : "the answer is cut off") : null;
        if (!answer.StartsWith("HTTP/1."u8) || answer[8] != ' ')
            return ProbeResult.Bad("the answer is not HTTP/1");
        if (!int.TryParse(answer.Slice(9, 3), NumberStyles.None, CultureInfo.InvariantCulture, out var status))
            return ProbeResult.Bad("the answer has no status code");
        if (!HealthSpecs.Accepts(check.Status, status))
            return ProbeResult.Bad($"HTTP status {status}, accepted: {check.Status}");
        if (check.Body is null)
            return ProbeResult.Pass;
        var head = answer.IndexOf(HeadEnd);
        if (head >= 0 && answer[(head + HeadEnd.Length)..].IndexOf(Encoding.UTF8.GetBytes(check.Body)) >= 0)
            return ProbeResult.Pass;
        return ended ? ProbeResult.Bad($"HTTP status {status}, but the body does not contain '{check.Body}'") : null;
    }
}

/// <summary>Judges an answer of grpc.health.v1.Health/Check. Pure.</summary>
internal static class GrpcAnswer
{
    private const int Serving = 1;
    private static readonly string[] Words = ["UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"];

    public static ProbeResult Judge(int httpStatus, string? grpcStatus, string? grpcMessage, ReadOnlySpan<byte> body)
    {
        if (httpStatus != 200)
            return ProbeResult.Bad($"HTTP status {httpStatus}");
        if (grpcStatus is not null and not "0")
            return ProbeResult.Bad($"gRPC status {grpcStatus}{(grpcMessage is null ? "" : $": {grpcMessage}")}");
        // HealthCheckResponse { ServingStatus status = 1; }: tag 8, a varint below 128.
        var status = body.Length >= 7 && body[0] == 0 && body[5] == 0x08 ? body[6] : 0;
        return status == Serving ? ProbeResult.Pass : ProbeResult.Bad($"it says {(status < Words.Length ? Words[status] : status.ToString(CultureInfo.InvariantCulture))}");
    }
}
