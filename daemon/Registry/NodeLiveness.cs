using System.Collections.Concurrent;
using OverlayNet.Contracts;

namespace OverlayNet.Daemon.Registry;

/// <summary>What heartbeats tell; kept in memory only.</summary>
/// <remarks>
/// Nobody is silent before this manager itself has listened for a whole period without a break: after its start, after
/// a stall of its own, and after it was without a majority (and so cut off from what others hear), every node has its whole time again.
/// </remarks>
internal sealed class NodeLiveness(TimeProvider time, TimeSpan timeout)
{
    private readonly ConcurrentDictionary<string, Beat> _beats = new();
    private long _listeningSince = time.GetTimestamp();
    private long _lastLook = time.GetTimestamp();

    /// <param name="Direct">Sent to this manager, not told by another.</param>
    /// <param name="SkewMs">How far the node's clock is ahead of this manager's; null: not known.</param>
    internal sealed record Beat(long At, long AppliedRevision, double LatenessMs, string Trust, string Issuer, bool Direct = true, double? SkewMs = null);

    /// <summary>How often <see cref="Silent"/> has to be asked.</summary>
    public TimeSpan LookEvery => timeout / 30;

    public void Heard(HeartbeatRequest heartbeat) =>
        _beats[heartbeat.NodeId] = new Beat(time.GetTimestamp(), heartbeat.AppliedRevision, heartbeat.LatenessMs, heartbeat.Trust, heartbeat.Issuer,
            SkewMs: heartbeat.UnixMs > 0 ? heartbeat.UnixMs - time.GetUtcNow().ToUnixTimeMilliseconds() : null);

    /// <summary>Takes what another manager has heard, unless something newer is known.</summary>
    public void HeardElsewhere(NodeBeat beat)
    {
        var at = time.GetTimestamp() - (long)(beat.AgeMs / 1000 * time.TimestampFrequency);
        var told = new Beat(at, beat.AppliedRevision, beat.LatenessMs, beat.Trust, beat.Issuer, Direct: false);
        _beats.AddOrUpdate(beat.NodeId, told, (_, known) => known.At >= at ? known : told);
    }

    /// <summary>What other managers have to know: the heartbeats that come here.</summary>
    public List<NodeBeat> Own()
    {
        var beats = new List<NodeBeat>();
        foreach (var (id, beat) in _beats)
        {
            var age = time.GetElapsedTime(beat.At);
            if (beat.Direct && age < timeout * 2)
                beats.Add(new NodeBeat { NodeId = id, AgeMs = age.TotalMilliseconds, AppliedRevision = beat.AppliedRevision, LatenessMs = beat.LatenessMs, Trust = beat.Trust, Issuer = beat.Issuer });
        }
        return beats;
    }

    public Beat? Last(string nodeId) => _beats.GetValueOrDefault(nodeId);

    public TimeSpan? SinceHeard(string nodeId) => Last(nodeId) is { } beat ? time.GetElapsedTime(beat.At) : null;

    public void Forget(string nodeId) => _beats.TryRemove(nodeId, out _);

    /// <summary>What comes from now on counts: this manager could not know before, for want of a majority.</summary>
    public void ListenAnew() => _listeningSince = _lastLook = time.GetTimestamp();

    /// <summary>Whether a node has been silent for so long, or for the whole time-out where that is shorter, since this manager listens.</summary>
    public bool IsSilent(string nodeId, int seconds)
    {
        var period = TimeSpan.FromSeconds(Math.Min(seconds, timeout.TotalSeconds));
        return time.GetElapsedTime(Math.Max(Last(nodeId)?.At ?? 0, Volatile.Read(ref _listeningSince))) >= period;
    }

    /// <summary>The nodes whose time is over, with their silence.</summary>
    public List<(Node Node, TimeSpan Silence)> Silent(IEnumerable<Node> nodes)
    {
        var now = time.GetTimestamp();
        if (time.GetElapsedTime(_lastLook, now) > timeout / 5)
            _listeningSince = now;
        _lastLook = now;
        var silent = new List<(Node, TimeSpan)>();
        foreach (var node in nodes)
        {
            var heard = Math.Max(Last(node.Id)?.At ?? 0, _listeningSince);
            var silence = time.GetElapsedTime(heard, now);
            if (silence >= timeout)
                silent.Add((node, silence));
        }
        return silent;
    }
}
