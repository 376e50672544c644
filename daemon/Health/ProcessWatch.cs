using OverlayNet.Kernel;

namespace OverlayNet.Daemon.Health;

/// <summary>
/// Watches the processes of this node's endpoints by pidfd: when one ends, its endpoint is checked at once. What ended may not have
/// been the server, so an end proves nothing by itself. A watch of a TCP server is established when a watched process holds each
/// socket that listens on its port; until then it is looked for again after every pass.
/// </summary>
/// <remarks>
/// The kernel would also tell of sockets' ends (SKNLGRP_INET_TCP_DESTROY), but then for every connection of the host, at 10 us each:
/// a fifth of what a short connection costs. A pidfd costs nothing while nothing ends.
/// </remarks>
internal sealed partial class ProcessWatch : IDisposable
{
    private const int MostOfEndpoint = 64;
    private static readonly TimeSpan FirstRetry = TimeSpan.FromSeconds(1), LookAgain = TimeSpan.FromSeconds(15);

    // A listener has a holder that is watched, whose end would be told: nothing can be missed in the meantime. Nor is much to be hoped for
    // where nobody was found again and again, and looking into all processes of a host is dear.
    private static readonly TimeSpan Rarely = TimeSpan.FromSeconds(60);
    private readonly ProcessExits _exits = new();
    private readonly Action<string> _ended;
    private readonly Action<string> _changed;
    private readonly TimeProvider _time;
    private readonly Lock _gate = new();
    private readonly Dictionary<string, Watch> _watches = [];
    private readonly Dictionary<int, HashSet<string>> _processes = [];
    private readonly SemaphoreSlim _wake = new(0);
    private readonly Thread _thread;
    private volatile bool _stopping;

    /// <param name="ended">A process of the endpoint has ended, or who listened for it has gone unseen.</param>
    /// <param name="changed"><see cref="IsWatched"/> says otherwise than before.</param>
    public ProcessWatch(Action<string> ended, Action<string> changed, TimeProvider time)
    {
        (_ended, _changed, _time) = (ended, changed, time);
        _thread = new Thread(Loop) { IsBackground = true, Name = "process-watch" };
    }

    public void Start() => _thread.Start();

    /// <summary>An endpoint has just answered, so its server can be found. Cheap while that is watched already.</summary>
    public void Look(PlannedCheck plan) => Want(plan, passed: true);

    /// <summary>An endpoint takes traffic: its server is looked for before the first check of it is due.</summary>
    public void Expect(PlannedCheck plan) => Want(plan, passed: false);

    /// <summary>The end of the endpoint's server would be heard.</summary>
    public bool IsWatched(string endpointId)
    {
        lock (_gate)
            return _watches.GetValueOrDefault(endpointId) is { Sure: true };
    }

    /// <summary>Looks for processes until cancelled; one pass over /proc serves all endpoints that wait for it.</summary>
    public async Task Run(CancellationToken cancellation)
    {
        while (!cancellation.IsCancellationRequested)
        {
            await _wake.WaitAsync(cancellation).ConfigureAwait(false);
            var begun = _time.GetTimestamp();
            List<Watch> wanted;
            lock (_gate)
                wanted = [.. _watches.Values.Where(watch => watch.Wanted)];
            if (wanted.Count == 0)
                continue;
            // A thread of its own: it goes from namespace to namespace.
            await Task.Run(() => NetworkNamespace.RunOnThread(() => Scan(wanted)), cancellation).ConfigureAwait(false);
            // Many that begin together must not cost more than a tenth of a processor.
            await Task.Delay(_time.GetElapsedTime(begun) * 9, _time, cancellation).ConfigureAwait(false);
        }
    }

    public void Forget(IReadOnlySet<string> endpointsThatStay)
    {
        lock (_gate)
        {
            foreach (var id in _watches.Keys.Where(id => !endpointsThatStay.Contains(id)).ToList())
                Drop(id);
        }
    }

    public void Dispose()
    {
        _stopping = true;
        _exits.Wake();
        if (_thread.IsAlive)
            _thread.Join();
        _exits.Dispose();
        _wake.Dispose();
    }

    private void Want(PlannedCheck plan, bool passed)
    {
        var port = HealthTargets.Listens(plan) ? plan.Port : 0;
        lock (_gate)
        {
            if (_watches.TryGetValue(plan.EndpointId, out var watch) && (watch.Netns != plan.TaskNetns || watch.Port != port))
            {
                Drop(plan.EndpointId);
                watch = null;
            }
            if (watch is null)
                _watches[plan.EndpointId] = watch = new Watch { EndpointId = plan.EndpointId, Netns = plan.TaskNetns, Port = port };
            else if (!passed || (watch.Looked && _time.GetTimestamp() < watch.NextAt))
                return;
            (watch.Wanted, watch.Answered) = (true, watch.Answered | passed);
        }
        if (_wake.CurrentCount == 0)
            _wake.Release();
    }

    private void Drop(string endpoint)
    {
        if (!_watches.Remove(endpoint, out var watch))
            return;
        foreach (var processId in watch.Processes)
        {
            if (_processes.TryGetValue(processId, out var endpoints) && endpoints.Remove(endpoint) && endpoints.Count == 0)
            {
                _processes.Remove(processId);
                _exits.Forget(processId);
            }
        }
    }

    private void Loop()
    {
        var ended = new List<(string Endpoint, bool WasSure)>();
        while (!_stopping)
        {
            foreach (var processId in _exits.Wait())
            {
                lock (_gate)
                {
                    if (!_processes.Remove(processId, out var endpoints))
                        continue;
                    foreach (var watch in endpoints.Select(endpoint => _watches[endpoint]))
                    {
                        watch.Processes.Remove(processId);
                        ended.Add((watch.EndpointId, watch.Sure));
                        // Others may listen still: they are found after the next pass.
                        (watch.Sure, watch.Looked, watch.Tries) = (false, false, 0);
                    }
                }
                foreach (var (endpoint, wasSure) in ended)
                {
                    _ended(endpoint);
                    if (wasSure)
                        _changed(endpoint);
                }
                ended.Clear();
            }
        }
    }

    /// <summary>What is watched for one endpoint; changed under the gate only.</summary>
    private sealed class Watch
    {
        public required string EndpointId { get; init; }

        /// <summary>Path of the endpoint's own namespace.</summary>
        public required string Netns { get; init; }

        /// <summary>The TCP port its server listens on; 0: whatever runs in its namespace is its server.</summary>
        public required int Port { get; init; }

        public bool Wanted { get; set; }

        /// <summary>It has passed a check since it was looked for last.</summary>
        public bool Answered { get; set; }
        public bool Looked { get; set; }
        public long NextAt { get; set; }

        /// <summary>Looks in a row that did not establish it.</summary>
        public int Tries { get; set; }

        /// <summary>The watch is established.</summary>
        public bool Sure { get; set; }

        /// <summary>The sockets that listened at the last look, by inode.</summary>
        public HashSet<uint> Listeners { get; set; } = [];
        public HashSet<int> Processes { get; } = [];
    }
}
