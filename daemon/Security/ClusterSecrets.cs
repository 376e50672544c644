using System.Security.Cryptography;
using System.Text.Json;
using System.Text.Json.Serialization;
using OverlayNet.Contracts;
using OverlayNet.Daemon.Registry;
using OverlayNet.Daemon.Registry.Store;

namespace OverlayNet.Daemon.Security;

/// <param name="NextCertificatePem">The CA that is to sign next, while nodes are told to trust it.</param>
/// <param name="PreviousPem">The CA that signed before, while nodes still have certificates of it.</param>
internal sealed record AuthorityRecord(string CertificatePem, string KeyPem, string? NextCertificatePem = null, string? NextKeyPem = null, string? PreviousPem = null)
{
    public AuthorityPhase Phase => NextCertificatePem is not null ? AuthorityPhase.Trusting : PreviousPem is not null ? AuthorityPhase.Renewing : AuthorityPhase.Stable;

    /// <summary>All that are to be trusted, the one that signs first.</summary>
    public string TrustPem => string.Join('\n', new[] { CertificatePem, NextCertificatePem, PreviousPem }.OfType<string>().Select(pem => pem.TrimEnd())) + "\n";
}

/// <summary>What nodes are told of the cluster's CA.</summary>
internal sealed record TrustState(AuthorityPhase Phase, string Pem, string Hash, string Signer);

/// <param name="Generation">Changes at every rotation; the secret follows from it and the CA's key.</param>
/// <param name="Hash">SHA-256 over role and secret: what a presented token is compared with.</param>
internal sealed record TokenRecord(string Generation, byte[] Hash);

/// <param name="Hash">As of <see cref="TokenRecord"/>.</param>
internal sealed record FurtherToken(string Id, NodeRole Role, byte[] Hash, long ExpiresAtUnixMs, bool Once, string? UsedBy = null);

internal sealed record TokensRecord(TokenRecord Worker, TokenRecord Manager, IReadOnlyList<FurtherToken>? Further = null);

/// <summary>What a presented token is worth.</summary>
/// <param name="Role">Null: nothing.</param>
/// <param name="Problem">Why it is worth nothing.</param>
/// <param name="OnceId">A token that is used up by one join.</param>
public readonly record struct TokenVerdict(NodeRole? Role, string Problem = "", string? OnceId = null);

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.CamelCase)]
[JsonSerializable(typeof(AuthorityRecord))]
[JsonSerializable(typeof(TokensRecord))]
internal sealed partial class SecretsJson : JsonSerializerContext;

/// <summary>The CA and the join tokens, as managers keep them in the store.</summary>
/// <remarks>
/// Tokens are stored as hashes; the secrets themselves follow from the CA's key, which is how a manager can show a token
/// again. Throws <see cref="RegistryException"/> 503 when the store fails.
/// </remarks>
/// <param name="nodeLife">How long nodes' certificates are valid; null: <see cref="CertificateAuthority.NodeLife"/>.</param>
public sealed class ClusterSecrets(IRegistryStore store, TimeProvider time, TimeSpan? nodeLife = null)
{
    private static readonly TimeSpan TrustAge = TimeSpan.FromSeconds(1), KeepEnded = TimeSpan.FromDays(7);
    private (TrustState State, long ReadAt)? _trust;

    /// <summary>The CA, for the caller to dispose.</summary>
    public async Task<CertificateAuthority> AuthorityAsync(CancellationToken cancel = default)
    {
        var (record, _) = await ReadAuthorityAsync(cancel).ConfigureAwait(false);
        return CertificateAuthority.Load(record.CertificatePem, record.KeyPem, time, nodeLife);
    }

    /// <summary>What nodes are to trust, the CA that signs first.</summary>
    public async Task<string> TrustPemAsync(CancellationToken cancel = default) => (await ReadAuthorityAsync(cancel).ConfigureAwait(false)).Record.TrustPem;

