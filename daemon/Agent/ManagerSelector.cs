using System.Text;

namespace OverlayNet.Daemon.Agent;

/// <summary>
/// Which manager an agent works with: the first fit one in an order of its own (rendezvous hashing), so that agents spread evenly and
/// only those of a lost manager move. One that failed is left alone for a while, longer each time, and then tried again.
/// </summary>
/// <param name="managers">The managers there are; asked at every use.</param>
/// <param name="clientId">This node's id.</param>
/// <param name="preferred">Goes before all others: a manager's agent works with its own node. Null: none.</param>
public sealed class ManagerSelector(Func<IReadOnlyList<Uri>> managers, string clientId, Func<Uri?> preferred, TimeProvider time)
{
    private static readonly TimeSpan FirstRest = TimeSpan.FromSeconds(1), LastRest = TimeSpan.FromSeconds(30);
    private readonly Dictionary<Uri, (long Until, TimeSpan Length)> _resting = [];
    private readonly Lock _gate = new();

    public string ClientId => clientId;

    /// <summary>The managers in the order in which this agent tries them now: fit ones by preference, then those that rest, the longest rested first.</summary>
    public IReadOnlyList<Uri> Order()
    {
        var own = preferred();
        var now = time.GetTimestamp();
        lock (_gate)
        {
            return [.. managers()
                .OrderBy(m => _resting.TryGetValue(m, out var rest) && rest.Until > now ? rest.Until : 0)
                .ThenByDescending(m => m.Equals(own))
                .ThenByDescending(m => Weight(clientId, m))];
        }
    }

    public void Failed(Uri manager)
    {
        lock (_gate)
        {
            var rest = _resting.TryGetValue(manager, out var known) ? known.Length * 2 : FirstRest;
            rest = rest > LastRest ? LastRest : rest;
            // Jitter: agents must not all come back in the same moment.
            _resting[manager] = (time.GetTimestamp() + (long)(rest.TotalSeconds * (0.75 + (Random.Shared.NextDouble() / 2)) * time.TimestampFrequency), rest);
        }
    }

    public void Succeeded(Uri manager)
    {
        lock (_gate)
            _resting.Remove(manager);
    }

    private static ulong Weight(string client, Uri manager)
    {
        // FNV-1a with a final mix: the same on every run, unlike string.GetHashCode.
        var hash = 14695981039346656037UL;
        foreach (var b in Encoding.UTF8.GetBytes($"{client} {manager.Authority}"))
            hash = unchecked((hash ^ b) * 1099511628211UL);
        hash ^= hash >> 33;
        hash = unchecked(hash * 0xff51afd7ed558ccdUL);
        return hash ^ (hash >> 33);
    }
}
