using System.Collections.Immutable;

namespace OverlayNet.Vip.Fence;

/// <summary>The lease key as the registry has it.</summary>
/// <param name="Record">Null: no such key.</param>
/// <param name="Revision">Of the key's last change; 0 when absent. Ordered within the incarnation.</param>
public sealed record LeaseReading(LeaseRecord? Record, long Revision, long Incarnation);

/// <summary>A wish to hold a VIP set, as it appears in the registry.</summary>
/// <param name="Forced">An operator's move.</param>
public sealed record LeaseBid(string Node, int Priority, bool Forced);

/// <summary>
/// The registry as the fence needs it: linearizable reads and commits guarded on one key's revision and on the store's
/// incarnation. Times-to-live of the store are not used.
/// </summary>
public interface ILeaseStore
{
    /// <summary>Reads with quorum.</summary>
    /// <exception cref="Exception">Any failure: the fence counts it as no answer.</exception>
    Task<LeaseReading> ReadAsync(string vipSet, CancellationToken cancel);

    /// <summary>Writes when the key is at that revision in that incarnation.</summary>
    /// <returns>The outcome and, when committed, the key's new revision.</returns>
    /// <exception cref="Exception">Any failure: the outcome is unknown.</exception>
    Task<(CommitOutcome Outcome, long Revision)> CommitAsync(
        string vipSet, LeaseRecord record, long guardRevision, long guardIncarnation, CancellationToken cancel);

    /// <summary>Writes a bid, or refreshes it.</summary>
    Task PlaceBidAsync(string vipSet, LeaseBid bid, CancellationToken cancel);

    /// <summary>Calls back with every change of the lease and with every bid placed from now on, until disposed.</summary>
    IDisposable Watch(string vipSet, Action<LeaseReading> lease, Action<LeaseBid> bid);
}

/// <summary>The way to the peers of a set when the registry is lost (<see cref="StoreLossPolicy.HoldAll"/>).</summary>
public interface IPromisePeers
{
    /// <summary>Asks one peer; its answer, or an exception when there is none.</summary>
    Task<FenceInput.PromiseAnswered> AskAsync(string peer, string vipSet, FenceInput.PromiseAsked question, CancellationToken cancel);
}
