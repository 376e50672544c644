using OverlayNet.Contracts;

namespace OverlayNet.Tools.Diagnosis;

/// <summary>A finding, and what undoes it where that is safe.</summary>
/// <param name="Fix">Does it; null: only a person may.</param>
internal sealed record Diagnosed(Finding Finding, Action? Fix = null)
{
    public static Diagnosed Error(string check, string @object, string message, string? evidence, string remedy, Action? fix = null) =>
        new(Make("error", check, @object, message, evidence, remedy), fix);

    public static Diagnosed Warning(string check, string @object, string message, string? evidence, string remedy, Action? fix = null) =>
        new(Make("warning", check, @object, message, evidence, remedy), fix);

    private static Finding Make(string severity, string check, string @object, string message, string? evidence, string remedy) =>
        new() { Severity = severity, Check = check, Object = @object, Message = message, Evidence = evidence, Remedy = remedy };
}
