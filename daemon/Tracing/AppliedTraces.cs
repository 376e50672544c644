using System.Diagnostics;
using OverlayNet.Contracts;

namespace OverlayNet.Daemon.Tracing;

/// <summary>What this agent has heard of traced revisions that its kernel does not reflect yet. Safe for concurrent use.</summary>
internal sealed class AppliedTraces
{
    // Nobody traces so many changes at once; a stream of them while the kernel lags must not grow without end.
    private const int Most = 256;
    private readonly Lock _gate = new();
    private readonly Queue<(long Revision, ActivityContext Context, RegistryChange? About)> _heard = new();

    /// <summary>A revision has come; it is marked in its trace.</summary>
    public void Heard(WatchMessage message, string node)
    {
        if (message.TraceParent is null || !Traces.Source.HasListeners() || !ActivityContext.TryParse(message.TraceParent, null, isRemote: true, out var context))
            return;
        var about = message.Changes?.FirstOrDefault(change => change.Endpoint is not null) ?? message.Changes?.FirstOrDefault(change => change.DeletedKind is null);
        using (var span = Begin("agent receive", context, message.Revision, node))
            Traces.Describe(span, about);
        lock (_gate)
        {
            if (_heard.Count == Most)
                _heard.Dequeue();
            _heard.Enqueue((message.Revision, context, about));
        }
    }

    /// <summary>Spans for the application of everything up to a revision; the newest is the one at work. Dispose them in reverse.</summary>
    public IReadOnlyList<Activity> BeginApply(long revision, string node)
    {
        var spans = new List<Activity>();
        lock (_gate)
        {
            while (_heard.TryPeek(out var next) && next.Revision <= revision)
            {
                _heard.Dequeue();
                if (Begin("apply", next.Context, next.Revision, node) is not { } span)
                    continue;
                Traces.Describe(span, next.About);
                span.SetTag("overlaynet.applied_revision", revision);
                spans.Add(span);
            }
        }
        return spans;
    }

    private static Activity? Begin(string name, ActivityContext parent, long revision, string node) =>
        Traces.Source.StartActivity(name, ActivityKind.Consumer, parent)?.SetTag("overlaynet.revision", revision).SetTag("overlaynet.node_id", node);
}
