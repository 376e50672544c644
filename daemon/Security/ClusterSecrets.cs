using System.Security.Cryptography;
using System.Text.Json;
using System.Text.Json.Serialization;
using OverlayNet.Contracts;
using OverlayNet.Daemon.Registry;
using OverlayNet.Daemon.Registry.Store;

namespace OverlayNet.Daemon.Security;

internal sealed record AuthorityRecord(string CertificatePem, string KeyPem);

/// <param name="Generation">Changes at every rotation; the secret follows from it and the CA's key.</param>
/// <param name="Hash">SHA-256 over role and secret: what a presented token is compared with.</param>
internal sealed record TokenRecord(string Generation, byte[] Hash);

internal sealed record TokensRecord(TokenRecord Worker, TokenRecord Manager);

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.CamelCase)]
[JsonSerializable(typeof(AuthorityRecord))]
[JsonSerializable(typeof(TokensRecord))]
internal sealed partial class SecretsJson : JsonSerializerContext;

/// <summary>The CA and the join tokens, as managers keep them in the store.</summary>
/// <remarks>
/// Tokens are stored as hashes; the secrets themselves follow from the CA's key, which is how a manager can show a token
/// again. Throws <see cref="RegistryException"/> 503 when the store fails.
/// </remarks>
public sealed class ClusterSecrets(IRegistryStore store, TimeProvider time)
{
    /// <summary>The CA, for the caller to dispose.</summary>
    public async Task<CertificateAuthority> AuthorityAsync(CancellationToken cancel = default)
    {
        var record = JsonSerializer.Deserialize(
            (await ReadAsync(Keys.CertificateAuthority, cancel).ConfigureAwait(false)).Value.Span, SecretsJson.Default.AuthorityRecord)!;
        return CertificateAuthority.Load(record.CertificatePem, record.KeyPem, time);
    }

    public async Task<string> AuthorityPemAsync(CancellationToken cancel = default)
    {
        using var authority = await AuthorityAsync(cancel).ConfigureAwait(false);
        return authority.CertificatePem;
    }

    public async Task<TokenBody> TokensAsync(CancellationToken cancel = default)
    {
        var (tokens, _) = await ReadTokensAsync(cancel).ConfigureAwait(false);
        using var authority = await AuthorityAsync(cancel).ConfigureAwait(false);
        return Show(authority, tokens);
    }

    /// <summary>Makes new tokens; the old ones are worth nothing from then on. Members stay members.</summary>
    /// <param name="role">Null: both.</param>
    public async Task<TokenBody> RotateAsync(NodeRole? role, CancellationToken cancel = default)
    {
        using var authority = await AuthorityAsync(cancel).ConfigureAwait(false);
        while (true)
        {
            var incarnation = store.Identity.Incarnation;
            var (tokens, revision) = await ReadTokensAsync(cancel).ConfigureAwait(false);
            var rotated = new TokensRecord(
                role is NodeRole.Manager ? tokens.Worker : NewToken(authority, NodeRole.Worker),
                role is NodeRole.Worker ? tokens.Manager : NewToken(authority, NodeRole.Manager));
            var result = await CommitAsync(new Transaction
            {
                Guards = [Guard.Unchanged(Keys.Tokens, revision)],
                Incarnation = incarnation,
                Puts = [new Put(Keys.Tokens, JsonSerializer.SerializeToUtf8Bytes(rotated, SecretsJson.Default.TokensRecord))],
            }, cancel).ConfigureAwait(false);
            if (result.Outcome == CommitOutcome.Committed)
                return Show(authority, rotated);
            if (result.Outcome == CommitOutcome.OtherIncarnation)
                await Task.Delay(TimeSpan.FromMilliseconds(200), time, cancel).ConfigureAwait(false);
        }
    }

    /// <returns>The role a token gives; null: it gives none.</returns>
    public async Task<NodeRole?> RoleOfAsync(string token, CancellationToken cancel = default)
    {
        if (JoinToken.Parse(token) is not { } parsed)
            return null;
        var (tokens, _) = await ReadTokensAsync(cancel).ConfigureAwait(false);
        // Both are always compared, each in constant time.
        var isWorker = CryptographicOperations.FixedTimeEquals(JoinToken.Hash(NodeRole.Worker, parsed.Secret), tokens.Worker.Hash);
        var isManager = CryptographicOperations.FixedTimeEquals(JoinToken.Hash(NodeRole.Manager, parsed.Secret), tokens.Manager.Hash);
        return isManager ? NodeRole.Manager : isWorker ? NodeRole.Worker : null;
    }

    /// <summary>What a new cluster's first transaction has to put.</summary>
    internal static IReadOnlyList<Put> Initial(CertificateAuthority authority) =>
    [
        new Put(Keys.CertificateAuthority, JsonSerializer.SerializeToUtf8Bytes(
            new AuthorityRecord(authority.CertificatePem, authority.ExportKeyPem()), SecretsJson.Default.AuthorityRecord)),
        new Put(Keys.Tokens, JsonSerializer.SerializeToUtf8Bytes(
            new TokensRecord(NewToken(authority, NodeRole.Worker), NewToken(authority, NodeRole.Manager)), SecretsJson.Default.TokensRecord)),
    ];

    private static TokenBody Show(CertificateAuthority authority, TokensRecord tokens) => new()
    {
        Worker = new JoinToken(authority.Fingerprint, Secret(authority, NodeRole.Worker, tokens.Worker.Generation)).ToString(),
        Manager = new JoinToken(authority.Fingerprint, Secret(authority, NodeRole.Manager, tokens.Manager.Generation)).ToString(),
    };

    private static TokenRecord NewToken(CertificateAuthority authority, NodeRole role)
    {
        var generation = RandomNumberGenerator.GetHexString(32, lowercase: true);
        return new TokenRecord(generation, JoinToken.Hash(role, Secret(authority, role, generation)));
    }

    private static byte[] Secret(CertificateAuthority authority, NodeRole role, string generation) =>
        authority.DeriveSecret($"join token/{role}/{generation}", JoinToken.SecretLength);

    private async Task<(TokensRecord Tokens, long Revision)> ReadTokensAsync(CancellationToken cancel)
    {
        var item = await ReadAsync(Keys.Tokens, cancel).ConfigureAwait(false);
        return (JsonSerializer.Deserialize(item.Value.Span, SecretsJson.Default.TokensRecord)!, item.ModRevision);
    }

    private async Task<StoredValue> ReadAsync(string key, CancellationToken cancel)
    {
        try
        {
            var page = await store.RangeAsync(key, limit: 1, cancel: cancel).ConfigureAwait(false);
            return page.Items.Count == 1 && page.Items[0].Key == key
                ? page.Items[0]
                : throw Refuse.Unavailable($"the registry has no {key}: the cluster is not initialised");
        }
        catch (RegistryStoreException e)
        {
            throw Refuse.Unavailable(e.Message);
        }
    }

    private async Task<CommitResult> CommitAsync(Transaction transaction, CancellationToken cancel)
    {
        try
        {
            return await store.CommitAsync(transaction, cancel).ConfigureAwait(false);
        }
        catch (RegistryStoreException e)
        {
            throw Refuse.Unavailable(e.Message);
        }
    }
}
