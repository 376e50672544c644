namespace OverlayNet.Vip.Balancers.Nft;

/// <summary>
/// Turns weights into a short list of buckets, each naming one real server: as few as give every server its share
/// within a point and a tenth of itself. Pure.
/// </summary>
public static class Buckets
{
    /// <summary>Enough for shares of 1 %; more only when there are more servers.</summary>
    public const int Usual = 128;

    /// <summary>What a service class can say (<see cref="ServiceClass"/>).</summary>
    public const int Most = 16383;

    /// <summary>Buckets of a service whose scheduler is a consistent hash.</summary>
    public const int Consistent = 257;
    private const double Points = 0.01, Relative = 0.1;

    /// <returns>For each bucket the index of its server, spread evenly; empty when no weight is above 0.</returns>
    public static int[] Fill(ReadOnlySpan<int> weights)
    {
        if (AreEqual(weights))
            return [.. Enumerable.Range(0, weights.Length)];
        var counts = Allot(weights);
        var slots = new List<(double Position, int Server)>();
        for (var server = 0; server < counts.Length; server++)
        {
            for (var copy = 0; copy < counts[server]; copy++)
                slots.Add(((copy + 0.5) / counts[server], server));
        }
        return [.. slots.OrderBy(slot => slot.Position).ThenBy(slot => slot.Server).Select(slot => slot.Server)];
    }

    /// <summary>
    /// Weighted rendezvous hashing: when a server comes or goes, only its own share of the buckets changes hands (scheduler mh).
    /// </summary>
    /// <param name="keys">A number for each server that never changes.</param>
    public static int[] FillConsistently(ReadOnlySpan<int> weights, ReadOnlySpan<ulong> keys)
    {
        var buckets = new int[Consistent];
        for (var bucket = 0; bucket < Consistent; bucket++)
        {
            var best = double.NegativeInfinity;
            buckets[bucket] = -1;
            for (var server = 0; server < weights.Length; server++)
            {
                if (weights[server] <= 0)
                    continue;
                var uniform = ((Mix(keys[server] ^ Mix((ulong)bucket + 1)) >> 11) + 0.5) / (1UL << 53);
                var score = weights[server] / -Math.Log(uniform);
                if (score > best)
                    (best, buckets[bucket]) = (score, server);
            }
        }
        return buckets[0] < 0 ? [] : buckets;
    }

    /// <summary>How many buckets each server gets: at least one for any weight above 0.</summary>
    internal static int[] Allot(ReadOnlySpan<int> weights)
    {
        double sum = 0;
        var servers = 0;
        foreach (var weight in weights)
        {
            sum += Math.Max(weight, 0);
            servers += weight > 0 ? 1 : 0;
        }
        if (servers == 0)
            return new int[weights.Length];
        if (servers > Most)
            throw new ArgumentException($"a service can have {Most} real servers, not {servers}", nameof(weights));
        var best = new int[weights.Length];
        var candidate = new int[weights.Length];
        var least = double.PositiveInfinity;
        var cap = Math.Min(Most, Math.Max(Usual, servers + servers / 2));
        for (var total = servers; total <= cap; total++)
        {
            var error = Apportion(weights, sum, total, candidate);
            if (error >= least)
                continue;
            least = error;
            (best, candidate) = (candidate, best);
            if (least <= 1)
                break;
        }
        return best;
    }

    private static bool AreEqual(ReadOnlySpan<int> weights) =>
        weights.Length is > 0 and <= Most && weights[0] > 0 && !weights.ContainsAnyExcept(weights[0]);

    /// <summary>Largest remainders, with at least one each.</summary>
    /// <returns>The worst deviation, in units of what is tolerated.</returns>
    private static double Apportion(ReadOnlySpan<int> weights, double sum, int total, int[] counts)
    {
        var left = total;
        for (var i = 0; i < weights.Length; i++)
        {
            counts[i] = weights[i] > 0 ? Math.Max(1, (int)(weights[i] / sum * total)) : 0;
            left -= counts[i];
        }
        for (; left != 0; left -= Math.Sign(left))
        {
            var chosen = -1;
            var most = double.NegativeInfinity;
            for (var i = 0; i < weights.Length; i++)
            {
                var lack = (weights[i] / sum * total - counts[i]) * Math.Sign(left);
                if (weights[i] > 0 && lack > most && (left > 0 || counts[i] > 1))
                    (chosen, most) = (i, lack);
            }
            if (chosen < 0)
                return double.PositiveInfinity;
            counts[chosen] += Math.Sign(left);
        }
        double worst = 0;
        for (var i = 0; i < weights.Length; i++)
        {
            var share = weights[i] / sum;
            if (weights[i] > 0)
                worst = Math.Max(worst, Math.Abs((double)counts[i] / total - share) / Math.Min(Points, Relative * share));
        }
        return worst;
    }

    // SplitMix64's finaliser: every input bit reaches every output bit.
    internal static ulong Mix(ulong value)
    {
        value += 0x9e3779b97f4a7c15;
        value = (value ^ value >> 30) * 0xbf58476d1ce4e5b9;
        value = (value ^ value >> 27) * 0x94d049bb133111eb;
        return value ^ value >> 31;
    }
}
