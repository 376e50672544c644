using System.Net;
using System.Net.Security;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using System.Text;
using System.Text.Json;
using System.Text.Json.Serialization;
using OverlayNet.Contracts;

namespace OverlayNet.Daemon.Security;

/// <summary>What a node remembers of its membership (<c>identity/node.json</c>).</summary>
public sealed record Membership
{
    public required string NodeId { get; init; }
    public required string NodeName { get; init; }
    public required string ClusterId { get; init; }
    public required string ClusterDomain { get; init; }
    public required string Dc { get; init; }
    public NodeRole Role { get; init; }
    public required IPAddress Address { get; init; }
    public int ApiPort { get; set; } = 7373;

    /// <summary>Managers as host:port, as of the join.</summary>
    public IReadOnlyList<string> Managers { get; set; } = [];
}

[JsonSourceGenerationOptions(
    PropertyNamingPolicy = JsonKnownNamingPolicy.CamelCase,
    WriteIndented = true,
    Converters = [typeof(IPAddressConverter), typeof(CamelCaseEnumConverter<NodeRole>)])]
[JsonSerializable(typeof(Membership))]
internal sealed partial class MembershipJson : JsonSerializerContext;

/// <summary>A node's certificate, key and membership, kept in the state directory's <c>identity/</c>.</summary>
public sealed class NodeIdentity : IDisposable
{
    private const string Folder = "identity";
    private const string MembershipFile = "node.json", CertificateFile = "node.pem", AuthorityFile = "ca.pem";

    private const UnixFileMode OwnerOnly = UnixFileMode.UserRead | UnixFileMode.UserWrite;

    private NodeIdentity(Membership membership, X509Certificate2 certificate, IReadOnlyList<X509Certificate2> authorities)
    {
        Membership = membership;
        Certificate = certificate;
        CertificateContext = SslStreamCertificateContext.Create(certificate, null, offline: true);
        Authorities = authorities;
        TrustHash = TrustBundle.Hash(authorities);
        Issuer = TrustBundle.Issuer(certificate, authorities) is { } issuer ? TrustBundle.Fingerprint(issuer) : "";
    }

    public Membership Membership { get; }

    /// <summary>With its private key.</summary>
    public X509Certificate2 Certificate { get; }

    /// <summary><see cref="Certificate"/>, ready to be shown: made once, since it looks for a chain among the machine's CAs.</summary>
    public SslStreamCertificateContext CertificateContext { get; }

    /// <summary>The cluster's CA; two while it is being replaced.</summary>
    public IReadOnlyList<X509Certificate2> Authorities { get; }

    /// <inheritdoc cref="TrustBundle.Hash"/>
    public string TrustHash { get; }

    /// <summary>The CA of <see cref="Certificate"/> (<see cref="TrustBundle.Fingerprint"/>); empty: it was of none of them, or not valid any more, when it was read.</summary>
    public string Issuer { get; }

    /// <summary>Whether this node is a member of a cluster, be its identity readable or not.</summary>
    public static bool Exists(string stateDirectory) => Directory.Exists(Path.Combine(stateDirectory, Folder));

    /// <returns>Null: this node is not a member of a cluster.</returns>
    /// <exception cref="InvalidDataException">What is there cannot be read; the message says what to do.</exception>
    public static NodeIdentity? Load(string stateDirectory)
    {
        if (!Exists(stateDirectory))
            return null;
        var folder = Path.Combine(stateDirectory, Folder);
        try
        {
            var membership = JsonSerializer.Deserialize(
                File.ReadAllBytes(Path.Combine(folder, MembershipFile)), MembershipJson.Default.Membership)!;
            return new NodeIdentity(
                membership,
                X509Certificate2.CreateFromPemFile(Path.Combine(folder, CertificateFile)),
                TrustBundle.Parse(File.ReadAllText(Path.Combine(folder, AuthorityFile))));
        }
        catch (Exception e) when (e is IOException or JsonException or CryptographicException)
        {
            throw new InvalidDataException(
                $"this node's identity in {folder} cannot be read: {e.Message}; restore the directory from a backup, or remove it, "
                + "remove the node with 'overlaynet node rm --force' and join again", e);
        }
    }

    /// <summary>
    /// Writes an identity where there is none, as a whole: a crash leaves either nothing or all of it. Key and certificate are one
    /// file, so that they cannot fall apart.
    /// </summary>
    /// <exception cref="IOException">There is one already, or the disk refuses.</exception>
    public static NodeIdentity Save(string stateDirectory, Membership membership, string certificatePem, ECDsa key, string authorityPem)
    {
        var folder = Path.Combine(stateDirectory, Folder);
        var temporary = $"{folder}.new";
        if (Directory.Exists(temporary))
            Directory.Delete(temporary, recursive: true);
        Directory.CreateDirectory(temporary, OwnerOnly | UnixFileMode.UserExecute);
        var pem = certificatePem.TrimEnd() + "\n" + key.ExportPkcs8PrivateKeyPem() + "\n";
        Write(Path.Combine(temporary, CertificateFile), Encoding.ASCII.GetBytes(pem));
        Write(Path.Combine(temporary, AuthorityFile), Encoding.ASCII.GetBytes(authorityPem));
        Write(Path.Combine(temporary, MembershipFile), JsonSerializer.SerializeToUtf8Bytes(membership, MembershipJson.Default.Membership));
        Directory.Move(temporary, folder);
        return Load(stateDirectory)!;
    }

    /// <summary>Puts another certificate (and key) and membership in the place of the present ones.</summary>
    public static NodeIdentity Replace(string stateDirectory, Membership membership, string certificatePem, ECDsa key)
    {
        var folder = Path.Combine(stateDirectory, Folder);
        var pem = certificatePem.TrimEnd() + "\n" + key.ExportPkcs8PrivateKeyPem() + "\n";
        ReplaceFile(Path.Combine(folder, CertificateFile), Encoding.ASCII.GetBytes(pem));
        ReplaceFile(Path.Combine(folder, MembershipFile), JsonSerializer.SerializeToUtf8Bytes(membership, MembershipJson.Default.Membership));
        return Load(stateDirectory)!;
    }

    /// <summary>Trusts other CAs from now on.</summary>
    public static NodeIdentity ReplaceAuthorities(string stateDirectory, string authoritiesPem)
    {
        ReplaceFile(Path.Combine(stateDirectory, Folder, AuthorityFile), Encoding.ASCII.GetBytes(authoritiesPem));
        return Load(stateDirectory)!;
    }

    /// <summary>Forgets the membership, as 'overlaynet leave' does.</summary>
    public static void Delete(string stateDirectory)
    {
        var folder = Path.Combine(stateDirectory, Folder);
        if (!Directory.Exists(folder))
            return;
        // Renamed first: half an identity is never found.
        var leaving = $"{folder}.old";
        if (Directory.Exists(leaving))
            Directory.Delete(leaving, recursive: true);
        Directory.Move(folder, leaving);
        Directory.Delete(leaving, recursive: true);
    }

    public void Dispose()
    {
        Certificate.Dispose();
        foreach (var authority in Authorities)
            authority.Dispose();
    }

    private static void ReplaceFile(string path, byte[] content)
    {
        File.Delete(path + ".new");
        Write(path + ".new", content);
        File.Move(path + ".new", path, overwrite: true);
    }

    private static void Write(string path, byte[] content)
    {
        using var file = new FileStream(path, new FileStreamOptions
        {
            Mode = FileMode.CreateNew,
            Access = FileAccess.Write,
            UnixCreateMode = OwnerOnly,
        });
        file.Write(content);
        file.Flush(flushToDisk: true);
    }
}
