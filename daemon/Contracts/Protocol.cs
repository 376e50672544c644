using System.Reflection;

namespace OverlayNet.Contracts;

/// <summary>What every message between nodes carries.</summary>
public static class Protocol
{
    /// <summary>
    /// Raised when a message changes in a way an older peer would misread (docs/decisions/mixed-versions.md says which do); peers of
    /// version N and N-1 work together.
    /// </summary>
    /// <remarks>No constant: it would be copied into every program that is compiled against it.</remarks>
    public static int Version => 1;

    /// <summary>The release, such as 0.1.0.</summary>
    public static string Release { get; } =
        typeof(Protocol).Assembly.GetCustomAttribute<AssemblyInformationalVersionAttribute>()?.InformationalVersion.Split('+')[0] ?? "0";

    /// <summary>HTTP header with <see cref="Version"/>, of requests and of answers.</summary>
    public const string Header = "X-OverlayNet-Protocol";

    /// <summary>HTTP header of a request that a node passes on for a person: what is unknown in it is a mistake, not news.</summary>
    public const string ForwardedHeader = "X-OverlayNet-Forwarded";

    /// <summary>HTTP header with the registry revision an answer comes from.</summary>
    public const string RevisionHeader = "X-OverlayNet-Revision";

    /// <summary>
    /// HTTP header of reads: <c>fresh</c> (everything acknowledged before the request is in the answer: a majority has confirmed it),
    /// <c>copy</c> (a worker's copy, which follows a manager) or <c>stale</c> (it may be behind: no majority, or no manager).
    /// </summary>
    public const string ReadHeader = "X-OverlayNet-Read";

    /// <summary>Whether a peer of that version can be talked with.</summary>
    public static bool Understands(int version) => Math.Abs(version - Version) <= 1;
}
