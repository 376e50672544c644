using System.Text.Json.Serialization;

namespace OverlayNet.GuestTests.Framework;

/// <summary>One line of the results file: what happened to one test of one test case.</summary>
public sealed record GuestResult
{
    /// <summary>xunit's id of the test case: the same on both sides, since the assembly is the same.</summary>
    public required string CaseId { get; init; }
    public required string Name { get; init; }

    /// <summary>started, passed, failed, skipped; and ended, for the whole case.</summary>
    public required string Outcome { get; init; }
    public decimal Seconds { get; init; }
    public string Output { get; init; } = "";
    public string? SkipReason { get; init; }
    public string[] ExceptionTypes { get; init; } = [];
    public string[] Messages { get; init; } = [];
    public string?[] StackTraces { get; init; } = [];
    public int[] ParentIndices { get; init; } = [];
}

[JsonSerializable(typeof(GuestResult))]
internal sealed partial class GuestJson : JsonSerializerContext;
