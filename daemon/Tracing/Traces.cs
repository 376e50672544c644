using System.Diagnostics;
using OverlayNet.Contracts;
using OverlayNet.Daemon.Planners;
using OverlayNet.Daemon.Registry;

namespace OverlayNet.Daemon.Tracing;

/// <summary>
/// Spans of one change, from the request to the kernels of all nodes. The context travels with the revision: it is written to the store beside the
/// change, and sent to agents with it. Nothing is measured while nobody listens to the source.
/// </summary>
internal static class Traces
{
    public const string SourceName = "OverlayNet";

    public static ActivitySource Source { get; } = new(SourceName);

    /// <summary>The span at work, if it is one of these. A span that the web server or an HTTP client made for itself does not count.</summary>
    public static Activity? Current => Activity.Current is { } current && ReferenceEquals(current.Source, Source) && !current.IsStopped ? current : null;

    /// <summary>A part of the span at work; null while none is.</summary>
    public static Activity? Child(string name) => Current is null ? null : Source.StartActivity(name);

    /// <summary>A request that changes something, with the caller's trace where it sent one (W3C Trace Context, header traceparent).</summary>
    public static Activity? Request(HttpContext context, string method, string path)
    {
        if (Current is not null || !Source.HasListeners())
            return null;
        var headers = context.Request.Headers;
        var known = ActivityContext.TryParse(headers.TraceParent, headers.TraceState, isRemote: true, out var parent);
        // What the web server may have begun for the request is no parent.
        var before = Activity.Current;
        Activity.Current = null;
        var span = known ? Source.StartActivity($"{method} {path}", ActivityKind.Server, parent) : Source.StartActivity($"{method} {path}", ActivityKind.Server);
        if (span is null)
            Activity.Current = before;
        return span?.SetTag("http.request.method", method).SetTag("http.route", path);
    }

    /// <summary>Says what a span is about: the service, the endpoint's address, and who made it known.</summary>
    public static void Describe(Activity? span, object? about)
    {
        switch (about)
        {
            case Service service:
                span?.SetTag("service.id", service.Id).SetTag("overlaynet.object", $"service/{service.Name}").SetTag("discovery.source", "api");
                break;
            case Endpoint endpoint:
                span?.SetTag("service.id", endpoint.ServiceId ?? "").SetTag("instance.address", (endpoint.Address4 ?? endpoint.Address6)?.ToString() ?? "")
                    .SetTag("overlaynet.object", $"endpoint/{endpoint.Name}").SetTag("discovery.source", SourceOf(endpoint));
                break;
            case Network network:
                span?.SetTag("overlaynet.object", $"network/{network.Name}").SetTag("discovery.source", "api");
                break;
            case FloatingVip vip:
                span?.SetTag("overlaynet.object", $"vip/{vip.Name}").SetTag("discovery.source", "api");
                break;
            case RegistryChange change:
                Describe(span, (object?)change.Endpoint ?? (object?)change.Service ?? (object?)change.Network ?? change.Vip);
                break;
            default:
                break;
        }
    }

    private static string SourceOf(Endpoint endpoint) =>
        endpoint.Labels.ContainsKey(RuntimeLabels.DockerEndpoint) ? "docker"
        : endpoint.Labels.Keys.Any(label => label.StartsWith("cni.", StringComparison.Ordinal)) ? "cni"
        : endpoint.Labels.ContainsKey(Consul.ConsulCatalog.IdLabel) ? "consul"
        : "api";
}
