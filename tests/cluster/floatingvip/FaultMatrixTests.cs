using System.Collections.Concurrent;
using System.Globalization;
using System.Text;
using OverlayNet.ClusterTests.Harness;
using Xunit.Abstractions;

namespace OverlayNet.ClusterTests.FloatingVip;

/// <summary>
/// The fault matrix against real daemons: {data, store, both} lost {out, in, both ways} × {frozen, killed, starved, interface down, manager
/// frozen, manager killed} × {holder, candidate}. No run may show two owners, an epoch that goes back, or an owner that is not the newest.
/// </summary>
public sealed class FaultMatrixTests(ITestOutputHelper output)
{
    [Fact]
    public void Twenty_seeds_show_no_moment_of_two_owners()
    {
        using var world = new FaultWorld();
        var runs = new List<FaultRun>();
        for (var seed = 1; seed <= 20; seed++)
        {
            var run = world.Run(FaultPlan.Of(seed));
            output.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{run.Plan}: {run.Violation ?? "ok"}, {run.Moves} moves, silent {run.SilentMs:0} ms, back {run.RecoveredMs:0} ms after the heal"));
            runs.Add(run);
        }
        Assert.All(runs, run => Assert.Null(run.Violation));
    }

    /// <summary>Without the registry the holder of policy hold-all goes on by the promise of every peer; one of policy release is silent.</summary>
    [Fact]
    public void Hold_all_keeps_the_vip_while_the_only_manager_is_away()
    {
        using var world = new FaultWorld("default", "--store-loss", "hold-all");
        var owner = world.AwaitOwner("an owner");
        // A peer that has just started promises nothing: it may have forgotten an earlier promise.
        Wait.Until("the peers have been up for longer than a lease", () => world.UptimeSeconds() > 6);
        var begin = UnderlayJudge.Now;
        world.Manager.Kill();
        // Three times the lease: by its own time it would have ended.
        Wait.Until("twelve seconds without a manager", () => UnderlayJudge.Now > begin + 12 || world.Judge.Owner(2) is null);
        var silent = world.Judge.LongestGapMs(begin);
        output.WriteLine(string.Create(CultureInfo.InvariantCulture, $"hold-all, 12 s without a manager: the longest silence was {silent:0} ms"));
        Assert.Equal(owner, world.Judge.Owner(1));
        Assert.True(silent < 2000, $"silent for {silent:0} ms");
        world.Manager.Start();
        Assert.Equal(owner, world.AwaitOwner("the same owner with the manager back"));
    }

    /// <summary>The full count: OVERLAYNET_SOAK_RUNS (600) runs in OVERLAYNET_SOAK_WORLDS (3) worlds at once; its report is committed.</summary>
    [Fact]
    [Trait("Category", "Soak")]
    public void Hundreds_of_random_faults_show_no_moment_of_two_owners()
    {
        var count = Number("OVERLAYNET_SOAK_RUNS", 600);
        var worlds = Number("OVERLAYNET_SOAK_WORLDS", 3);
        var until = DateTime.UtcNow + TimeSpan.FromMinutes(Number("OVERLAYNET_SOAK_MINUTES", 600));
        var (runs, broken) = (new ConcurrentBag<FaultRun>(), new ConcurrentBag<string>());
        var next = Number("OVERLAYNET_SOAK_SEED", 1000);
        var last = next + count;
        var threads = Enumerable.Range(0, worlds).Select(_ => new Thread(() =>
        {
            FaultWorld? world = null;
            try
            {
                while (DateTime.UtcNow < until && Interlocked.Increment(ref next) is var seed && seed <= last)
                {
                    try
                    {
                        world ??= new FaultWorld();
                        var run = world.Run(FaultPlan.Of(seed));
                        runs.Add(run);
                        Report(runs, broken);
                    }
                    catch (Exception e) when (e is TimeoutException or InvalidOperationException)
                    {
                        // The world is no good any more; that it had no owner in time is a finding of its own.
                        broken.Add($"seed {seed}: {e.Message}");
                        world?.Dispose();
                        world = null;
                    }
                }
            }
            finally
            {
                world?.Dispose();
            }
        })).ToList();
        threads.ForEach(thread => thread.Start());
        threads.ForEach(thread => thread.Join());
        output.WriteLine(Report(runs, broken));
        Assert.All(runs, run => Assert.Null(run.Violation));
        Assert.Empty(broken);
    }

