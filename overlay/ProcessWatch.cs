using System.Globalization;
using OverlayNet.Kernel;

namespace OverlayNet.Overlay;

/// <summary>
/// Hears at once when processes end. An endpoint whose namespace is known as <c>/proc/PID/ns/net</c> ends with that
/// process; the kernel takes its links away only some time later, and not at all while somebody else holds the namespace.
/// </summary>
internal sealed class ProcessWatch : IDisposable
{
    private readonly Action<int> ended;
    private readonly Lock gate = new();
    private readonly Dictionary<int, ProcessHandle> watched = [];
    private readonly PollSet poll = new();
    private readonly Thread thread;
    private HashSet<int> wanted = [];
    private volatile bool disposed;

    /// <param name="ended">Called on the watch's own thread, once for each process.</param>
    public ProcessWatch(Action<int> ended)
    {
        this.ended = ended;
        thread = new Thread(Loop) { IsBackground = true, Name = "process watch" };
        thread.Start();
    }

    /// <summary>The process a namespace's path speaks of.</summary>
    /// <returns>Null: the path is none below /proc.</returns>
    public static int? ProcessOf(string netns) =>
        netns.Split('/', StringSplitOptions.RemoveEmptyEntries) is ["proc", var pid, ..] && int.TryParse(pid, NumberStyles.None, CultureInfo.InvariantCulture, out var number) ? number : null;

    /// <summary>From now on these processes and no others. One that has ended already is reported, too.</summary>
    public void Follow(IEnumerable<int> processes)
    {
        var next = processes.ToHashSet();
        lock (gate)
        {
            if (disposed || next.SetEquals(wanted))
                return;
            wanted = next;
        }
        poll.Wake();
    }

    public void Dispose()
    {
        lock (gate)
        {
            if (disposed)
                return;
            disposed = true;
        }
        poll.Wake();
        if (Thread.CurrentThread != thread)
            thread.Join();
        poll.Dispose();
    }

    // Handles belong to this thread alone.
    private void Loop()
    {
        while (!disposed)
        {
            List<int> gone = [];
            lock (gate)
            {
                foreach (var process in watched.Keys.Except(wanted).ToList())
                    Forget(process);
                foreach (var process in wanted.Except(watched.Keys).ToList())
                {
                    if (ProcessHandle.TryOpen(process) is { } handle)
                        watched[process] = handle;
                    else if (wanted.Remove(process))
                        gone.Add(process);
                }
                foreach (var (process, handle) in watched.Where(pair => pair.Value.HasEnded).ToList())
                {
                    gone.Add(process);
                    wanted.Remove(process);
                    Forget(process);
                }
            }
            foreach (var process in gone)
                ended(process);
            if (gone.Count == 0)
                poll.Wait([.. watched.Values.Select(handle => handle.Fd)], null);
        }
        foreach (var process in watched.Keys.ToList())
            Forget(process);
    }

    private void Forget(int process)
    {
        watched.Remove(process, out var handle);
        handle?.Dispose();
    }
}
