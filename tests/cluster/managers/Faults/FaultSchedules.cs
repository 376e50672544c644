using System.Diagnostics;
using OverlayNet.ClusterTests.Harness;

namespace OverlayNet.ClusterTests.Managers.Faults;

/// <summary>Random faults at three real managers while clients write, read and watch; what the clients saw is judged.</summary>
public sealed class FaultSchedules(Xunit.Abstractions.ITestOutputHelper output)
{
    [Fact]
    public Task Fixed_fault_schedules_lose_nothing() => RunAsync([1, 2, 3, 4]);

    [Fact]
    [Trait("Category", "Soak")]
    public Task Two_hundred_fault_schedules_lose_nothing() => RunAsync(Enumerable.Range(
        Number("OVERLAYNET_FIRST_SEED") ?? 1000, Number("OVERLAYNET_SCHEDULES") ?? 200));

    private static void Heal(List<(FaultKind Kind, Action Heal)> healings)
    {
        foreach (var (_, heal) in healings.OrderBy(h => FaultBed.HealsLast(h.Kind)))
            heal();
        healings.Clear();
    }

    private static int? Number(string variable) => int.TryParse(Environment.GetEnvironmentVariable(variable), out var number) ? number : null;

    /// <summary>One cluster for all: a schedule begins where the one before has healed.</summary>
    private async Task RunAsync(IEnumerable<int> seeds)
    {
        var watch = Stopwatch.StartNew();
        using var bed = new FaultBed();
        output.WriteLine($"{watch.Elapsed.TotalSeconds:0.0} s: three managers run{(FaultBed.HasClock ? "" : "; without libfaketime clocks are not stepped")}");
        var found = new List<string>();
        foreach (var seed in seeds)
        {
            var (judged, complaints) = await RunAsync(bed, seed);
            output.WriteLine($"{watch.Elapsed.TotalSeconds:0.0} s: seed {seed}: {judged}");
            found.AddRange(complaints.Select(complaint => $"seed {Cluster.Number(seed)}: {complaint}"));
        }
        Assert.True(found.Count == 0, string.Join('\n', found.Take(30)));
    }

    private static async Task<(string Judged, IReadOnlyList<string> Complaints)> RunAsync(FaultBed bed, int seed)
    {
        var schedule = FaultSchedule.Of(seed);
        var said = $"seed {Cluster.Number(seed)}: {string.Join("; ", schedule)}";
        await using var clients = new FaultClients(bed.Nodes, string.Create(System.Globalization.CultureInfo.InvariantCulture, $"s{seed:d4}k"), seed);
        Wait.Until($"{said}: some writes", () => clients.Acknowledged > 10);
        var healings = new List<(FaultKind Kind, Action Heal)>();
        try
        {
            foreach (var fault in schedule)
            {
                healings.Add((fault.Kind, bed.Strike(fault)));
                await Task.Delay(fault.Pause < 0 ? fault.Length / 3 : fault.Length);
                if (fault.Pause < 0)
                    continue;
                Heal(healings);
                await Task.Delay(fault.Pause);
            }
        }
        finally
        {
            Heal(healings);
        }
        bed.UntilWell(said);
        var before = clients.Acknowledged;
        Wait.Until($"{said}: writes pass again", () => clients.Acknowledged > before + 5, TimeSpan.FromSeconds(60));
        var history = await clients.FinishAsync();
        var complaints = RegistryJudge.Judge(history);
        await clients.ClearAsync(history.Final);
        return ($"{history.Writes.Count(w => w.Acknowledged)} writes acknowledged, {history.Writes.Count(w => !w.Acknowledged)} unknown; {history.Reads.Count(r => r.Fresh)} reads fresh, {history.Reads.Count(r => !r.Fresh)} stale; {history.Lines.Count} lines watched; {string.Join("; ", schedule)}", [.. complaints, .. clients.Unexpected]);
    }
}
