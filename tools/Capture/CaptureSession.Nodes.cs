using System.Runtime.InteropServices;
using OverlayNet.Kernel;
using OverlayNet.Tools.Capture.Files;
using OverlayNet.Tools.Capture.Live;
using OverlayNet.Tools.Capture.Nodes;
using OverlayNet.Tools.Cli;

namespace OverlayNet.Tools.Capture;

/// <summary>Captures on several nodes, in one order of time.</summary>
internal sealed partial class CaptureSession
{
    /// <summary>Captures on this node and others until enough, until the time is over, until interrupted, or until every node's stream has ended.</summary>
    /// <param name="local">This node's points, its name in front of theirs; none: only other nodes capture.</param>
    /// <param name="open">The other nodes' streams, which its token ends.</param>
    /// <exception cref="CommandFailure">A point cannot be captured at.</exception>
    public int Nodes(IReadOnlyList<CapturePoint> local, Func<INodeStreamSink, CancellationToken, IReadOnlyList<NodeStream>> open, CancellationToken cancellation)
    {
        using var reading = new CancellationTokenSource();
        using var stop = CancellationTokenSource.CreateLinkedTokenSource(cancellation);
        using var interrupt = PosixSignalRegistration.Create(PosixSignal.SIGINT, context => Stop(context, stop));
        using var terminate = PosixSignalRegistration.Create(PosixSignal.SIGTERM, context => Stop(context, stop));
        using var sink = CaptureSink.Open(_options);
        var handles = new List<PcapHandle>();
        IReadOnlyList<NodeStream> streams = [];
        try
        {
            foreach (var point in local)
                handles.Add(PcapHandle.Open(point, _options.SnapLength));
            var gathering = new Gathering(this, sink, handles, stop);
            streams = open(gathering, reading.Token);
            gathering.Run(streams);
            foreach (var (name, (received, dropped)) in gathering.Counts)
                sink?.Count(name, received, dropped);
            if (gathering.Late > 0)
                _error.WriteLine($"{Text.Number(gathering.Late)} packets came too late for their place in the order of time");
            return Finish(Dropped([.. gathering.Counts.Select(entry => (entry.Key, entry.Value))]));
        }
        finally
        {
            reading.Cancel();
            foreach (var stream in streams)
                stream.Join();
            foreach (var handle in handles)
                handle.Dispose();
        }
    }

    /// <summary>This node's capture and the others' streams on their way into one order.</summary>
    private sealed class Gathering : INodeStreamSink
    {
        // A node that says nothing for this long is not waited for: its marks come ten times as often, and more.
        private static readonly TimeSpan Silence = TimeSpan.FromSeconds(2), LastPackets = TimeSpan.FromSeconds(1), Look = TimeSpan.FromMilliseconds(100);
        private readonly object _gate = new();
        private readonly CaptureSession _session;
        private readonly CaptureSink? _sink;
        private readonly List<PcapHandle> _handles;
        private readonly CancellationTokenSource _stop;
        private readonly Dictionary<int, long> _heard = [];
        private readonly HashSet<int> _ready = [], _silent = [];
        private TimeMerge? _merge;
        private int _sources, _open;
        private long _endNs = long.MaxValue;
        private bool _ending;

        public Gathering(CaptureSession session, CaptureSink? sink, List<PcapHandle> handles, CancellationTokenSource stop) =>
            (_session, _sink, _handles, _stop) = (session, sink, handles, stop);

        /// <summary>The kernels' counts of every point, as they were told last.</summary>
        public SortedDictionary<string, (long Received, long Dropped)> Counts { get; } = new(StringComparer.Ordinal);

        public long Late => _merge?.Late ?? 0;

        private int Local => _sources - 1;

