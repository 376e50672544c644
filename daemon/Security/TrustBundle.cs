using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using System.Text;

namespace OverlayNet.Daemon.Security;

/// <summary>The CAs a node trusts: one, and while the cluster's CA is being replaced two. The one that signs comes first.</summary>
public static class TrustBundle
{
    private const int HashLength = 16;

    /// <param name="pem">One certificate or several.</param>
    /// <exception cref="CryptographicException">There is none in it, or a malformed one.</exception>
    public static IReadOnlyList<X509Certificate2> Parse(string pem)
    {
        var authorities = new X509Certificate2Collection();
        authorities.ImportFromPem(pem);
        return authorities.Count > 0 ? [.. authorities] : throw new CryptographicException("there is no certificate in it");
    }

    /// <summary>Names the set, whatever its order: what nodes report and are compared by.</summary>
    public static string Hash(IEnumerable<X509Certificate2> authorities) => Convert.ToHexStringLower(SHA256.HashData(
        Encoding.ASCII.GetBytes(string.Join(' ', authorities.Select(Fingerprint).Order(StringComparer.Ordinal)))))[..HashLength];

    /// <summary>SHA-256 of the DER, hexadecimal.</summary>
    public static string Fingerprint(X509Certificate2 authority) => authority.GetCertHashString(HashAlgorithmName.SHA256);

    /// <returns>The CA of the set that signed a certificate; null: none, or the certificate is not valid (any more).</returns>
    public static X509Certificate2? Issuer(X509Certificate2 certificate, IEnumerable<X509Certificate2> authorities)
    {
        // One at a time: successive CAs of a cluster may have the same name.
        foreach (var authority in authorities)
        {
            using var chain = new X509Chain();
            chain.ChainPolicy.TrustMode = X509ChainTrustMode.CustomRootTrust;
            chain.ChainPolicy.CustomTrustStore.Add(authority);
            chain.ChainPolicy.RevocationMode = X509RevocationMode.NoCheck;
            chain.ChainPolicy.DisableCertificateDownloads = true;
            if (chain.Build(certificate))
                return authority;
        }
        return null;
    }
}
