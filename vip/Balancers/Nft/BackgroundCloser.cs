using System.Collections.Concurrent;
using System.Diagnostics;

namespace OverlayNet.Vip.Balancers.Nft;

/// <summary>
/// Has sockets closed a moment after their last use. The kernel makes the closer of any netfilter socket wait, with the rule set locked, until
/// what the last transaction deleted has been freed: an RCU grace period, 10 ms and more, in which the next change would wait too. A moment
/// later there is nothing to wait for. The namespace stays referenced for that moment.
/// </summary>
internal sealed class BackgroundCloser : IDisposable
{
    private static readonly TimeSpan Moment = TimeSpan.FromMilliseconds(30);
    private readonly BlockingCollection<(LingeringSocket Socket, long LastUse)> queue = [];
    private Thread? thread;

    /// <summary>Closes a socket unless it is used again within the moment.</summary>
    internal void Close(LingeringSocket socket, long lastUse)
    {
        if (thread is null)
        {
            thread = new Thread(Run) { IsBackground = true, Name = "nft-close" };
            thread.Start();
        }
        queue.Add((socket, lastUse));
    }

    /// <summary>Waits until all are closed.</summary>
    public void Dispose()
    {
        queue.CompleteAdding();
        thread?.Join();
        queue.Dispose();
    }

    private void Run()
    {
        foreach (var (socket, lastUse) in queue.GetConsumingEnumerable())
        {
            var left = Moment - Stopwatch.GetElapsedTime(lastUse);
            if (left > TimeSpan.Zero)
                Thread.Sleep(left);
            socket.CloseUnlessUsedSince(lastUse);
        }
    }
}
