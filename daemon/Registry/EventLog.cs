using System.Runtime.CompilerServices;
using System.Text;
using System.Text.Json;
using OverlayNet.Contracts;

namespace OverlayNet.Daemon.Registry;

/// <summary>
/// What happened, for people to read later: numbered events, one JSON line each, in a file of the state directory that is
/// renamed to <c>.1</c> when it is full. Safe for concurrent use.
/// </summary>
/// <remarks>
/// A thread of its own writes: a disk that hangs or is full holds up nobody. What it does not take is kept and tried again; a crash
/// may lose the newest.
/// </remarks>
public sealed class EventLog : IDisposable
{
    public const string FileName = "events.ndjson";

    /// <summary>Who wrote what to the registry, and what was refused to whom.</summary>
    public const string AuditFileName = "audit.ndjson";

    private readonly string _path;
    private readonly string _node;
    private readonly long _maxBytes;
    private readonly TimeProvider _time;
    private static readonly TimeSpan Retry = TimeSpan.FromSeconds(1), Patience = TimeSpan.FromSeconds(2);

    /// <summary>Events that wait for the disk; beyond that the oldest are dropped, which shows as a gap in the numbers.</summary>
    private const int MostWaiting = 10_000;
    private readonly Lock _lock = new(), _fileLock = new();
    private readonly Queue<ClusterEvent> _waiting = new();
    private readonly AutoResetEvent _wake = new(false);
    private readonly Thread _writer;
    private volatile bool _stopping;
    private FileStream _file;
    private TaskCompletionSource _appended = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private long _sequence;

    private EventLog(string path, string node, long maxBytes, TimeProvider time)
    {
        _path = path;
        _node = node;
        _maxBytes = maxBytes;
        _time = time;
        _sequence = Math.Max(LastSequence(Older), LastSequence(path));
        _file = OpenToAppend(path);
        DropTornLine();
        _writer = new Thread(Write) { IsBackground = true, Name = "events" };
        _writer.Start();
    }

    private string Older => _path + ".1";

    /// <param name="node">The name of this node, in every event.</param>
    /// <param name="maxBytes">Two files of at most this size are kept.</param>
    public static EventLog Open(string stateDirectory, string node, TimeProvider? time = null, long maxBytes = 8 << 20, string fileName = FileName) =>
        new(Path.Combine(stateDirectory, fileName), node, maxBytes, time ?? TimeProvider.System);

