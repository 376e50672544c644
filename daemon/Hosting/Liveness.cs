using OverlayNet.Daemon.Agent;

namespace OverlayNet.Daemon.Hosting;

/// <summary>Whether the daemon does its work: the loop that applies must have come round lately.</summary>
/// <param name="limit">How long one round may take; far above any that was ever seen.</param>
internal sealed class Liveness(TimeProvider time, TimeSpan limit)
{
    private long _lastRound = time.GetTimestamp();
    private volatile bool _following;

    public void Follow(Reconciler reconciler)
    {
        Volatile.Write(ref _lastRound, time.GetTimestamp());
        reconciler.Applied += _ =>
        {
            Volatile.Write(ref _lastRound, time.GetTimestamp());
            // Before the first round nothing is due: the node may wait for a manager as long as it takes.
            _following = true;
        };
    }

    /// <summary>The membership has ended: nothing is due any more.</summary>
    public void Rest() => _following = false;

    public bool Alive => !_following || time.GetElapsedTime(Volatile.Read(ref _lastRound)) < limit;
}
