using System.Collections.Concurrent;
using System.Threading.Channels;
using OverlayNet.Daemon.Registry;

namespace OverlayNet.Daemon.Agent;

/// <summary>
/// Takes endpoints out of the registry whose namespace has ended: at once on this node (they are suppressed in its
/// plans), and in the registry as soon as a manager answers.
/// </summary>
public sealed partial class Withdrawals(RegistryClient registry, SnapshotFollower follower, Reconciler reconciler, EventLogger events, TimeProvider time, ILogger<Withdrawals> logger)
{
    private static readonly TimeSpan Retry = TimeSpan.FromMilliseconds(500);
    private readonly Channel<string> _gone = Channel.CreateUnbounded<string>(new UnboundedChannelOptions { SingleReader = true });
    private readonly ConcurrentDictionary<string, byte> _underWay = new();

    /// <summary>Endpoints on their way out of the registry.</summary>
    public int Pending => _underWay.Count;

    public void Withdraw(string endpointId, string reason)
    {
        if (!follower.Current.Endpoints.TryGetValue(endpointId, out var endpoint) || !_underWay.TryAdd(endpointId, 0))
            return;
        reconciler.Suppress(endpointId);
        Log.Gone(logger, endpointId, endpoint.Name, reason);
        events("endpoint", "withdraw", endpoint.Name, reason, follower.Current.Revision);
        _gone.Writer.TryWrite(endpointId);
    }

    public async Task Run(CancellationToken cancellation)
    {
        while (await _gone.Reader.WaitToReadAsync(cancellation).ConfigureAwait(false))
        {
            // A runtime that stops many containers at once should not wait for one commit after the other.
            var batch = new List<string>();
            while (_gone.Reader.TryRead(out var id))
                batch.Add(id);
            await Task.WhenAll(batch.Select(id => RemoveFromRegistry(id, cancellation))).ConfigureAwait(false);
        }
    }

    private async Task RemoveFromRegistry(string id, CancellationToken cancellation)
    {
        var name = follower.Current.Endpoints.GetValueOrDefault(id) is { } endpoint ? endpoint : null;
        while (true)
        {
            try
            {
                var revision = await registry.DeleteEndpoint(id, cancellation).ConfigureAwait(false);
                if (name is not null)
                    ResolvConf.Remove(name.Netns);
                _underWay.TryRemove(id, out _);
                Log.Withdrawn(logger, id, revision);
                return;
            }
            catch (RegistryException e)
            {
                Log.Postponed(logger, id, e.Message);
            }
            await Task.Delay(Retry, time, cancellation).ConfigureAwait(false);
        }
    }

    private static partial class Log
    {
        [LoggerMessage(1, LogLevel.Warning, "endpoint {Id} ({Name}): withdrawn: {Reason}")]
        public static partial void Gone(ILogger logger, string id, string name, string reason);

        [LoggerMessage(2, LogLevel.Information, "endpoint {Id}: out of the registry, revision {Revision}")]
        public static partial void Withdrawn(ILogger logger, string id, long revision);

        [LoggerMessage(3, LogLevel.Warning, "endpoint {Id}: still in the registry, tried again: {Reason}")]
        public static partial void Postponed(ILogger logger, string id, string reason);
    }
}

/// <summary>Writes one event for people: kind, action, object, message, revision.</summary>
public delegate void EventLogger(string kind, string action, string name, string message, long revision);