        public void Run(IReadOnlyList<NodeStream> streams)
        {
            lock (_gate)
            {
                // This node is the last source, also when it captures nothing.
                (_sources, _open) = (streams.Count + 1, streams.Count);
                _merge = new TimeMerge(_sources, record =>
                {
                    if (record.TimeNs <= _endNs && !_session.Enough)
                        _session.Take(record, _sink);
                    if (_session.Enough)
                        _stop.Cancel();
                });
                foreach (var handle in _handles)
                    _sink?.Describe(handle.Point.Name, handle.Point.Description, handle.Link, handle.Point.Filter, "the clock that time stamps are in");
                if (_handles.Count == 0)
                    _merge.End(Local);
            }
            foreach (var stream in streams)
                stream.Start();
            var capture = new Thread(Capture) { IsBackground = true, Name = "capture" };
            if (_handles.Count > 0)
                capture.Start();
            AwaitAll(streams);
            if (_session._options.Duration is { } duration)
                _stop.CancelAfter(duration);
            while (!_stop.Token.WaitHandle.WaitOne(Look))
            {
                lock (_gate)
                {
                    foreach (var stream in streams.Where(stream => !_silent.Contains(stream.Number) && WallClock.Nanoseconds - _heard.GetValueOrDefault(stream.Number, long.MaxValue) > Silence.TotalNanoseconds))
                    {
                        _silent.Add(stream.Number);
                        _merge.Silence(stream.Number);
                        _session._error.WriteLine($"{stream.Node} is silent: it is not waited for");
                    }
                    if (_open == 0 && _handles.Count == 0)
                        _stop.Cancel();
                }
            }
            // What was captured before this moment is still to come.
            var end = WallClock.Nanoseconds;
            lock (_gate)
                _endNs = end;
            if (_handles.Count > 0)
                capture.Join();
            lock (_gate)
            {
                var limit = Environment.TickCount64 + (long)LastPackets.TotalMilliseconds;
                while (streams.Any(stream => !_silent.Contains(stream.Number) && _merge.Reached(stream.Number) < end) && Environment.TickCount64 < limit)
                    Monitor.Wait(_gate, Look);
                _ending = true;
                _merge.Drain();
            }
        }

        public void Described(NodeStream stream, CapturedInterface point)
        {
            lock (_gate)
            {
                if (!_ending)
                    _sink?.Describe(point.Name, point.Description, point.Link, point.Filter, stream.Comment);
                Counts.TryAdd(point.Name, default);
            }
        }

        public void Captured(NodeStream stream, CaptureRecord record)
        {
            lock (_gate)
            {
                Heard(stream);
                if (!_ending)
                    _merge!.Take(stream.Number, record);
            }
        }

        public void Counted(NodeStream stream, CapturedCounts counts)
        {
            lock (_gate)
            {
                Heard(stream);
                _ready.Add(stream.Number);
                Counts[counts.Name] = (counts.Received, counts.Dropped);
                if (!_ending)
                    _merge!.Reach(stream.Number, counts.TimeNs);
                Monitor.PulseAll(_gate);
            }
        }

        public void Ended(NodeStream stream, string? problem)
        {
            lock (_gate)
            {
                _open--;
                _ready.Add(stream.Number);
                _heard.Remove(stream.Number);
                if (!_ending)
                {
                    _session._error.WriteLine($"the capture of {stream.Node} has ended{(problem is null ? "" : $": {problem}")}");
                    _merge!.End(stream.Number);
                }
                Monitor.PulseAll(_gate);
            }
        }

        private void Heard(NodeStream stream)
        {
            _heard[stream.Number] = WallClock.Nanoseconds;
            if (_silent.Remove(stream.Number))
                _session._error.WriteLine($"{stream.Node} is heard again");
        }

        /// <summary>Says so once every node captures: what happens from then on is seen.</summary>
        private void AwaitAll(IReadOnlyList<NodeStream> streams)
        {
            lock (_gate)
            {
                while (streams.Any(stream => !_ready.Contains(stream.Number)) && !_stop.IsCancellationRequested)
                    Monitor.Wait(_gate, Look);
                _session._error.WriteLine($"capturing at {string.Join(", ", _handles.Select(handle => handle.Point.Name).Concat(Counts.Keys))}");
                foreach (var stream in streams)
                    _session._error.WriteLine(stream.Comment);
            }
        }

        private void Capture()
        {
            new LiveCapture(
                _handles,
                (_, record) =>
                {
                    lock (_gate)
                        _merge!.Take(Local, record);
                },
                reachedNs =>
                {
                    lock (_gate)
                        _merge!.Reach(Local, reachedNs);
                }).Run(() => false, _stop.Token);
            lock (_gate)
            {
                foreach (var handle in _handles)
                    Counts[handle.Point.Name] = handle.Counts;
                _merge!.End(Local);
            }
        }
    }
}
