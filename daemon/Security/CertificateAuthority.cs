using System.Net;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using OverlayNet.Contracts;

namespace OverlayNet.Daemon.Security;

/// <summary>What a member's certificate says: CN the node's id, OU its role, O the cluster's id.</summary>
public sealed record CertificateSubject(string NodeId, NodeRole Role, string ClusterId)
{
    private const string CommonName = "2.5.4.3", Organization = "2.5.4.10", OrganizationalUnit = "2.5.4.11";

    /// <returns>Null: not the certificate of a member.</returns>
    public static CertificateSubject? Of(X509Certificate2 certificate)
    {
        string? id = null, unit = null, cluster = null;
        foreach (var part in certificate.SubjectName.EnumerateRelativeDistinguishedNames())
        {
            if (part.HasMultipleElements)
                return null;
            switch (part.GetSingleElementType().Value)
            {
                case CommonName:
                    id = part.GetSingleElementValue();
                    break;
                case OrganizationalUnit:
                    unit = part.GetSingleElementValue();
                    break;
                case Organization:
                    cluster = part.GetSingleElementValue();
                    break;
            }
        }
        NodeRole? role = unit switch { "manager" => NodeRole.Manager, "worker" => NodeRole.Worker, _ => null };
        return id is null || cluster is null || role is null ? null : new CertificateSubject(id, role.Value, cluster);
    }

    internal X500DistinguishedName ToName()
    {
        var builder = new X500DistinguishedNameBuilder();
        builder.AddOrganizationName(ClusterId);
        builder.AddOrganizationalUnitName(Role == NodeRole.Manager ? "manager" : "worker");
        builder.AddCommonName(NodeId);
        return builder.Build();
    }
}

/// <summary>The cluster's own certificate authority: ECDSA P-256, in the hands of the managers alone.</summary>
public sealed class CertificateAuthority : IDisposable
{
    private const string ServerAuth = "1.3.6.1.5.5.7.3.1", ClientAuth = "1.3.6.1.5.5.7.3.2";

    // As in Swarm, the root outlives everything it signs.
    private static readonly TimeSpan RootLife = TimeSpan.FromDays(20 * 365);

    // Clocks of machines that join differ; a certificate must not be "not yet valid".
    private static readonly TimeSpan Backdated = TimeSpan.FromHours(1);

    private readonly X509Certificate2 _root;
    private readonly TimeProvider _time;

    private readonly TimeSpan _nodeLife;

    private CertificateAuthority(X509Certificate2 root, TimeProvider time, TimeSpan? nodeLife)
    {
        _root = root;
        _time = time;
        _nodeLife = nodeLife ?? NodeLife;
    }

    /// <summary>How long a node's certificate is valid unless it is set otherwise.</summary>
    public static TimeSpan NodeLife { get; } = TimeSpan.FromDays(2 * 365);

    /// <summary>The life a certificate was given, without what it was dated back.</summary>
    public static TimeSpan LifeOf(X509Certificate2 certificate) => certificate.NotAfter - certificate.NotBefore - Backdated;

    /// <summary>A third of its life is left, or less: time for another.</summary>
    public static bool IsDueForRenewal(X509Certificate2 certificate, DateTimeOffset now) => certificate.NotAfter - now < LifeOf(certificate) / 3;

    /// <summary>A DNS name in managers' certificates alone (no node can be called so): the store lets in who has it.</summary>
    public const string ManagerName = "manager.overlaynet";

    public string CertificatePem => _root.ExportCertificatePem();

    /// <summary>SHA-256 of the root's DER: what join tokens carry.</summary>
    public byte[] Fingerprint => _root.GetCertHash(HashAlgorithmName.SHA256);