    public ClusterEvent Append(string kind, string action, string name, string message = "", long revision = 0)
    {
        lock (_lock)
        {
            var recorded = new ClusterEvent
            {
                Sequence = ++_sequence,
                Time = _time.GetUtcNow(),
                Node = _node,
                Kind = kind,
                Action = action,
                Object = name,
                Message = message,
                Revision = revision,
            };
            _waiting.Enqueue(recorded);
            if (_waiting.Count > MostWaiting)
                _waiting.Dequeue();
            _wake.Set();
            Interlocked.Exchange(ref _appended, new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously))
                .TrySetResult();
            return recorded;
        }
    }

    /// <summary>The number of the newest event; 0: none yet.</summary>
    public long Last
    {
        get
        {
            lock (_lock)
                return _sequence;
        }
    }

    /// <summary>Kept events after a number, oldest first.</summary>
    public IReadOnlyList<ClusterEvent> Since(long sequence) => Read(e => e.Sequence > sequence);

    /// <summary>Kept events from a time on, oldest first.</summary>
    public IReadOnlyList<ClusterEvent> Since(DateTimeOffset time) => Read(e => e.Time >= time);

    /// <summary>Kept events after a number, then those to come.</summary>
    public async IAsyncEnumerable<ClusterEvent> FollowAsync(long sequence, [EnumeratorCancellation] CancellationToken cancel)
    {
        while (true)
        {
            var appended = Volatile.Read(ref _appended).Task;
            foreach (var recorded in Since(sequence))
            {
                sequence = recorded.Sequence;
                yield return recorded;
            }
            await appended.WaitAsync(cancel).ConfigureAwait(false);
        }
    }

    /// <summary>Writes what waits, as far as the disk takes it.</summary>
    public void Dispose()
    {
        _stopping = true;
        _wake.Set();
        // A disk that hangs must not hold up the daemon's end.
        if (!_writer.Join(Patience))
            return;
        _file.Dispose();
        _wake.Dispose();
    }

    /// <summary>Reads a state directory's events without a running daemon.</summary>
    public static IReadOnlyList<ClusterEvent> ReadFrom(string stateDirectory)
    {
        var path = Path.Combine(stateDirectory, FileName);
        return [.. Lines(path + ".1"), .. Lines(path)];
    }

    private List<ClusterEvent> Read(Func<ClusterEvent, bool> wanted)
    {
        lock (_fileLock)
        {
            var written = Lines(Older).Concat(Lines(_path)).ToList();
            lock (_lock)
                return [.. written.Concat(_waiting.Where(e => written.Count == 0 || e.Sequence > written[^1].Sequence)).Where(wanted)];
        }
    }

    private void Write()
    {
        while (true)
        {
            ClusterEvent? next;
            lock (_lock)
                _waiting.TryPeek(out next);
            if (next is null)
            {
                if (_stopping)
                    return;
                _wake.WaitOne();
                continue;
            }
            if (!TryWrite(next))
            {
                if (_stopping)
                    return;
                _wake.WaitOne(Retry);
                continue;
            }
            lock (_lock)
            {
                // It may have been dropped meanwhile.
                if (_waiting.TryPeek(out var first) && first.Sequence == next.Sequence)
                    _waiting.Dequeue();
            }
        }
    }

    private bool TryWrite(ClusterEvent recorded)
    {
        lock (_fileLock)
        {
            var before = _file.Length;
            try
            {
                _file.Write([.. JsonSerializer.SerializeToUtf8Bytes(recorded, OverlayNetJson.Default.ClusterEvent), (byte)'\n']);
                _file.Flush();
                if (_file.Length >= _maxBytes)
                    Rotate();
                return true;
            }
            catch (IOException)
            {
                // Half a line would be taken for a crash's; full disks are told of by those who cannot work without one.
                _file.SetLength(before);
                _file.Position = before;
                return false;
            }
        }
    }

    private static IEnumerable<ClusterEvent> Lines(string path)
    {
        if (!File.Exists(path))
            yield break;
        using var reader = new StreamReader(new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite), Encoding.UTF8);
        while (reader.ReadLine() is { } line)
        {
            if (Parse(line) is { } recorded)
                yield return recorded;
        }
    }

    /// <summary>A line that a crash cut off is no event.</summary>
    private static ClusterEvent? Parse(string line)
    {
        try
        {
            return JsonSerializer.Deserialize(line, OverlayNetJson.Default.ClusterEvent);
        }
        catch (JsonException)
        {
            return null;
        }
    }

    private static long LastSequence(string path) => Lines(path).LastOrDefault()?.Sequence ?? 0;

    private static FileStream OpenToAppend(string path) => new(path, new FileStreamOptions
    {
        Mode = FileMode.OpenOrCreate,
        Access = FileAccess.ReadWrite,
        Share = FileShare.ReadWrite,
        BufferSize = 0,
        UnixCreateMode = UnixFileMode.UserRead | UnixFileMode.UserWrite,
    });

    private void DropTornLine()
    {
        var end = _file.Length;
        while (end > 0)
        {
            _file.Position = end - 1;
            if (_file.ReadByte() == '\n')
                break;
            end--;
        }
        _file.SetLength(end);
        _file.Position = end;
    }

    private void Rotate()
    {
        _file.Dispose();
        File.Move(_path, Older, overwrite: true);
        _file = OpenToAppend(_path);
    }
}
