using System.Collections.Concurrent;
using OverlayNet.Kernel;

namespace OverlayNet.Daemon.Health;

/// <summary>
/// Watches the processes in the namespaces of this node's endpoints by pidfd: when one ends, its endpoint is checked at once. What
/// ended may not have been the server, so an end proves nothing by itself.
/// </summary>
internal sealed class ProcessWatch : IDisposable
{
    private const int MostOfEndpoint = 64;
    private static readonly TimeSpan LookAgain = TimeSpan.FromSeconds(15), Together = TimeSpan.FromMilliseconds(100);
    private readonly ProcessExits _exits = new();
    private readonly Action<string> _ended;
    private readonly TimeProvider _time;
    private readonly ConcurrentDictionary<string, (string Netns, long LookedAt)> _looked = new();
    private readonly ConcurrentDictionary<string, string> _wanted = new();
    private readonly ConcurrentDictionary<int, string> _endpoints = new();
    private readonly SemaphoreSlim _wake = new(0);
    private readonly Thread _thread;
    private volatile bool _stopping;

    public ProcessWatch(Action<string> ended, TimeProvider time)
    {
        (_ended, _time) = (ended, time);
        _thread = new Thread(Loop) { IsBackground = true, Name = "process-watch" };
    }

    public void Start() => _thread.Start();

    /// <summary>An endpoint answers: whatever runs in its namespace is worth watching. Cheap when that was looked at lately.</summary>
    public void Look(string endpointId, string netns)
    {
        if (_looked.TryGetValue(endpointId, out var looked) && looked.Netns == netns && _time.GetElapsedTime(looked.LookedAt) < LookAgain)
            return;
        _wanted[endpointId] = netns;
        if (_wake.CurrentCount == 0)
            _wake.Release();
    }

    /// <summary>Looks for processes until cancelled; one pass over /proc serves all endpoints that wait for it.</summary>
    public async Task Run(CancellationToken cancellation)
    {
        while (!cancellation.IsCancellationRequested)
        {
            await _wake.WaitAsync(cancellation).ConfigureAwait(false);
            await Task.Delay(Together, _time, cancellation).ConfigureAwait(false);
            var wanted = _wanted.ToArray();
            foreach (var (endpoint, netns) in wanted)
            {
                _wanted.TryRemove(endpoint, out _);
                _looked[endpoint] = (netns, _time.GetTimestamp());
            }
            Scan(wanted);
        }
    }

    public void Forget(IReadOnlySet<string> endpointsThatStay)
    {
        foreach (var id in _looked.Keys.Where(id => !endpointsThatStay.Contains(id)))
            _looked.TryRemove(id, out _);
        foreach (var (processId, endpoint) in _endpoints)
        {
            if (!endpointsThatStay.Contains(endpoint) && _endpoints.TryRemove(processId, out _))
                _exits.Forget(processId);
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

    private void Scan(IReadOnlyList<KeyValuePair<string, string>> wanted)
    {
        var byNamespace = new Dictionary<string, (string Endpoint, int Count)>();
        foreach (var (endpoint, netns) in wanted)
        {
            try
            {
                byNamespace[$"net:[{NetworkNamespace.Status(netns).Inode}]"] = (endpoint, 0);
            }
            catch (KernelException)
            {
                // It ended: that is noticed elsewhere.
            }
        }
        foreach (var directory in byNamespace.Count == 0 ? [] : Directory.EnumerateDirectories("/proc"))
        {
            if (!int.TryParse(Path.GetFileName(directory.AsSpan()), out var processId) || _endpoints.ContainsKey(processId))
                continue;
            string? link;
            try
            {
                link = new FileInfo($"{directory}/ns/net").LinkTarget;
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException)
            {
                // It ended meanwhile, or is none of ours to look into.
                continue;
            }
            if (link is null || !byNamespace.TryGetValue(link, out var found) || found.Count >= MostOfEndpoint)
                continue;
            byNamespace[link] = found with { Count = found.Count + 1 };
            _endpoints[processId] = found.Endpoint;
            if (!_exits.Watch(processId))
                _endpoints.TryRemove(processId, out _);
        }
    }

    private void Loop()
    {
        while (!_stopping)
        {
            foreach (var processId in _exits.Wait())
            {
                if (!_endpoints.TryRemove(processId, out var endpoint))
                    continue;
                _looked.TryRemove(endpoint, out _);
                _ended(endpoint);
            }
        }
    }
}
