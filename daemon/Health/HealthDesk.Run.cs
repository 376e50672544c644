using OverlayNet.Contracts;
using OverlayNet.Daemon.Planners;
using OverlayNet.Daemon.Registry;

namespace OverlayNet.Daemon.Health;

internal sealed partial class HealthDesk
{
    private static readonly TimeSpan Look = TimeSpan.FromMilliseconds(250);
    private static readonly TimeSpan AfterFailure = TimeSpan.FromMilliseconds(200);

    private Snapshot? _saidOf;

    private async Task RunAsync()
    {
        while (!_stop.IsCancellationRequested)
        {
            try
            {
                await _wake.WaitAsync(Look, _stop.Token).ConfigureAwait(false);
                await DecideOnceAsync().ConfigureAwait(false);
            }
            catch (OperationCanceledException) when (_stop.IsCancellationRequested)
            {
                return;
            }
            catch (Exception e)
            {
                // Whatever went wrong, what stands is looked at again: nothing is lost by a failed attempt.
                Log.NotDecided(_logger, e.Message);
                await Task.Delay(AfterFailure, _time, _stop.Token).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            }
        }
    }

    /// <summary>One look at what stands; the loop does nothing else.</summary>
    internal async Task DecideOnceAsync()
    {
        var changes = Decide(_registry.Current);
        if (changes.Count > 0)
        {
            foreach (var change in await _registry.ApplyHealthAsync(changes, _stop.Token).ConfigureAwait(false))
            {
                HealthMetrics.Transitions.Add(1, new KeyValuePair<string, object?>("state", change.To.ToString().ToLowerInvariant()));
                if (change.Ejected)
                    HealthMetrics.Ejections.Add(1);
                if (change.To != change.From)
                    Log.Changed(_logger, change.EndpointId, _registry.Current.Endpoints.GetValueOrDefault(change.EndpointId)?.Name ?? "", change.From, change.To, change.Reason);
            }
        }
        SayPanics(_registry.Current);
        await _registry.RemoveLostAsync(_stop.Token).ConfigureAwait(false);
        foreach (var node in Confirmed(_registry.Current))
            await _registry.MarkDownAsync(node.Id, _options.WithdrawAfter, "no heartbeat, and no peer reaches anything on it", _stop.Token).ConfigureAwait(false);
    }

    /// <summary>Silent nodes with endpoints, none of which anybody reaches.</summary>
    private List<Node> Confirmed(Snapshot snapshot) =>
    [
        .. snapshot.Nodes.Values.Where(node => node.State != NodeState.Down
            && _registry.SinceHeartbeat(node.Id) >= _options.WithdrawAfter
            && snapshot.EndpointsOf(node).Where(e => e.Kind == EndpointKind.Container).ToList() is { Count: > 0 } endpoints
            && endpoints.All(e => e.State == EndpointState.Unreachable)),
    ];

    private void SayPanics(Snapshot snapshot)
    {
        if (ReferenceEquals(snapshot, _saidOf))
            return;
        _saidOf = snapshot;
        foreach (var service in snapshot.Services.Values)
        {
            var on = PanicMode.On(snapshot, service);
            lock (_gate)
            {
                if (on ? !_panics.Add(service.Id) : !_panics.Remove(service.Id))
                    continue;
            }
            if (on)
                Log.Panic(_logger, service.Id, service.Name);
            else
                Log.PanicOver(_logger, service.Id, service.Name);
            _events?.Append("service", on ? "panic" : "panic-over", service.Name,
                on ? "too few endpoints pass their checks: all of them are used, whatever the checks say" : "enough endpoints pass their checks again", snapshot.Revision);
        }
    }

    private static partial class Log
    {
        [LoggerMessage(1, LogLevel.Warning, "endpoint {Id} ({Name}): {From} to {To}: {Reason}")]
        public static partial void Changed(ILogger logger, string id, string name, EndpointState from, EndpointState to, string reason);

        [LoggerMessage(2, LogLevel.Warning, "endpoint {Id} ({Name}): stays in use: {Why}")]
        public static partial void Held(ILogger logger, string id, string name, string why);

        [LoggerMessage(3, LogLevel.Error, "service {Id} ({Name}): panic: too few endpoints pass their checks, all are used")]
        public static partial void Panic(ILogger logger, string id, string name);

        [LoggerMessage(4, LogLevel.Information, "service {Id} ({Name}): no panic any more")]
        public static partial void PanicOver(ILogger logger, string id, string name);

        [LoggerMessage(5, LogLevel.Warning, "health: not decided, tried again: {Reason}")]
        public static partial void NotDecided(ILogger logger, string reason);
    }
}
