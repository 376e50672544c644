namespace OverlayNet.Tools.Cli;

/// <summary>The command ends with a message for a person; nothing else is printed.</summary>
/// <param name="exitCode">One of <see cref="ExitCodes"/>.</param>
/// <param name="remedy">What to do next; null: nothing that would help.</param>
internal sealed class CommandFailure(int exitCode, string message, string? remedy = null) : Exception(message)
{
    public int ExitCode { get; } = exitCode;
    public string? Remedy { get; } = remedy;
}

/// <summary>Stable for scripts.</summary>
internal static class ExitCodes
{
    public const int Ok = 0;

    /// <summary>The request was fine and could not be carried out: no daemon, no manager, a kernel error.</summary>
    public const int Failed = 1;

    /// <summary>The request itself is wrong: a flag, a value, a name that does not exist. Trying again is useless.</summary>
    public const int BadInput = 2;
}
