using System.Collections.Immutable;
using System.ComponentModel;
using System.Diagnostics;
using System.Net;
using OverlayNet.Contracts;
using OverlayNet.Kernel.Netlink;
using OverlayNet.Vip.Vrrp;

namespace OverlayNet.Daemon.Agent.FloatingVips;

/// <summary>What trackers look at: one reading of the host for all of them.</summary>
internal sealed class HostView(IReadOnlyList<Link> links, Lazy<IReadOnlySet<string>> processes, Lazy<IReadOnlySet<IPNetwork>> routes)
{
    private const uint MainTable = 254;

    public static HostView Read(NetlinkSocket socket) => new(
        new RouteLinks(socket).Dump(),
        new Lazy<IReadOnlySet<string>>(Processes),
        new Lazy<IReadOnlySet<IPNetwork>>(() => new RouteRoutes(socket).Dump()
            .Where(route => route.Table == MainTable && route.Type == RouteType.Unicast).Select(route => route.Destination).ToHashSet()));

    public Link? Link(string name) => links.FirstOrDefault(link => link.Name == name);

    /// <summary>Up, and the other end of the cable is there.</summary>
    public bool InterfaceUp(string name) => Link(name) is { IsUp: true } link && (link.Flags & LinkFlags.LowerUp) != 0;

    public bool ProcessRuns(string comm) => processes.Value.Contains(comm);

    public bool HasRoute(IPNetwork prefix) => routes.Value.Contains(prefix);

    private static HashSet<string> Processes()
    {
        var names = new HashSet<string>(StringComparer.Ordinal);
        foreach (var directory in Directory.EnumerateDirectories("/proc"))
        {
            if (!char.IsAsciiDigit(Path.GetFileName(directory.AsSpan())[0]))
                continue;
            try
            {
                names.Add(File.ReadAllText($"{directory}/comm").TrimEnd('\n'));
            }
            catch (IOException)
            {
                // It ended meanwhile.
            }
        }
        return names;
    }
}

/// <summary>
/// The tracked objects of one set of VIPs and the priority that follows. The interfaces the VIPs live on are tracked without being
/// asked for: a lease is no use to a node whose data path is down.
/// </summary>
internal sealed class VipTracker : IDisposable
{
    private readonly List<Entry> _entries;
    private readonly TimeProvider _time;

    public VipTracker(IReadOnlyList<FloatingVip> vips, TimeProvider time)
    {
        _time = time;
        var own = vips.Select(vip => vip.Interface).Distinct().Select(name => new VipTrack { Kind = VipTrackKind.Interface, Target = name });
        _entries = [.. own.Concat(vips.SelectMany(vip => vip.Tracks)).Distinct().Select(track => new Entry(track))];
    }

    /// <summary>Looks at everything that is due.</summary>
    /// <returns>The priority (0: a fault) and why.</returns>
    public (int Priority, string Reason) Evaluate(HostView host, int configured)
    {
        foreach (var entry in _entries)
        {
            switch (entry.Track.Kind)
            {
                case VipTrackKind.Interface:
                    entry.Observe(host.InterfaceUp(entry.Track.Target));
                    break;
                case VipTrackKind.Process:
                    entry.Observe(host.ProcessRuns(entry.Track.Target));
                    break;
                case VipTrackKind.Route:
                    entry.Observe(host.HasRoute(IPNetwork.Parse(entry.Track.Target)));
                    break;
                case VipTrackKind.Script:
                    entry.RunScript(_time);
                    break;
            }
        }
        return VrrpTracking.EffectivePriority((byte)configured, [.. _entries.Select(entry => entry.State)]);
    }

    public void Dispose() => _entries.ForEach(entry => entry.Dispose());

    private sealed class Entry(VipTrack track) : IDisposable
    {
        private Process? _script;
        private long _startedAt;

        public VipTrack Track => track;

        public VrrpTrack State { get; private set; } = new()
        {
            Name = track.Target,
            Kind = (VrrpTrackKind)track.Kind,
            Weight = track.Weight,
            Rise = track.Rise,
            Fall = track.Fall,
        };

        public void Observe(bool good) => State = State.Observe(good);

        // One run at a time; one that does not end before the next is due is a failure and is killed.
        public void RunScript(TimeProvider time)
        {
            var due = _startedAt == 0 || time.GetElapsedTime(_startedAt).TotalMilliseconds >= track.IntervalMs;
            if (_script is { HasExited: true } ended)
            {
                Observe(ended.ExitCode == 0);
                ended.Dispose();
                _script = null;
            }
            if (!due)
                return;
            if (_script is not null)
            {
                Observe(false);
                Dispose();
            }
            _startedAt = time.GetTimestamp();
            try
            {
                var words = track.Target.Split(' ', StringSplitOptions.RemoveEmptyEntries);
                _script = Process.Start(new ProcessStartInfo(words[0], words[1..]) { UseShellExecute = false });
            }
            catch (Exception e) when (e is Win32Exception or InvalidOperationException)
            {
                Observe(false);
            }
        }

        public void Dispose()
        {
            if (_script is null)
                return;
            try
            {
                _script.Kill(entireProcessTree: true);
            }
            catch (InvalidOperationException)
            {
                // It has ended by itself.
            }
            _script.Dispose();
            _script = null;
        }
    }
}
