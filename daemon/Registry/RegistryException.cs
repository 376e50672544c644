using OverlayNet.Contracts;

namespace OverlayNet.Daemon.Registry;

/// <summary>A request the registry refuses: what the API answers with.</summary>
/// <param name="cause">What was in the way; null: the refusal is the registry's own.</param>
public sealed class RegistryException(int status, ErrorBody error, Exception? cause = null) : Exception(error.Message, cause)
{
    /// <summary>HTTP status: 400 bad input, 403 not allowed, 404 unknown, 409 in conflict, 410 no member any more, 503 no store.</summary>
    public int Status { get; } = status;

    public ErrorBody Error { get; } = error;
}

/// <summary>The refusals, in one form: field, value, what is wrong with it, what to do.</summary>
internal static class Refuse
{
    public static RegistryException Invalid(string code, string field, string? value, string problem, string remedy) =>
        Make(StatusCodes.Status400BadRequest, code, field, value, problem, remedy);

    public static RegistryException Conflict(string code, string field, string? value, string problem, string remedy) =>
        Make(StatusCodes.Status409Conflict, code, field, value, problem, remedy);

    public static RegistryException NotFound(string kind, string reference) =>
        NotFound(kind, reference, "there is none by this name or id", $"list what there is with 'overlaynet {kind} ls'");

    public static RegistryException NotFound(string kind, string reference, string problem, string remedy) =>
        Make(StatusCodes.Status404NotFound, "not-found", kind, reference, problem, remedy);

    public static RegistryException Ambiguous(string kind, string reference, IEnumerable<string> candidates, string remedy) => Make(
        StatusCodes.Status409Conflict, "ambiguous", kind, reference, $"it fits several: {string.Join(", ", candidates)}", remedy);

    public static RegistryException NodeUnknown(string nodeId) => Make(
        StatusCodes.Status410Gone, "node-unknown", "node", nodeId, "it is not (or no longer) a member of this cluster",
        "leave with 'overlaynet leave' on that node and join it again");

    public static RegistryException Forbidden(string caller, string what, string remedy) => Make(
        StatusCodes.Status403Forbidden, "forbidden", "caller", caller, what, remedy);

    public static RegistryException Unavailable(string problem) => new(StatusCodes.Status503ServiceUnavailable, new ErrorBody
    {
        Code = "no-store",
        Message = problem,
        Field = "registry",
        Remedy = "names and VIPs go on from the last snapshot; see 'overlaynet status' and try again once the registry writes",
    });

    private static RegistryException Make(int status, string code, string field, string? value, string problem, string remedy) =>
        new(status, new ErrorBody
        {
            Code = code,
            Message = value is null ? $"{field}: {problem}" : $"{field} '{value}': {problem}",
            Field = field,
            Value = value,
            Remedy = remedy,
        });
}
