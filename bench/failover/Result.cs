using System.Globalization;
using System.Text.Json.Nodes;

namespace OverlayNet.Bench.Failover;

/// <summary>One row: times in milliseconds, ours and keepalived's (empty where it has nothing of the kind).</summary>
internal sealed record Result(string Name, double LimitMs, IReadOnlyList<double> Ours, IReadOnlyList<double> Keepalived)
{
    public override string ToString()
    {
        var ratio = Keepalived.Count == 0 ? "-" : string.Create(CultureInfo.InvariantCulture, $"{Median(Ours) / Math.Max(0.1, Median(Keepalived)):0.00}");
        return string.Create(CultureInfo.InvariantCulture, $"{Name,-28}{ratio,14}{Both(Ours),18}{Both(Keepalived),18}{LimitMs,9:0}");
    }

    public JsonObject ToJson() => new()
    {
        ["name"] = Name,
        ["limitMs"] = LimitMs,
        ["oursMedianMs"] = Median(Ours),
        ["oursMaxMs"] = Ours.Max(),
        ["keepalivedMedianMs"] = Keepalived.Count == 0 ? null : Median(Keepalived),
        ["keepalivedMaxMs"] = Keepalived.Count == 0 ? null : Keepalived.Max(),
    };

    private static string Both(IReadOnlyList<double> times) => times.Count == 0 ? "-" : string.Create(CultureInfo.InvariantCulture, $"{Median(times):0} / {times.Max():0}");

    private static double Median(IReadOnlyList<double> times) => times.Order().ElementAt(times.Count / 2);
}
