using OverlayNet.Daemon.Registry;

namespace OverlayNet.Daemon.Agent;

/// <summary>Makes the kernel and the DNS server of this node reflect a snapshot. Idempotent; called from one thread.</summary>
public interface IDataPlane
{
    /// <param name="suppressed">Ids of this node's endpoints that are gone although the registry does not know it yet.</param>
    ApplyOutcome Apply(Snapshot snapshot, IReadOnlySet<string> suppressed);
}

/// <summary>What one application found.</summary>
public sealed record ApplyOutcome
{
    public long Revision { get; init; }

    /// <summary>Errors by the id of the object they are about; the key "" is for what belongs to none.</summary>
    public IReadOnlyDictionary<string, string> Errors { get; init; } = new Dictionary<string, string>();

    /// <summary>This node's endpoints whose path is in place, by id, each with the name of its interface inside the container.</summary>
    public IReadOnlyDictionary<string, string> Ready { get; init; } = new Dictionary<string, string>();

    /// <summary>Ids of this node's endpoints whose namespace no longer exists.</summary>
    public IReadOnlyList<string> Gone { get; init; } = [];
}