    public static CertificateAuthority Create(string clusterId, TimeProvider time)
    {
        using var key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        var name = new X500DistinguishedNameBuilder();
        name.AddOrganizationName(clusterId);
        // A name of its own: many programs look for an issuer by its name alone, and two may be trusted at a time.
        name.AddCommonName($"OverlayNet cluster CA {RandomNumberGenerator.GetHexString(8, lowercase: true)}");
        var request = new CertificateRequest(name.Build(), key, HashAlgorithmName.SHA256);
        request.CertificateExtensions.Add(new X509BasicConstraintsExtension(true, true, 0, true));
        request.CertificateExtensions.Add(new X509KeyUsageExtension(X509KeyUsageFlags.KeyCertSign | X509KeyUsageFlags.CrlSign, true));
        request.CertificateExtensions.Add(new X509SubjectKeyIdentifierExtension(request.PublicKey, false));
        var now = time.GetUtcNow();
        return new CertificateAuthority(request.CreateSelfSigned(now - Backdated, now + RootLife), time, null);
    }

    /// <param name="nodeLife">How long the certificates it signs are valid; null: <see cref="NodeLife"/>.</param>
    public static CertificateAuthority Load(string certificatePem, string keyPem, TimeProvider time, TimeSpan? nodeLife = null) =>
        new(X509Certificate2.CreateFromPem(certificatePem, keyPem), time, nodeLife);

    public string ExportKeyPem()
    {
        using var key = _root.GetECDsaPrivateKey()!;
        return key.ExportPkcs8PrivateKeyPem();
    }

    /// <summary>A secret that follows from the root's key: who has not the key cannot tell it from chance.</summary>
    public byte[] DeriveSecret(string purpose, int length)
    {
        using var key = _root.GetECDsaPrivateKey()!;
        var material = key.ExportPkcs8PrivateKey();
        try
        {
            return HKDF.DeriveKey(HashAlgorithmName.SHA256, material, length, info: System.Text.Encoding.ASCII.GetBytes(purpose));
        }
        finally
        {
            CryptographicOperations.ZeroMemory(material);
        }
    }

    /// <summary>Signs the key of a PKCS#10 request; everything else in the certificate is ours to say.</summary>
    /// <param name="csrPem">Its own signature is checked.</param>
    /// <exception cref="CryptographicException">Malformed, badly signed, or no ECDSA key of 256 bits or more.</exception>
    public string Sign(string csrPem, CertificateSubject subject, string nodeName, IPAddress address)
    {
        CertificateRequest csr;
        try
        {
            csr = CertificateRequest.LoadSigningRequestPem(csrPem, HashAlgorithmName.SHA256);
        }
        catch (ArgumentException e)
        {
            throw new CryptographicException(e.Message, e);
        }
        using var key = csr.PublicKey.GetECDsaPublicKey();
        if (key is null || key.KeySize < 256)
            throw new CryptographicException("the key is not an ECDSA key of at least 256 bits");
        return Sign(new CertificateRequest(subject.ToName(), csr.PublicKey, HashAlgorithmName.SHA256), subject.Role, nodeName, address);
    }

    public void Dispose() => _root.Dispose();

    private string Sign(CertificateRequest request, NodeRole role, string nodeName, IPAddress address)
    {
        request.CertificateExtensions.Add(new X509BasicConstraintsExtension(false, false, 0, true));
        request.CertificateExtensions.Add(new X509KeyUsageExtension(X509KeyUsageFlags.DigitalSignature, true));
        request.CertificateExtensions.Add(new X509EnhancedKeyUsageExtension([new Oid(ServerAuth), new Oid(ClientAuth)], false));
        request.CertificateExtensions.Add(X509AuthorityKeyIdentifierExtension.CreateFromCertificate(_root, includeKeyIdentifier: true, includeIssuerAndSerial: false));
        var names = new SubjectAlternativeNameBuilder();
        names.AddDnsName(nodeName);
        if (role == NodeRole.Manager)
            names.AddDnsName(ManagerName);
        names.AddIpAddress(address);
        request.CertificateExtensions.Add(names.Build());
        var now = _time.GetUtcNow();
        var end = now + _nodeLife;
        using var signed = request.Create(
            _root, now - Backdated, end < _root.NotAfter ? end : _root.NotAfter, RandomNumberGenerator.GetBytes(16));
        return signed.ExportCertificatePem();
    }
}