    private static readonly Lock Gate = new();

    private static string Report(IReadOnlyCollection<FaultRun> runs, IReadOnlyCollection<string> broken)
    {
        var text = new StringBuilder();
        text.AppendLine("# Floating VIPs: the fault matrix").AppendLine();
        text.AppendLine(CultureInfo.InvariantCulture, $"{DateTime.UtcNow:yyyy-MM-dd HH:mm} UTC, {Environment.OSVersion.VersionString}, {Environment.ProcessorCount} processors. Real daemons in namespaces, profile fast (T 700 ms), `--no-preempt`, one manager; made by `./tools/test soak FaultMatrix`.").AppendLine();
        text.AppendLine(CultureInfo.InvariantCulture, $"- runs: {runs.Count}, seeds {(runs.Count == 0 ? 0 : runs.Min(r => r.Plan.Seed))} to {(runs.Count == 0 ? 0 : runs.Max(r => r.Plan.Seed))}");
        text.AppendLine(CultureInfo.InvariantCulture, $"- moments of two owners, epochs backwards, or a last announcement that was not the newest holder's: {runs.Count(r => r.Violation is not null)}");
        text.AppendLine(CultureInfo.InvariantCulture, $"- worlds given up (a daemon that did not start, or no owner in time): {broken.Count}");
        text.AppendLine(CultureInfo.InvariantCulture, $"- moves in a run: none {runs.Count(r => r.Moves <= 0)}, one {runs.Count(r => r.Moves == 1)}, two {runs.Count(r => r.Moves == 2)}, more {runs.Count(r => r.Moves > 2)}").AppendLine();
        text.AppendLine("| fault | runs | two owners | moves > 1 | silent ms, median / max | owner back after the heal, ms, median / max |").AppendLine("|---|---|---|---|---|---|");
        foreach (var group in runs.GroupBy(r => $"{r.Plan.Process}, {(r.Plan.Path == LostPath.None ? "nothing lost" : $"{r.Plan.Path} lost")}, {(r.Plan.VictimHolds ? "holder" : "candidate")}").OrderBy(g => g.Key, StringComparer.Ordinal))
        {
            var (silent, back) = (group.Select(r => r.SilentMs).Order().ToList(), group.Select(r => r.RecoveredMs).Order().ToList());
            text.AppendLine(CultureInfo.InvariantCulture, $"| {group.Key} | {group.Count()} | {group.Count(r => r.Violation is not null)} | {group.Count(r => r.Moves > 1)} | {silent[silent.Count / 2]:0} / {silent[^1]:0} | {back[back.Count / 2]:0} / {back[^1]:0} |");
        }
        foreach (var run in runs.Where(r => r.Violation is not null))
            text.AppendLine().AppendLine(CultureInfo.InvariantCulture, $"VIOLATION {run.Plan}: {run.Violation}");
        foreach (var line in broken)
            text.AppendLine().AppendLine(CultureInfo.InvariantCulture, $"WORLD LOST {line}");
        lock (Gate)
        {
            var directory = Path.Combine(Tree.Root, "docs", "results");
            Directory.CreateDirectory(directory);
            File.WriteAllText(Path.Combine(directory, "floating-vip-faults.md"), text.ToString());
        }
        return text.ToString();
    }

    private static int Number(string variable, int otherwise) =>
        int.TryParse(Environment.GetEnvironmentVariable(variable), CultureInfo.InvariantCulture, out var value) ? value : otherwise;
}
