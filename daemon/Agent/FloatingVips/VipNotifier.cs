using System.ComponentModel;
using System.Diagnostics;
using System.Globalization;
using System.Threading.Channels;
using OverlayNet.Contracts;

namespace OverlayNet.Daemon.Agent.FloatingVips;

/// <summary>
/// Runs notify programs, one after the other in the order of the changes: <c>PROGRAM NAME STATE PRIORITY EPOCH</c>. One that does
/// not end within <see cref="Patience"/> is killed, so that the newest state is always told in the end.
/// </summary>
internal sealed partial class VipNotifier(ILogger<VipNotifier> logger) : IDisposable
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(30);
    private readonly Channel<(FloatingVip Vip, string State, int Priority, string Epoch)> _changes = Channel.CreateUnbounded<(FloatingVip, string, int, string)>(new UnboundedChannelOptions { SingleReader = true });

    public void Start() => _ = Task.Run(Run);

    /// <summary>Cheap, from any thread.</summary>
    public void Tell(FloatingVip vip, string state, int priority, string epoch)
    {
        if (vip.Notify is not null)
            _changes.Writer.TryWrite((vip, state, priority, epoch));
    }

    /// <summary>Takes no more; what was told already is still run.</summary>
    public void Dispose() => _changes.Writer.TryComplete();

    private async Task Run()
    {
        await foreach (var (vip, state, priority, epoch) in _changes.Reader.ReadAllAsync().ConfigureAwait(false))
        {
            try
            {
                using var process = Process.Start(new ProcessStartInfo(vip.Notify!, [vip.Name, state, priority.ToString(CultureInfo.InvariantCulture), epoch]) { UseShellExecute = false });
                if (process is null)
                    continue;
                using var patience = new CancellationTokenSource(Patience);
                try
                {
                    await process.WaitForExitAsync(patience.Token).ConfigureAwait(false);
                    if (process.ExitCode != 0)
                        Log.Failed(logger, vip.Name, vip.Notify!, state, $"it ended with {process.ExitCode}");
                }
                catch (OperationCanceledException)
                {
                    process.Kill(entireProcessTree: true);
                    Log.Failed(logger, vip.Name, vip.Notify!, state, $"it did not end within {Patience.TotalSeconds:0} s and was killed");
                }
            }
            catch (Exception e) when (e is Win32Exception or InvalidOperationException)
            {
                Log.Failed(logger, vip.Name, vip.Notify!, state, e.Message);
            }
        }
    }

    private static partial class Log
    {
        [LoggerMessage(1, LogLevel.Warning, "VIP {Vip}: notify program {Program} for {State}: {Reason}")]
        public static partial void Failed(ILogger logger, string vip, string program, string state, string reason);
    }
}
