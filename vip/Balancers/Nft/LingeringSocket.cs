using System.Diagnostics;
using OverlayNet.Kernel;
using OverlayNet.Kernel.Netlink;

namespace OverlayNet.Vip.Balancers.Nft;

/// <summary>A namespace's nftables socket, opened for a use and kept open until a moment after the last one (<see cref="BackgroundCloser"/>).</summary>
internal sealed class LingeringSocket(BackgroundCloser closer)
{
    private readonly Lock gate = new();
    private NfTables? open;
    private string? identity;
    private long lastUse;

    /// <summary>Runs one operation on the namespace's nftables.</summary>
    internal T Use<T>(NetworkNamespace netns, Func<NfTables, T> operation)
    {
        lock (gate)
        {
            // The path may stand for another namespace by now. The kernel's number of a namespace is not given again while we hold it.
            var current = netns.Identity;
            if (open is not null && current != identity)
                CloseNow();
            open ??= NfTables.Open(netns);
            identity = current;
            try
            {
                return operation(open);
            }
            catch
            {
                // What is left unread in it is nobody's answer any more.
                CloseNow();
                throw;
            }
            finally
            {
                lastUse = Stopwatch.GetTimestamp();
                if (open is not null)
                    closer.Close(this, lastUse);
            }
        }
    }

    internal void CloseUnlessUsedSince(long use)
    {
        lock (gate)
        {
            if (lastUse == use)
                CloseNow();
        }
    }

    private void CloseNow()
    {
        open?.Dispose();
        open = null;
    }
}
