using System.CommandLine;
using System.Globalization;
using System.Text.Json;
using OverlayNet.Contracts;
using OverlayNet.Kernel;
using OverlayNet.Tools.Api;
using OverlayNet.Tools.Cli;
using OverlayNet.Tools.Diagnosis;
using OverlayNet.Tools.Diagnosis.Checks;
using OverlayNet.Tools.Offline;

namespace OverlayNet.Tools.Commands;

/// <summary><c>overlaynet doctor</c>: what is wrong with this node, and what to do about it.</summary>
internal static class DoctorCommand
{
    // A change that is just being applied is no fault: what is found is looked at again after this.
    private static readonly TimeSpan Confirm = TimeSpan.FromMilliseconds(700);

    // What a running daemon mends when it is told to compare; by the beginning of the check's name.
    private static readonly string[] Compared = ["desired-state.", "balancer.", "nat.", "namespace.missing", "link.missing", "fdb.", "neighbour."];

    public static Command Create(Shell shell)
    {
        var quick = new Option<bool>("--quick") { Description = "Only what the daemon finds by itself: nothing is sent, and no root is needed" };
        var fix = new Option<bool>("--fix") { Description = "Mend what can be mended without harm, and say what was done" };
        var verbose = new Option<bool>("--verbose", "-v") { Description = "Also print each stage of name resolution with its latency" };
        var state = StatusCommand.StateOption();
        var command = new CliCommand(
            "doctor", "Check kernel, network, paths and state of this node; works without its daemon (exit code 1 when something is wrong)",
            "doctor", "doctor --verbose", "doctor --fix", "doctor --json", "doctor --state /var/lib/overlaynet")
        { quick, fix, verbose, state };
        command.SetAction(async (parsed, cancellation) =>
        {
            var output = parsed.InvocationConfiguration.Output;
            var report = parsed.GetValue(quick)
                ? await Quick(shell, parsed, parsed.GetValue(state)!, cancellation).ConfigureAwait(false)
                : await Examine(shell, parsed, parsed.GetValue(state)!, parsed.GetValue(fix), cancellation).ConfigureAwait(false);
            if (shell.WantsJson(parsed))
                Shell.WriteJson(output, JsonSerializer.SerializeToUtf8Bytes(report, OverlayNetJson.Default.DoctorReport));
            else
                Write(output, report, parsed.GetValue(verbose));
            return report.Findings.Any(finding => finding.Severity == "error") ? ExitCodes.Failed : ExitCodes.Ok;
        });
        return command;
    }

    /// <summary>Also for <c>overlaynet bundle</c>.</summary>
    public static async Task<DoctorReport> Examine(Shell shell, ParseResult parsed, string state, bool fix, CancellationToken cancellation)
    {
        var first = await Look(shell, parsed, state, cancellation).ConfigureAwait(false);
        if (first is not { } look)
            return await Quick(shell, parsed, state, cancellation).ConfigureAwait(false);
        if (look.Found.Count > 0 && look.Running)
        {
            await Task.Delay(Confirm, cancellation).ConfigureAwait(false);
            if (await Look(shell, parsed, state, cancellation).ConfigureAwait(false) is { } second)
            {
                var before = look.Found.Select(Key).ToHashSet();
                look = second with { Found = [.. second.Found.Where(found => before.Contains(Key(found)))] };
            }
        }
        var done = new List<string>();
        if (fix && look.Found.Count > 0)
        {
            done = await Fix(shell, parsed, look, cancellation).ConfigureAwait(false);
            // What is left after the daemon had its turn.
            await Task.Delay(Confirm * 2, cancellation).ConfigureAwait(false);
            look = await Look(shell, parsed, state, cancellation).ConfigureAwait(false) ?? look;
        }
        return new DoctorReport { Node = look.Node, Checked = look.Checked, Findings = [.. look.Found.Select(found => found.Finding)], Stages = look.Stages, Fixed = done };
    }

