using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;

namespace OverlayNet.Daemon.Security;

internal static class NodeKeys
{
    /// <summary>A PKCS#10 request for a key, PEM. The name is for people only: the CA decides what the certificate says.</summary>
    public static string CreateRequest(ECDsa key, string name)
    {
        var subject = new X500DistinguishedNameBuilder();
        subject.AddCommonName(name);
        return new CertificateRequest(subject.Build(), key, HashAlgorithmName.SHA256).CreateSigningRequestPem();
    }
}
