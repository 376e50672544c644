using OverlayNet.Contracts;
using OverlayNet.Tools.Cli;

namespace OverlayNet.Tools.Commands;

/// <summary>A service's real servers as a table, and below it what deserves a sentence.</summary>
internal static class BackendsView
{
    private static string Count(long? count) => count is { } known ? Text.Number(known) : "-";

    public static void Write(TextWriter output, IReadOnlyList<BackendReport> backends)
    {
        var table = new Table("ENDPOINT", "NODE", "ADDRESS", "STATE", "WEIGHT", "SHARE", "LIVE", "CONNECTIONS", "CHECK", "LAST", "LATENCY", "PROBED BY");
        foreach (var backend in backends)
        {
            var last = backend.Probers.FirstOrDefault();
            table.Add(
                backend.Endpoint, backend.Node, Text.Or(Text.Join(backend.Address4, backend.Address6)), Text.Word(backend.State), Text.Number(backend.Weight), Text.Percent(backend.Share),
                Count(backend.LiveFlows), Count(backend.Connections), backend.Check ?? "-", last is null ? "-" : $"{last.Outcome} {Text.Seconds(last.SecondsAgo)} ago", last is null ? "-" : string.Create(System.Globalization.CultureInfo.InvariantCulture, $"{last.LatencyMs:0.0} ms"),
                Text.Or(string.Join(", ", backend.Probers.Select(prober => prober.Watched ? $"{prober.Node} (watches its process)" : prober.Node))));
        }
        table.Write(output);
        foreach (var backend in backends)
        {
            foreach (var prober in backend.Probers.Where(prober => prober.Reason.Length > 0))
                output.WriteLine($"{backend.Endpoint}: {prober.Node} finds {prober.Outcome}: {prober.Reason}");
            if (backend.Held is { } held)
                output.WriteLine($"{backend.Endpoint}: held: {held}");
        }
    }
}
