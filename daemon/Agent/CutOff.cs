using System.Collections.Immutable;
using System.Globalization;
using OverlayNet.Contracts;
using OverlayNet.Daemon.Registry;

namespace OverlayNet.Daemon.Agent;

/// <summary>
/// Stops services on a node that has been cut off for as long as their policy allows: their endpoints here lose their link, and
/// clients here find nobody behind them. It counts from the last heartbeat that a manager with a majority answered, over restarts of the daemon too.
/// </summary>
internal sealed class CutOff(string state, SnapshotFollower follower, Reconciler reconciler, Heartbeat heartbeat, EventLogger events, TimeProvider time)
{
    private static readonly TimeSpan Look = TimeSpan.FromSeconds(1), Remembered = TimeSpan.FromSeconds(5);
    private readonly string _file = Path.Combine(state, "cut-off");
    private readonly long _started = time.GetTimestamp();
    private ImmutableDictionary<string, string> _stopped = ImmutableDictionary<string, string>.Empty;
    private TimeSpan _before;
    private bool _written;

    /// <summary>Since a manager with a majority has answered, as far as is known.</summary>
    private TimeSpan Silence => heartbeat.Acknowledged is > 0 and var at ? time.GetElapsedTime(at) : _before + time.GetElapsedTime(_started);

    /// <summary>Takes up where the daemon before this one ended. Before the first application: nothing stopped comes back by a restart.</summary>
    public void Resume()
    {
        if (File.Exists(_file) && long.TryParse(File.ReadAllText(_file), NumberStyles.None, CultureInfo.InvariantCulture, out var since))
        {
            // By the wall clock, since nothing else goes on over a reboot; one that was set back counts from now.
            _before = TimeSpan.FromMilliseconds(Math.Max(0, time.GetUtcNow().ToUnixTimeMilliseconds() - since));
            _written = true;
        }
        Decide();
    }

    public async Task Run(CancellationToken cancellation)
    {
        using var timer = new PeriodicTimer(Look, time);
        while (await timer.WaitForNextTickAsync(cancellation).ConfigureAwait(false))
            Decide();
    }

    private void Decide()
    {
        var (snapshot, silence) = (follower.Current, Silence);
        Remember(snapshot, silence);
        var stop = Disconnection.ToStop(snapshot, silence);
        var next = stop.ToImmutableDictionary(service => service.Id, service => service.Name);
        foreach (var (id, name) in next.Where(entry => !_stopped.ContainsKey(entry.Key)))
            events("service", "stop", name, string.Create(CultureInfo.InvariantCulture, $"this node has been cut off for {silence.TotalSeconds:0} s: stopped here until it is not any more"), snapshot.Revision);
        foreach (var (id, name) in _stopped.Where(entry => !next.ContainsKey(entry.Key)))
            events("service", "resume", name, "a manager answers again: no longer stopped here", snapshot.Revision);
        _stopped = next;
        reconciler.SetStopped([.. stop.SelectMany(snapshot.EndpointsOf).Select(endpoint => endpoint.Id)]);
    }

    /// <summary>A daemon that is started anew again and again must not begin to count anew each time.</summary>
    private void Remember(Snapshot snapshot, TimeSpan silence)
    {
        var remember = silence >= Remembered && snapshot.Services.Values.Any(service => service.Disconnect is { StopOnClientAfterSeconds: > 0 });
        if (remember == _written)
            return;
        try
        {
            if (remember)
                File.WriteAllText(_file, (time.GetUtcNow() - silence).ToUnixTimeMilliseconds().ToString(CultureInfo.InvariantCulture));
            else
                File.Delete(_file);
            _written = remember;
        }
        catch (IOException)
        {
            // A full disk: tried again with the next look. Until then only a restart would not know.
        }
    }
}
