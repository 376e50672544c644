using System.Net.Security;
using System.Security.Authentication;
using System.Security.Cryptography.X509Certificates;
using Microsoft.AspNetCore.Server.Kestrel.Https;
using OverlayNet.Contracts;

namespace OverlayNet.Daemon.Security;

/// <summary>TLS between nodes: 1.3 only, both sides with certificates of the cluster's CA.</summary>
/// <remarks>
/// Names in certificates are not compared with host names: what matters is that the CA signed it, for which role and which cluster.
/// A worker's certificate therefore never passes as a manager's.
/// </remarks>
public static class ClusterTls
{
    /// <summary>
    /// For the listener other nodes reach. A certificate is asked for but may be missing, because a joining node has none; what
    /// may be done without one is the routes' matter.
    /// </summary>
    /// <param name="refused">Told of certificates that are not taken, and why.</param>
    public static TlsHandshakeCallbackOptions CreateServer(IdentityHolder holder, Action<X509Certificate2, string>? refused = null) => new()
    {
        OnConnection = _ => ValueTask.FromResult(new SslServerAuthenticationOptions
        {
            ServerCertificateContext = holder.Current.CertificateContext,
            EnabledSslProtocols = SslProtocols.Tls13,
            ClientCertificateRequired = true,
            CertificateRevocationCheckMode = X509RevocationMode.NoCheck,
            CertificateChainPolicy = NoChain(),
            RemoteCertificateValidationCallback = (_, certificate, _, _) => certificate is null || (certificate is X509Certificate2 peer && Accept(peer, holder.Current, refused)),
        }),
    };

    /// <summary>For a member's requests to managers.</summary>
    public static SocketsHttpHandler CreateHandler(NodeIdentity identity) => CreateHandler(() => identity);

    /// <summary>For a member whose certificate may be replaced: connections made from then on show the new one.</summary>
    public static SocketsHttpHandler CreateHandler(Func<NodeIdentity> identity)
    {
        var handler = Handler(certificate => MemberOf(certificate, identity().Authorities) is { Role: NodeRole.Manager });
        handler.SslOptions.LocalCertificateSelectionCallback = (_, _, _, _, _) => identity().Certificate;
        return handler;
    }

    /// <summary>For a member's requests to any other member.</summary>
    public static SocketsHttpHandler CreatePeerHandler(IdentityHolder identity)
    {
        var handler = Handler(certificate => MemberOf(certificate, identity.Current.Authorities) is not null);
        handler.SslOptions.LocalCertificateSelectionCallback = (_, _, _, _, _) => identity.Current.Certificate;
        return handler;
    }

    /// <summary>For a node that has no certificate yet but knows the CA: talks to managers of that CA only.</summary>
    public static SocketsHttpHandler CreateHandler(X509Certificate2 authority) => Handler((certificate) =>
        MemberOf(certificate, [authority]) is { Role: NodeRole.Manager });

    /// <summary>For fetching the CA's certificate, which is public and checked by its fingerprint: nothing secret may be sent.</summary>
    public static SocketsHttpHandler CreateUnverifiedHandler() => Handler(_ => true);

    /// <returns>Who a certificate belongs to; null: not a valid one of these CAs' cluster.</returns>
    public static CertificateSubject? MemberOf(X509Certificate2 certificate, IEnumerable<X509Certificate2> authorities)
    {
        if (TrustBundle.Issuer(certificate, authorities) is not { } authority || CertificateSubject.Of(certificate) is not { } subject)
            return null;
        // The CA signs for one cluster only; compared all the same, so that a copied CA key is not enough to mix two.
        return authority.SubjectName.EnumerateRelativeDistinguishedNames()
            .Any(part => part.GetSingleElementType().Value == "2.5.4.10" && part.GetSingleElementValue() == subject.ClusterId)
            ? subject
            : null;
    }

    private static SocketsHttpHandler Handler(Func<X509Certificate2, bool> accept) => new()
    {
        ConnectTimeout = TimeSpan.FromSeconds(3),
        // A span of the handler's own, which nobody exports, would tear a trace apart; who has a trace to pass on does it (RegistryClient).
        ActivityHeadersPropagator = null,
        UseProxy = false,
        AllowAutoRedirect = false,
        PooledConnectionLifetime = TimeSpan.FromMinutes(10),
        SslOptions = new SslClientAuthenticationOptions
        {
            EnabledSslProtocols = SslProtocols.Tls13,
            CertificateRevocationCheckMode = X509RevocationMode.NoCheck,
            CertificateChainPolicy = NoChain(),
            RemoteCertificateValidationCallback = (_, certificate, _, _) => certificate is X509Certificate2 peer && accept(peer),
        },
    };

    private static bool Accept(X509Certificate2 certificate, NodeIdentity identity, Action<X509Certificate2, string>? refused)
    {
        if (MemberOf(certificate, identity.Authorities) is not null)
            return true;
        refused?.Invoke(certificate, certificate.NotAfter < DateTime.Now ? $"it expired at {certificate.NotAfter.ToUniversalTime():u}" : "it is not of this cluster's CA");
        return false;
    }

    /// <summary>The chain that is built before our own judgement is asked for is for nothing: without this it would be looked for among the machine's CAs, for every connection.</summary>
    private static X509ChainPolicy NoChain() => new()
    {
        TrustMode = X509ChainTrustMode.CustomRootTrust,
        RevocationMode = X509RevocationMode.NoCheck,
        DisableCertificateDownloads = true,
    };
}
