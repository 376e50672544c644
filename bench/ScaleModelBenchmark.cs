using System.Globalization;
using System.Text.Json;

namespace OverlayNet.Bench;

/// <summary>
/// What more agents than this machine can hold would do to one manager: <see cref="ManagerModel"/> with the costs that the soak
/// <c>RegistryScale</c> measured with 1,000 real agents. Its row of 1,000 agents on one processor is the check of the model: in the
/// soak the agents' process takes the other.
/// </summary>
internal static class ScaleModelBenchmark
{
    private const int Seed = 5000;

    // docs/results/registry-scale-2026-11-27.md: 57 % of a processor with heartbeats and signs of life alone, 92 % with ten changes a second as well;
    // that a change itself takes a millisecond is assumed.
    private static readonly ManagerModel.Costs Measured = new(Heartbeat: 570e-6, Change: 1e-3, Send: 34e-6);

    internal static void Run(bool json)
    {
        (int Agents, int Processors, double Changes)[] cases =
        [
            (1000, 1, 10), (1000, 2, 10), (5000, 2, 1), (5000, 4, 5), (5000, 8, 5), (5000, 8, 10), (5000, 16, 10),
        ];
        var rows = cases.Select(of =>
        {
            var model = new ManagerModel(Measured, of.Processors, of.Agents, of.Changes, Seed);
            var delays = model.Load < 1 ? model.Propagation() : [];
            return (of.Agents, of.Processors, of.Changes, model.Load, P50: At(delays, 0.5), P99: At(delays, 0.99), Max: At(delays, 1));
        }).ToList();
        if (json)
        {
            var simulated = rows.Select(row => new
            {
                agents = row.Agents,
                processors = row.Processors,
                changesPerSecond = row.Changes,
                load = row.Load,
                p50Ms = row.P50,
                p99Ms = row.P99,
                maxMs = row.Max,
            });
            Console.WriteLine(JsonSerializer.Serialize(new { simulated }));
            return;
        }
        Console.WriteLine(string.Create(CultureInfo.InvariantCulture,
            $"by simulation, not measured; a job's processor time: heartbeat {Measured.Heartbeat * 1e6:0} us, change {Measured.Change * 1e6:0} us, its sending to one agent {Measured.Send * 1e6:0} us"));
        Console.WriteLine("agents  processors  changes/s  load   p50 ms  p99 ms  max ms");
        foreach (var row in rows)
        {
            Console.WriteLine(row.P50 is null
                ? string.Create(CultureInfo.InvariantCulture, $"{row.Agents,6}  {row.Processors,10}  {row.Changes,9}  {row.Load:0.00}   does not keep up")
                : string.Create(CultureInfo.InvariantCulture, $"{row.Agents,6}  {row.Processors,10}  {row.Changes,9}  {row.Load:0.00}  {row.P50,7:0}  {row.P99,6:0}  {row.Max,6:0}"));
        }
    }

    private static double? At(IReadOnlyCollection<double> delays, double which) => delays.Count == 0 ? null : Cost.Percentile(delays, which);
}