    private static async Task<Examination?> Look(Shell shell, ParseResult parsed, string state, CancellationToken cancellation)
    {
        using var node = await NodeView.Open(shell, parsed, state, cancellation).ConfigureAwait(false);
        if (node is null)
            return null;
        // Without them nothing of the kernel can be read, and what cannot be read must not look healthy.
        if (DaemonChecks.Capabilities("this program", DaemonChecks.ReadCapabilities(Environment.ProcessId)).ToList() is { Count: > 0 } missing)
            return new Examination(node.Name, false, ["capabilities"], [.. missing, .. DaemonChecks.Condition(node)], []);
        var running = node.Condition == DaemonCondition.Running;
        IReadOnlyList<string>? upstreams = null;
        IReadOnlyList<VipExplanation> vips = [];
        Task<DoctorReport?> own = Task.FromResult<DoctorReport?>(null);
        using var api = shell.Connect(parsed);
        if (running)
        {
            upstreams = await Ask(() => api.Get("/v1/dns/upstreams", OverlayNetJson.Default.ListString, cancellation)).ConfigureAwait(false);
            vips = node.Snapshot.Vips.Count == 0 ? [] : await Ask(() => api.Get("/v1/vip-explain", OverlayNetJson.Default.ListVipExplanation, cancellation)).ConfigureAwait(false) ?? [];
            own = Ask(() => api.Get("/v1/doctor", OverlayNetJson.Default.DoctorReport, cancellation));
        }
        PathReport? Way(string other, string network, int family) => !running ? null
            : Ask(() => api.Get(string.Create(CultureInfo.InvariantCulture, $"/v1/nodes/{Uri.EscapeDataString(other)}/path?network={Uri.EscapeDataString(network)}&family={family}"), OverlayNetJson.Default.PathReport, cancellation)).GetAwaiter().GetResult();
        var checkup = Checkup.Run(CheckupInput.Read(node, upstreams, vips, TimeProvider.System) with { Way = Way });
        var report = await own.ConfigureAwait(false);
        // The program's own finding has the better words where both see it.
        List<Diagnosed> found = [.. checkup.Found, .. (report?.Findings ?? []).Select(finding => new Diagnosed(finding))];
        return new Examination(node.Name, running, [.. checkup.Checked, .. report?.Checked ?? []], [.. found.DistinctBy(Key)], checkup.Stages);
    }

    private static async Task<T?> Ask<T>(Func<Task<T>> question) where T : class
    {
        try
        {
            return await question().ConfigureAwait(false);
        }
        catch (Exception e) when (e is DaemonUnreachable or CommandFailure)
        {
            // It went away between two questions, or is of another version: the rest is checked all the same.
            return null;
        }
    }

    private static async Task<List<string>> Fix(Shell shell, ParseResult parsed, Examination look, CancellationToken cancellation)
    {
        var done = new List<string>();
        foreach (var (finding, mend) in look.Found.Where(found => found.Fix is not null).Select(found => (found.Finding, found.Fix!)))
        {
            try
            {
                mend();
                done.Add($"{finding.Check} {finding.Object}: {finding.Remedy}");
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException or KernelException)
            {
                done.Add($"{finding.Check} {finding.Object}: not mended: {e.Message}");
            }
        }
        if (look.Running && look.Found.Any(found => found.Fix is null && Compared.Any(prefix => found.Finding.Check.StartsWith(prefix, StringComparison.Ordinal))))
        {
            using var api = shell.Connect(parsed);
            await api.Post("/v1/compare", cancellation).ConfigureAwait(false);
            done.Add("the daemon was told to compare everything with the kernel");
        }
        return done;
    }

    /// <summary>The daemon's own checks; when it does not answer, its disk.</summary>
    private static async Task<DoctorReport> Quick(Shell shell, ParseResult parsed, string state, CancellationToken cancellation)
    {
        using var api = shell.Connect(parsed);
        try
        {
            return await api.Get("/v1/doctor", OverlayNetJson.Default.DoctorReport, cancellation).ConfigureAwait(false);
        }
        catch (DaemonUnreachable failure)
        {
            return KernelAndDisk.Look(state).ToDoctor(failure.Message);
        }
    }

    private static (string, string) Key(Diagnosed found) => (found.Finding.Check, found.Finding.Object);

    private static void Write(TextWriter output, DoctorReport report, bool verbose)
    {
        foreach (var line in report.Fixed)
            output.WriteLine($"fixed: {line}");
        FindingsView.Write(output, report.Findings);
        if (verbose && report.Stages.Count > 0)
        {
            var table = new Table("STAGE", "MS", "ANSWER");
            foreach (var stage in report.Stages)
                table.Add(stage.Name, string.Create(CultureInfo.InvariantCulture, $"{stage.Milliseconds:0.0}"), stage.Ok ? stage.Detail : $"FAILED: {stage.Detail}");
            table.Write(output);
        }
        output.WriteLine($"node {report.Node}: {Text.Number(report.Checked.Count)} checks, {Text.Number(report.Findings.Count(f => f.Severity == "error"))} errors, {Text.Number(report.Findings.Count(f => f.Severity == "warning"))} warnings");
    }

    private sealed record Examination(string Node, bool Running, IReadOnlyList<string> Checked, IReadOnlyList<Diagnosed> Found, IReadOnlyList<DoctorStage> Stages);
}
