using System.Text.Json.Serialization.Metadata;

namespace OverlayNet.Daemon.Api;

/// <summary>Who may use a route.</summary>
internal enum Access
{
    /// <summary>Without a certificate too.</summary>
    Anyone,

    /// <summary>Every member.</summary>
    Read,

    /// <summary>A worker for what is about itself (the handler checks), managers and local callers for all.</summary>
    OwnNode,

    /// <summary>Managers and local callers.</summary>
    Manage,

    /// <summary>Only at the node's own unix socket.</summary>
    Local,
}

/// <param name="Path">In ASP.NET Core's and OpenAPI's common form: <c>/v1/networks/{ref}</c>.</param>
/// <param name="Quiet">Too frequent for the audit log, and no news: signs of life.</param>
/// <param name="Query">Names of query parameters with what they mean.</param>
/// <param name="Request">Null: no body.</param>
/// <param name="Response">Null: not JSON of one type.</param>
internal sealed record ApiRoute(
    string Method,
    string Path,
    Access Access,
    string Summary,
    Func<ApiCall, Task> Handle,
    JsonTypeInfo? Request = null,
    JsonTypeInfo? Response = null,
    int Success = StatusCodes.Status200OK,
    string ContentType = "application/json",
    bool Quiet = false,
    params (string Name, string Meaning)[] Query)
{
    /// <summary>
    /// A change that somebody may want to follow. What nodes say all the time is none, nor is what begins or ends a membership: the work that starts there goes on
    /// for ever.
    /// </summary>
    public bool Traced => Method != "GET" && _untraced.All(part => !Path.Contains(part, StringComparison.Ordinal));

    private static readonly string[] _untraced =
        ["/heartbeat", "/health", "/vip-leases", "/managers", "/assert", "/certificate", "/v1/init", "/join", "/leave", "/restore", "/recover", "/backup", "/dns/flush", "/tokens", "/check"];
}
