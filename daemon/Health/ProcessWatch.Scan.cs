using OverlayNet.Kernel;
using OverlayNet.Kernel.Netlink;

namespace OverlayNet.Daemon.Health;

/// <summary>Finding the processes: who listens in an endpoint's namespace, and who holds that socket.</summary>
internal sealed partial class ProcessWatch
{
    private void Scan(IReadOnlyList<Watch> wanted)
    {
        var looks = new List<LookOut>();
        foreach (var watch in wanted)
        {
            try
            {
                var inode = NetworkNamespace.Status(watch.Netns).Inode;
                looks.Add(new LookOut(watch, $"net:[{inode}]", watch.Port == 0 ? [] : Listeners(watch.Netns, watch.Port)));
            }
            catch (KernelException)
            {
                // The namespace ended: that is noticed elsewhere. Or it cannot be looked into now: it is tried again.
                looks.Add(new LookOut(watch, "", []));
            }
        }
        // Those whose listeners are the same as before are watched already, while their holders live.
        var open = looks.Where(look => look.Link.Length > 0 && !(look.Watch.Sure && look.Watch.Port != 0 && look.Watch.Listeners.SetEquals(look.Listeners))).ToList();
        if (open.Count > 0)
        {
            FindIn(open.ToLookup(look => look.Link));
            FindElsewhere(open);
        }
        foreach (var look in looks)
            Conclude(look, kept: !open.Contains(look) && look.Link.Length > 0);
    }

    private static HashSet<uint> Listeners(string path, int port)
    {
        using var netns = NetworkNamespace.Open(path);
        using var netlink = NetlinkSocket.Open(NetlinkProtocol.SockDiag, netns);
        return [.. SockDiag.Listeners(netlink, port).Select(socket => socket.Inode)];
    }

    /// <summary>The processes in the endpoints' own namespaces, all of them: who holds the socket may change among them.</summary>
    private void FindIn(ILookup<string, LookOut> byNamespace)
    {
        foreach (var directory in Directory.EnumerateDirectories("/proc"))
        {
            if (!int.TryParse(Path.GetFileName(directory.AsSpan()), out var processId))
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
            if (link is null || !byNamespace.Contains(link))
                continue;
            List<uint>? sockets = null;
            foreach (var look in byNamespace[link])
            {
                if (look.Watch.Port != 0)
                    sockets ??= [.. ForeignSockets.SocketsOf(processId).Select(socket => socket.Inode)];
                WatchProcess(look, processId, sockets ?? []);
            }
        }
    }

    /// <summary>A socket may also be held from outside: by whoever made it and went away, or who was given it.</summary>
    private void FindElsewhere(IReadOnlyList<LookOut> open)
    {
        var missing = open.SelectMany(look => look.Listeners.Where(inode => !look.Holders.ContainsKey(inode))).ToHashSet();
        if (missing.Count == 0)
            return;
        foreach (var (inode, holder) in ForeignSockets.Find(missing))
        {
            foreach (var look in open.Where(look => look.Listeners.Contains(inode)))
                WatchProcess(look, holder.ProcessId, [inode]);
        }
    }

    private void WatchProcess(LookOut look, int processId, IReadOnlyList<uint> sockets)
    {
        var holds = sockets.Where(look.Listeners.Contains).ToList();
        lock (_gate)
        {
            var watch = look.Watch;
            if (_watches.GetValueOrDefault(watch.EndpointId) != watch)
                return;
            if (!watch.Processes.Contains(processId))
            {
                // Those that hold what listens are watched however many there are.
                if (holds.Count == 0 && watch.Processes.Count >= MostOfEndpoint)
                    return;
                if (!_processes.TryGetValue(processId, out var endpoints))
                {
                    if (!_exits.Watch(processId))
                        return;
                    _processes[processId] = endpoints = [];
                }
                endpoints.Add(watch.EndpointId);
                watch.Processes.Add(processId);
            }
            foreach (var inode in holds)
                (look.Holders.TryGetValue(inode, out var holders) ? holders : look.Holders[inode] = []).Add(processId);
        }
    }

    private void Conclude(LookOut look, bool kept)
    {
        bool changed, unheard;
        var watch = look.Watch;
        lock (_gate)
        {
            if (_watches.GetValueOrDefault(watch.EndpointId) != watch)
                return;
            // Whoever ended since it was found is not among the processes any more.
            var sure = kept ? watch.Sure
                : watch.Port == 0 ? watch.Processes.Count > 0
                : look.Listeners.Count > 0 && look.Listeners.All(inode => look.Holders.GetValueOrDefault(inode)?.Any(watch.Processes.Contains) == true);
            changed = sure != watch.Sure;
            // It has answered just now, and nobody listens: the end was missed.
            unheard = watch is { Answered: true, Tries: 0, Port: not 0 } && !sure && look.Listeners.Count == 0;
            (watch.Sure, watch.Looked, watch.Wanted, watch.Listeners) = (sure, true, false, look.Listeners);
            var wait = sure ? (watch.Port == 0 ? LookAgain : Rarely)
                : watch.Answered ? TimeSpan.FromTicks(Math.Min(FirstRetry.Ticks << Math.Min(watch.Tries, 10), Rarely.Ticks)) : TimeSpan.Zero;
            watch.Tries = sure || !watch.Answered ? 0 : watch.Tries + 1;
            watch.NextAt = _time.GetTimestamp() + (long)(wait.TotalSeconds * _time.TimestampFrequency);
            watch.Answered = false;
        }
        if (changed)
            _changed(watch.EndpointId);
        if (unheard)
            _ended(watch.EndpointId);
    }

    /// <summary>One endpoint while it is looked for.</summary>
    private sealed record LookOut(Watch Watch, string Link, HashSet<uint> Listeners)
    {
        /// <summary>Watched processes by the listening socket that they hold.</summary>
        public Dictionary<uint, List<int>> Holders { get; } = [];
    }
}
