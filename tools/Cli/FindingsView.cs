using OverlayNet.Contracts;

namespace OverlayNet.Tools.Cli;

/// <summary>Findings as a person reads them: what, on which object, the evidence, and what to do.</summary>
internal static class FindingsView
{
    public static void Write(TextWriter output, IEnumerable<Finding> findings)
    {
        foreach (var finding in findings)
        {
            output.WriteLine($"{finding.Severity}: {finding.Check} {finding.Object}: {finding.Message}");
            if (finding.Evidence is { Length: > 0 } evidence)
                output.WriteLine($"  evidence: {evidence}");
            if (finding.Remedy is { Length: > 0 } remedy)
                output.WriteLine($"  remedy: {remedy}");
        }
    }
}
