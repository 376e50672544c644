using OverlayNet.Daemon.Registry;

namespace OverlayNet.Daemon.Agent;

/// <summary>Makes the kernel and the DNS server of this node reflect a snapshot. Idempotent; called from one thread.</summary>
public interface IDataPlane
{
    /// <param name="suppressed">Ids of this node's endpoints that are gone although the registry does not know it yet.</param>
    /// <param name="whole">
    /// Compare everything with the kernel, so that what somebody else changed is mended too; false: bring about what differs from the
    /// call before, which is much quicker.
    /// </param>
    ApplyOutcome Apply(Snapshot snapshot, IReadOnlySet<string> suppressed, bool whole);
}

/// <summary>What one application found.</summary>
public sealed record ApplyOutcome
{
    public long Revision { get; init; }

    /// <summary>Everything was compared with the kernel, not only what changed brought about.</summary>
    public bool Whole { get; init; }

    /// <summary>Errors by the id of the object they are about; the key "" is for what belongs to none.</summary>
    public IReadOnlyDictionary<string, string> Errors { get; init; } = new Dictionary<string, string>();

    /// <summary>Those of this node's endpoints that were looked at and whose path is in place, by id, each with the name of its interface inside the container.</summary>
    public IReadOnlyDictionary<string, string> Ready { get; init; } = new Dictionary<string, string>();

    /// <summary>Ids of this node's endpoints whose namespace no longer exists.</summary>
    public IReadOnlyList<string> Gone { get; init; } = [];
}
