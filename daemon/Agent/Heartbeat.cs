using System.Diagnostics;
using OverlayNet.Contracts;
using OverlayNet.Daemon.Metrics;
using OverlayNet.Daemon.Registry;

namespace OverlayNet.Daemon.Agent;

/// <summary>
/// Tells the managers that this node's daemon lives and which revision its kernel reflects: on a thread of its own, so
/// that a busy thread pool is not taken for a dead node; at once when the applied revision moved. Its own lateness is measured.
/// </summary>
public sealed partial class Heartbeat(
    RegistryClient client, TimeSpan interval, Func<HeartbeatRequest> compose, TimeProvider time, ILogger<Heartbeat> logger) : IDisposable
{
    private static readonly TimeSpan CallTimeout = TimeSpan.FromSeconds(3);
    private readonly AutoResetEvent _wake = new(false);
    private Thread? _thread;
    private volatile bool _stopping;
    private volatile string? _trouble;
    private long _acknowledged;

    /// <summary>How late the thread woke up last, in milliseconds.</summary>
    public double LatenessMs { get; private set; }

    /// <summary>The latest it ever was, in milliseconds.</summary>
    public double WorstLatenessMs { get; private set; }

    /// <summary>A manager has answered. Called on the heartbeat's thread: hand over and return.</summary>
    public event Action<HeartbeatResponse>? Answered;

    /// <summary>Timestamp of the newest beat that a manager with a majority has answered, taken before it was sent; 0: none yet.</summary>
    public long Acknowledged => Volatile.Read(ref _acknowledged);

    /// <summary>How far this node's clock is ahead of the manager's that answered last, in milliseconds; null: none has.</summary>
    public double? ClockSkewMs { get; private set; }

    /// <summary>Why the last beat was not heard; null: it was.</summary>
    public string? Trouble => _trouble;

    public void Start()
    {
        _thread = new Thread(Loop) { IsBackground = true, Name = "heartbeat", Priority = ThreadPriority.Highest };
        _thread.Start();
    }

    /// <summary>Beats now: something worth telling has happened.</summary>
    public void Wake() => _wake.Set();

    public void Dispose()
    {
        _stopping = true;
        _wake.Set();
        _thread?.Join();
        _wake.Dispose();
    }

    private void Loop()
    {
        while (!_stopping)
        {
            Beat();
            var before = Stopwatch.GetTimestamp();
            var early = _wake.WaitOne(interval);
            LatenessMs = early ? 0 : Math.Max(0, (Stopwatch.GetElapsedTime(before) - interval).TotalMilliseconds);
            if (!early)
                DaemonInstruments.HeartbeatLateness.Record(LatenessMs / 1000);
            WorstLatenessMs = Math.Max(WorstLatenessMs, LatenessMs);
        }
    }

    private void Beat()
    {
        try
        {
            using var timeout = new CancellationTokenSource(CallTimeout);
            var sent = time.GetTimestamp();
            var request = compose() with { LatenessMs = LatenessMs, UnixMs = time.GetUtcNow().ToUnixTimeMilliseconds() };
            var answer = client.Heartbeat(request, timeout.Token).GetAwaiter().GetResult();
            if (answer.Stale != true)
                Volatile.Write(ref _acknowledged, sent);
            // Half of the way there and back is the manager's moment.
            ClockSkewMs = answer.UnixMs > 0 ? (request.UnixMs + time.GetUtcNow().ToUnixTimeMilliseconds()) / 2.0 - answer.UnixMs : null;
            Answered?.Invoke(answer);
            if (_trouble is not null)
                Log.Restored(logger);
            _trouble = null;
        }
        catch (Exception e) when (e is RegistryException or HttpRequestException or IOException or OperationCanceledException)
        {
            DaemonInstruments.HeartbeatsLost.Add(1);
            // Once per change of reason: managers may be gone for hours.
            if (_trouble != e.Message)
                Log.Failed(logger, e.Message);
            _trouble = e.Message;
        }
    }

    private static partial class Log
    {
        [LoggerMessage(1, LogLevel.Warning, "heartbeat: not heard: {Reason}")]
        public static partial void Failed(ILogger logger, string reason);

        [LoggerMessage(2, LogLevel.Information, "heartbeat: heard again")]
        public static partial void Restored(ILogger logger);
    }
}