    /// <summary>What nodes are told with each heartbeat; at most a second old.</summary>
    internal async Task<TrustState> TrustAsync(CancellationToken cancel = default)
    {
        if (_trust is { } kept && time.GetElapsedTime(kept.ReadAt) < TrustAge)
            return kept.State;
        var now = time.GetTimestamp();
        var (record, _) = await ReadAuthorityAsync(cancel).ConfigureAwait(false);
        var authorities = TrustBundle.Parse(record.TrustPem);
        var state = new TrustState(record.Phase, record.TrustPem, TrustBundle.Hash(authorities), TrustBundle.Fingerprint(authorities[0]));
        _trust = (state, now);
        return state;
    }

    /// <summary>Begins to replace the CA: nodes are told to trust the new one too.</summary>
    public async Task RotateAuthorityAsync(CancellationToken cancel = default)
    {
        var (incarnation, (record, revision)) = (store.Identity.Incarnation, await ReadAuthorityAsync(cancel).ConfigureAwait(false));
        if (record.Phase != AuthorityPhase.Stable)
            throw Refuse.Conflict("rotation-under-way", "ca", null, "it is being replaced already", "see 'overlaynet ca show' for whom it waits");
        using var next = CertificateAuthority.Create(store.Identity.ClusterId, time);
        await ReplaceAuthorityAsync(record with { NextCertificatePem = next.CertificatePem, NextKeyPem = next.ExportKeyPem() }, revision, incarnation, [], cancel).ConfigureAwait(false);
    }

    /// <summary>Goes one phase on, unless somebody else has. With the new CA's signature come new join tokens: they carry the fingerprint of the one that signs.</summary>
    internal async Task AdvanceAuthorityAsync(AuthorityPhase from, CancellationToken cancel = default)
    {
        var (incarnation, (record, revision)) = (store.Identity.Incarnation, await ReadAuthorityAsync(cancel).ConfigureAwait(false));
        if (record.Phase != from)
            return;
        if (from == AuthorityPhase.Renewing)
        {
            await ReplaceAuthorityAsync(record with { PreviousPem = null }, revision, incarnation, [], cancel).ConfigureAwait(false);
            return;
        }
        using var next = CertificateAuthority.Load(record.NextCertificatePem!, record.NextKeyPem!, time);
        var tokens = new TokensRecord(NewToken(next, NodeRole.Worker), NewToken(next, NodeRole.Manager));
        await ReplaceAuthorityAsync(
            new AuthorityRecord(record.NextCertificatePem!, record.NextKeyPem!, PreviousPem: record.CertificatePem), revision, incarnation,
            [new Put(Keys.Tokens, JsonSerializer.SerializeToUtf8Bytes(tokens, SecretsJson.Default.TokensRecord))], cancel).ConfigureAwait(false);
    }

    /// <summary>How far a replacement of the CA is.</summary>
    internal async Task<AuthorityReport> ReportAsync(IEnumerable<(string Name, NodeTrust? Said)> nodes, CancellationToken cancel)
    {
        _trust = null;
        var trust = await TrustAsync(cancel).ConfigureAwait(false);
        var authorities = TrustBundle.Parse(trust.Pem);
        return new AuthorityReport
        {
            Phase = trust.Phase.ToString().ToLowerInvariant(),
            Signer = trust.Signer,
            SignerExpiresAt = authorities[0].NotAfter.ToUniversalTime(),
            Trusted = [.. authorities.Select(TrustBundle.Fingerprint)],
            WaitsFor = AuthorityRotation.WaitsFor(trust.Phase, trust.Hash, trust.Signer, nodes),
        };
    }

