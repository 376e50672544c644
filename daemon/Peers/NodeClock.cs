using System.Diagnostics;
using System.Text.Json;
using OverlayNet.Contracts;
using OverlayNet.Kernel;

namespace OverlayNet.Daemon.Peers;

/// <summary>Compares clocks as NTP does (RFC 5905 §8), by exchanges over the API: time stamps of packets of two nodes are to be put in one order.</summary>
internal static class NodeClock
{
    private const int Exchanges = 6;

    /// <summary>Of an exchange: asked and heard at this clock, answered at the other one.</summary>
    /// <returns>How far the other is ahead, and half of the round trip, both in nanoseconds.</returns>
    public static (long OffsetNs, long UncertaintyNs) Offset(long askedNs, long answeredNs, long heardNs) =>
        (answeredNs - (askedNs + (heardNs - askedNs) / 2), (heardNs - askedNs + 1) / 2);

    /// <exception cref="HttpRequestException">The node does not answer.</exception>
    public static async Task<ClockOffset> CompareAsync(HttpClient http, string node, Uri clock, CancellationToken cancel)
    {
        var best = (OffsetNs: 0L, UncertaintyNs: long.MaxValue);
        // The first carries the connection's set-up; of the others the quickest says most.
        for (var i = 0; i < Exchanges; i++)
        {
            // The host's clock, whatever time the daemon goes by: the kernel stamps packets with it.
            var asked = WallClock.Nanoseconds;
            var watch = Stopwatch.GetTimestamp();
            var answer = JsonSerializer.Deserialize(await http.GetByteArrayAsync(clock, cancel).ConfigureAwait(false), OverlayNetJson.Default.PeerClock)!;
            var one = Offset(asked, answer.UnixNs, asked + (long)Stopwatch.GetElapsedTime(watch).TotalNanoseconds);
            if (one.UncertaintyNs < best.UncertaintyNs)
                best = one;
        }
        return new ClockOffset { Node = node, OffsetNs = best.OffsetNs, UncertaintyNs = best.UncertaintyNs };
    }
}
