using System.Diagnostics;
using System.Net;
using System.Net.Sockets;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using System.Text.Json;
using OverlayNet.Contracts;
using OverlayNet.Daemon.Registry;

namespace OverlayNet.Daemon.Security;

/// <summary>What a node says of itself when it joins.</summary>
public sealed record JoinDetails
{
    public required string NodeName { get; init; }

    /// <summary>Null: the address this machine reaches the manager from.</summary>
    public IPAddress? Address { get; init; }
    public int ApiPort { get; init; } = HostPort.DefaultPort;
    public int UnderlayMtu { get; init; } = 1500;
    public string? Dc { get; init; }
}

/// <summary>The joining node's side of a join.</summary>
public static class JoinClient
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(15), HandshakePatience = TimeSpan.FromSeconds(5), Pause = TimeSpan.FromMilliseconds(250);

    /// <summary>
    /// Fetches the CA's certificate, compares it with the token's fingerprint, and only then sends the token, over TLS that
    /// this CA vouches for. The key is made here and stays here.
    /// </summary>
    /// <param name="host">A manager, as <see cref="HostPort"/> reads it.</param>
    /// <exception cref="RegistryException">Refused, by the manager or by this node; the error says which field and what to do.</exception>
    public static async Task<NodeIdentity> JoinAsync(
        string stateDirectory, string token, string host, JoinDetails details, CancellationToken cancel = default)
    {
        if (JoinToken.Parse(token) is not { } parsed)
            throw Refuse.Invalid("token-invalid", "token", null, "it is not a join token, or a part of it is missing",
                "copy all of what 'overlaynet token worker' prints on a manager");
        if (HostPort.Parse(host) is not { } manager)
            throw Refuse.Invalid("invalid-host", "host", host, "it is not a host, host:port or [IPv6]:port",
                "write it as 192.0.2.1 or 192.0.2.1:7373");
        Names.Label("nodeName", details.NodeName);
        using var timeout = CancellationTokenSource.CreateLinkedTokenSource(cancel);
        timeout.CancelAfter(Patience);
        try
        {
            using var authority = await ShakeAsync(() => FetchAuthorityAsync(manager, parsed, timeout.Token), timeout.Token).ConfigureAwait(false);
            using var key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
            var address = details.Address ?? await AddressTowardsAsync(manager, timeout.Token).ConfigureAwait(false);
            var request = new JoinRequest
            {
                Token = token,
                NodeName = details.NodeName,
                Address = address,
                ApiPort = details.ApiPort,
                UnderlayMtu = details.UnderlayMtu,
                Dc = details.Dc,
                Csr = NodeKeys.CreateRequest(key, details.NodeName),
                HasEtcd = Managers.EtcdProcess.Find() is not null,
            };
            var answer = await ShakeAsync(() => PostAsync(manager, authority, request, timeout.Token), timeout.Token).ConfigureAwait(false);
            Check(answer, key);
            return NodeIdentity.Save(
                stateDirectory,
                new Membership
                {
                    NodeId = answer.NodeId,
                    NodeName = details.NodeName,
                    ClusterId = answer.ClusterId,
                    ClusterDomain = answer.ClusterDomain,
                    Dc = answer.Dc,
                    Role = answer.Role,
                    Address = address,
                    ApiPort = details.ApiPort,
                    Managers = answer.Managers.Count > 0 ? answer.Managers : [manager.ToString()],
                },
                answer.Certificate, key, answer.Ca);
        }
        catch (Exception e) when (e is HttpRequestException or SocketException || (e is OperationCanceledException && !cancel.IsCancellationRequested))
        {
            throw new RegistryException(StatusCodes.Status503ServiceUnavailable, new ErrorBody
            {
                Code = "no-manager",
                Message = $"host '{manager}': no manager answers there: {e.InnerException?.Message ?? e.Message}",
                Field = "host",
                Value = manager.ToString(),
                Remedy = $"check that a manager runs there and that TCP port {manager.Port} is reachable from this machine",
            });
        }
    }

    /// <summary>A busy manager may take its time for a handshake, and there is no other to turn to.</summary>
    private static SocketsHttpHandler Patient(SocketsHttpHandler handler)
    {
        handler.ConnectTimeout = Patience;
        return handler;
    }

    /// <summary>
    /// Again when the manager hangs up in the middle of the handshake, so that nothing has been asked yet: seen of managers that had
    /// begun a moment ago on a busy machine. A certificate that is refused is refused at once.
    /// </summary>
    private static async Task<T> ShakeAsync<T>(Func<Task<T>> call, CancellationToken cancel)
    {
        var begun = Stopwatch.GetTimestamp();
        while (true)
        {
            try
            {
                return await call().ConfigureAwait(false);
            }
            catch (HttpRequestException e) when (e is { HttpRequestError: HttpRequestError.SecureConnectionError, InnerException: IOException } && Stopwatch.GetElapsedTime(begun) < HandshakePatience)
            {
                await Task.Delay(Pause, cancel).ConfigureAwait(false);
            }
        }
    }

    private static async Task<X509Certificate2> FetchAuthorityAsync(HostPort manager, JoinToken token, CancellationToken cancel)
    {
        using var http = new HttpClient(Patient(ClusterTls.CreateUnverifiedHandler()));
        using var response = await http.GetAsync(new Uri(manager.ToUri(), "/v1/ca"), cancel).ConfigureAwait(false);
        var pem = await response.Content.ReadAsStringAsync(cancel).ConfigureAwait(false);
        try
        {
            // Whoever is in between could add a CA of its own: only the one that the token names is trusted.
            if (TrustBundle.Parse(pem).FirstOrDefault(ca => CryptographicOperations.FixedTimeEquals(ca.GetCertHash(HashAlgorithmName.SHA256), token.Fingerprint)) is { } authority)
                return authority;
        }
        catch (CryptographicException)
        {
            // Not a certificate: refused below like a wrong one.
        }
        throw Refuse.Invalid("ca-mismatch", "host", manager.ToString(),
            "its CA is not the one the token names: it is another cluster, or somebody in between; nothing secret was sent",
            "check the host, and fetch a fresh token with 'overlaynet token worker' on a manager of the right cluster");
    }

    private static async Task<JoinResponse> PostAsync(
        HostPort manager, X509Certificate2 authority, JoinRequest request, CancellationToken cancel)
    {
        using var http = new HttpClient(Patient(ClusterTls.CreateHandler(authority)));
        using var content = JsonBody.Of(request, OverlayNetJson.Default.JoinRequest);
        using var response = await http.PostAsync(new Uri(manager.ToUri(), "/v1/join"), content, cancel).ConfigureAwait(false);
        var body = await response.Content.ReadAsByteArrayAsync(cancel).ConfigureAwait(false);
        try
        {
            return response.IsSuccessStatusCode
                ? JsonSerializer.Deserialize(body, OverlayNetJson.Default.JoinResponse)!
                : throw new RegistryException(
                    (int)response.StatusCode, JsonSerializer.Deserialize(body, OverlayNetJson.Default.ErrorBody)!);
        }
        catch (JsonException)
        {
            throw new HttpRequestException($"the manager answered {(int)response.StatusCode} without saying why");
        }
    }

    private static void Check(JoinResponse answer, ECDsa key)
    {
        using var certificate = X509Certificate2.CreateFromPem(answer.Certificate);
        using var signed = certificate.GetECDsaPublicKey();
        if (ClusterTls.MemberOf(certificate, TrustBundle.Parse(answer.Ca)) is not { } subject || subject.NodeId != answer.NodeId || subject.Role != answer.Role
            || signed is null || !signed.ExportSubjectPublicKeyInfo().AsSpan().SequenceEqual(key.ExportSubjectPublicKeyInfo()))
            throw new HttpRequestException("the manager answered with a certificate that is not this node's");
    }

    private static async Task<IPAddress> AddressTowardsAsync(HostPort manager, CancellationToken cancel)
    {
        var target = (await System.Net.Dns.GetHostAddressesAsync(manager.Host, cancel).ConfigureAwait(false))[0];
        // Connecting a UDP socket sends nothing; it only asks the routing table.
        using var socket = new Socket(target.AddressFamily, SocketType.Dgram, ProtocolType.Udp);
        await socket.ConnectAsync(target, manager.Port, cancel).ConfigureAwait(false);
        return ((IPEndPoint)socket.LocalEndPoint!).Address;
    }
}