    /// <summary>Makes a further token, which ends by itself.</summary>
    public async Task<TokenInfo> CreateTokenAsync(TokenCreateRequest request, CancellationToken cancel = default)
    {
        if (request.TtlSeconds is < 0 or > 366L * 86400)
            throw Refuse.Invalid("invalid-ttl", "ttlSeconds", Names.Text(request.TtlSeconds), "it is not from a second to a year", "give seconds, such as 3600");
        using var authority = await AuthorityAsync(cancel).ConfigureAwait(false);
        var secret = RandomNumberGenerator.GetBytes(JoinToken.SecretLength);
        var token = new FurtherToken(
            RandomNumberGenerator.GetHexString(8, lowercase: true), request.Role, JoinToken.Hash(request.Role, secret),
            (time.GetUtcNow() + TimeSpan.FromSeconds(request.TtlSeconds == 0 ? 3600 : request.TtlSeconds)).ToUnixTimeMilliseconds(), request.Once);
        await ChangeTokensAsync(tokens => tokens with { Further = [.. Further(tokens), token] }, cancel).ConfigureAwait(false);
        return Info(token) with { Token = new JoinToken(authority.Fingerprint, secret).ToString() };
    }

    /// <summary>Every token but its secret; those that ended stay to be seen for a week.</summary>
    public async Task<List<TokenInfo>> ListTokensAsync(CancellationToken cancel = default)
    {
        var (tokens, _) = await ReadTokensAsync(cancel).ConfigureAwait(false);
        return
        [
            new TokenInfo { Id = "worker", Role = NodeRole.Worker },
            new TokenInfo { Id = "manager", Role = NodeRole.Manager },
            .. Further(tokens).Select(Info),
        ];
    }

    /// <summary>Ends a further token at once. The two that do not end by themselves are rotated instead.</summary>
    public async Task<TokenInfo> RevokeTokenAsync(string id, CancellationToken cancel = default)
    {
        FurtherToken? found = null;
        await ChangeTokensAsync(tokens =>
        {
            found = Further(tokens).FirstOrDefault(t => t.Id == id) ?? throw Refuse.NotFound("token", id);
            return tokens with { Further = [.. Further(tokens).Where(t => t.Id != id)] };
        }, cancel).ConfigureAwait(false);
        return Info(found!);
    }

    /// <summary>Uses a token up.</summary>
    /// <returns>False: somebody else has.</returns>
    public async Task<bool> UseUpAsync(string id, string node, CancellationToken cancel = default)
    {
        var used = false;
        await ChangeTokensAsync(tokens =>
        {
            used = Further(tokens).Any(t => t.Id == id && t.UsedBy is null);
            return !used ? null : tokens with { Further = [.. Further(tokens).Select(t => t.Id == id ? t with { UsedBy = node } : t)] };
        }, cancel).ConfigureAwait(false);
        return used;
    }

