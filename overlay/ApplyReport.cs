namespace OverlayNet.Overlay;

/// <summary>Whether a container's attachment is in place.</summary>
public enum EndpointOutcome
{
    /// <summary>Everything is as desired.</summary>
    Ready,

    /// <summary>The pair is made, and the runtime has not yet put its end into the container and up.</summary>
    Pending,

    /// <summary>The container's namespace no longer exists.</summary>
    Gone,

    /// <summary>The kernel refused something; see the report's errors.</summary>
    Failed,
}

/// <summary>One difference between desired state and kernel that was mended (or, in a plan, would be).</summary>
public sealed record OverlayChange(string Network, string What)
{
    public override string ToString() => $"{Network}: {What}";
}

/// <summary>One thing that could not be mended.</summary>
/// <param name="What">The operation and the object.</param>
/// <param name="Message">The kernel's own text, or what to do.</param>
public sealed record OverlayError(string Network, string What, string Message)
{
    public override string ToString() => $"{Network}: {What}: {Message}";
}

/// <summary>How an endpoint fared.</summary>
/// <param name="Interface">Name of its interface inside the container; null when there is none.</param>
public sealed record EndpointReport(EndpointOutcome Outcome, string? Interface);

/// <summary>What one Apply found different and did.</summary>
public sealed record ApplyReport
{
    public required IReadOnlyList<OverlayChange> Changes { get; init; }
    public required IReadOnlyList<OverlayError> Errors { get; init; }

    /// <summary>By endpoint id.</summary>
    public required IReadOnlyDictionary<string, EndpointReport> Endpoints { get; init; }

    /// <summary>True when kernel and desired state agree.</summary>
    public bool InSync => Changes.Count == 0 && Errors.Count == 0;
}
