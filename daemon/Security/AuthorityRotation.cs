namespace OverlayNet.Daemon.Security;

/// <summary>How far the replacement of the cluster's CA is.</summary>
public enum AuthorityPhase
{
    /// <summary>There is one CA.</summary>
    Stable,

    /// <summary>The old one signs; every node is being told to trust the new one too.</summary>
    Trusting,

    /// <summary>The new one signs; every node is getting a certificate of it.</summary>
    Renewing,
}

/// <summary>What a node says of its identity with each heartbeat.</summary>
/// <param name="Trust">The set of CAs it trusts (<see cref="TrustBundle.Hash"/>), its etcd included; empty: not said.</param>
/// <param name="Issuer">The CA of its certificate (<see cref="TrustBundle.Fingerprint"/>).</param>
public readonly record struct NodeTrust(string Trust, string Issuer);

/// <summary>
/// The rule of the two-phase replacement: nobody shows a certificate of a CA that somebody does not trust yet, and nobody stops trusting
/// one of whose certificates somebody still has.
/// </summary>
public static class AuthorityRotation
{
    /// <param name="trust">The set of CAs that nodes shall trust now.</param>
    /// <param name="signer">The CA that signs now.</param>
    /// <param name="nodes">What each node of the cluster last said; null: it has not been heard of.</param>
    /// <returns>The names of the nodes that are waited for; empty: the next phase may begin.</returns>
    public static IReadOnlyList<string> WaitsFor(AuthorityPhase phase, string trust, string signer, IEnumerable<(string Name, NodeTrust? Said)> nodes) => phase switch
    {
        AuthorityPhase.Trusting => [.. nodes.Where(n => n.Said?.Trust != trust).Select(n => n.Name)],
        AuthorityPhase.Renewing => [.. nodes.Where(n => n.Said?.Trust != trust || n.Said?.Issuer != signer).Select(n => n.Name)],
        _ => [],
    };
}