    /// <summary>Takes back that a token was used up: the join came to nothing.</summary>
    public Task GiveBackAsync(string id, CancellationToken cancel = default) => ChangeTokensAsync(
        tokens => tokens with { Further = [.. Further(tokens).Select(t => t.Id == id ? t with { UsedBy = null } : t)] }, cancel);

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
                role is NodeRole.Worker ? tokens.Manager : NewToken(authority, NodeRole.Manager),
                tokens.Further);
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

    /// <summary>The role a token gives, or why it gives none.</summary>
    public async Task<TokenVerdict> JudgeAsync(string token, CancellationToken cancel = default)
    {
        if (JoinToken.Parse(token) is not { } parsed)
            return new TokenVerdict(null, "it is no join token");
        var (tokens, _) = await ReadTokensAsync(cancel).ConfigureAwait(false);
        // Both are always compared, each in constant time.
        var isWorker = CryptographicOperations.FixedTimeEquals(JoinToken.Hash(NodeRole.Worker, parsed.Secret), tokens.Worker.Hash);
        var isManager = CryptographicOperations.FixedTimeEquals(JoinToken.Hash(NodeRole.Manager, parsed.Secret), tokens.Manager.Hash);
        var further = Further(tokens).Where(t => CryptographicOperations.FixedTimeEquals(JoinToken.Hash(t.Role, parsed.Secret), t.Hash)).ToList();
        if (isManager || isWorker)
            return new TokenVerdict(isManager ? NodeRole.Manager : NodeRole.Worker);
        return further switch
        {
            [] => new TokenVerdict(null, "it may have been rotated or revoked, or be another cluster's"),
            [{ UsedBy: { } by }] => new TokenVerdict(null, $"it let in one node and is used up, by {by}"),
            [var t] when IsOver(t) => new TokenVerdict(null, $"it expired at {DateTimeOffset.FromUnixTimeMilliseconds(t.ExpiresAtUnixMs):u}"),
            [var t, ..] => new TokenVerdict(t.Role, "", t.Once ? t.Id : null),
        };
    }

    private static IReadOnlyList<FurtherToken> Further(TokensRecord tokens) => tokens.Further ?? [];

    private bool IsOver(FurtherToken token) => token.ExpiresAtUnixMs <= time.GetUtcNow().ToUnixTimeMilliseconds();

    private TokenInfo Info(FurtherToken token) => new()
    {
        Id = token.Id,
        Role = token.Role,
        ExpiresAt = DateTimeOffset.FromUnixTimeMilliseconds(token.ExpiresAtUnixMs),
        Once = token.Once,
        UsedBy = token.UsedBy,
        State = token.UsedBy is not null ? "used" : IsOver(token) ? "expired" : "usable",
    };

    /// <param name="change">Null: nothing to change.</param>
    private async Task ChangeTokensAsync(Func<TokensRecord, TokensRecord?> change, CancellationToken cancel)
    {
        while (true)
        {
            var incarnation = store.Identity.Incarnation;
            var (tokens, revision) = await ReadTokensAsync(cancel).ConfigureAwait(false);
            if (change(tokens) is not { } changed)
                return;
            var ended = (time.GetUtcNow() - KeepEnded).ToUnixTimeMilliseconds();
            changed = changed with { Further = [.. Further(changed).Where(t => t.ExpiresAtUnixMs > ended)] };
            var result = await CommitAsync(new Transaction
            {
                Guards = [Guard.Unchanged(Keys.Tokens, revision)],
                Incarnation = incarnation,
                Puts = [new Put(Keys.Tokens, JsonSerializer.SerializeToUtf8Bytes(changed, SecretsJson.Default.TokensRecord))],
            }, cancel).ConfigureAwait(false);
            if (result.Outcome == CommitOutcome.Committed)
                return;
            if (result.Outcome == CommitOutcome.Unknown)
                throw Refuse.Unavailable("the store did not say whether the tokens were changed; look before you repeat it");
            if (result.Outcome == CommitOutcome.OtherIncarnation)
                await Task.Delay(TimeSpan.FromMilliseconds(200), time, cancel).ConfigureAwait(false);
        }
    }

    private async Task<(AuthorityRecord Record, long Revision)> ReadAuthorityAsync(CancellationToken cancel)
    {
        var item = await ReadAsync(Keys.CertificateAuthority, cancel).ConfigureAwait(false);
        return (JsonSerializer.Deserialize(item.Value.Span, SecretsJson.Default.AuthorityRecord)!, item.ModRevision);
    }

    private async Task ReplaceAuthorityAsync(AuthorityRecord record, long revision, long incarnation, IReadOnlyList<Put> more, CancellationToken cancel)
    {
        var result = await CommitAsync(new Transaction
        {
            Guards = [Guard.Unchanged(Keys.CertificateAuthority, revision)],
            Incarnation = incarnation,
            Puts = [new Put(Keys.CertificateAuthority, JsonSerializer.SerializeToUtf8Bytes(record, SecretsJson.Default.AuthorityRecord)), .. more],
        }, cancel).ConfigureAwait(false);
        _trust = null;
        if (result.Outcome != CommitOutcome.Committed)
            throw Refuse.Unavailable("the CA's record changed meanwhile; see 'overlaynet ca show'");
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
