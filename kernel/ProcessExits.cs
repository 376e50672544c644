using System.Runtime.InteropServices;

namespace OverlayNet.Kernel;

/// <summary>
/// Tells when processes end, whoever's children they are (pidfd_open(2), Linux 5.3, on one epoll). Watch and Forget from any
/// thread; Wait from one.
/// </summary>
public sealed unsafe partial class ProcessExits : IDisposable
{
    private const int PidfdOpen = 434; // the same on every architecture
    private const int CtlAdd = 1, CloseOnExec = 0x80000, Readable = 1, Batch = 64;

    // struct epoll_event is packed on x86-64 only (linux/eventpoll.h).
    private static readonly int EventSize = RuntimeInformation.ProcessArchitecture == Architecture.X64 ? 12 : 16, DataAt = EventSize - 8;
    private readonly Lock gate = new();
    private readonly Dictionary<int, int> descriptors = [];
    private readonly int epoll, wake;

    /// <exception cref="KernelException">No descriptor left.</exception>
    public ProcessExits()
    {
        epoll = EpollCreate(CloseOnExec);
        if (epoll < 0)
            throw Libc.Failure("epoll");
        wake = Libc.EventFd(0, Libc.EFD_CLOEXEC | Libc.EFD_NONBLOCK);
        if (wake < 0 || !Add(wake, 0))
            throw Libc.Failure("eventfd");
    }

    /// <summary>Processes that are watched.</summary>
    public int Count
    {
        get
        {
            lock (gate)
                return descriptors.Count;
        }
    }

    /// <returns>False: it has ended already, or cannot be watched.</returns>
    public bool Watch(int processId)
    {
        lock (gate)
        {
            if (descriptors.ContainsKey(processId))
                return true;
            var descriptor = (int)SystemCall(PidfdOpen, processId, 0);
            if (descriptor < 0)
                return false;
            if (!Add(descriptor, processId))
            {
                _ = Libc.Close(descriptor);
                return false;
            }
            descriptors[processId] = descriptor;
            return true;
        }
    }

    public void Forget(int processId)
    {
        lock (gate)
        {
            // Closing takes it off the epoll: nobody else has this open file.
            if (descriptors.Remove(processId, out var descriptor))
                _ = Libc.Close(descriptor);
        }
    }

    /// <summary>Ends the current or next <see cref="Wait"/>.</summary>
    public void Wake()
    {
        ulong one = 1;
        _ = Libc.Write(wake, &one, sizeof(ulong));
    }

    /// <summary>Waits for ends, each told once; none when woken.</summary>
    public IReadOnlyList<int> Wait()
    {
        var events = stackalloc byte[Batch * EventSize];
        var count = EpollWait(epoll, events, Batch, -1);
        var ended = new List<int>();
        for (var i = 0; i < count; i++)
        {
            var processId = *(int*)(events + i * EventSize + DataAt);
            if (processId == 0)
            {
                ulong drained;
                _ = Libc.ReadFd(wake, &drained, sizeof(ulong));
                continue;
            }
            Forget(processId);
            ended.Add(processId);
        }
        return ended;
    }

    public void Dispose()
    {
        lock (gate)
        {
            foreach (var descriptor in descriptors.Values)
                _ = Libc.Close(descriptor);
            descriptors.Clear();
        }
        _ = Libc.Close(wake);
        _ = Libc.Close(epoll);
    }

    private bool Add(int descriptor, int processId)
    {
        var what = stackalloc byte[EventSize];
        *(uint*)what = Readable;
        *(long*)(what + DataAt) = processId;
        return EpollCtl(epoll, CtlAdd, descriptor, what) == 0;
    }

    [LibraryImport("libc", EntryPoint = "epoll_create1", SetLastError = true)]
    private static partial int EpollCreate(int flags);

    [LibraryImport("libc", EntryPoint = "epoll_ctl", SetLastError = true)]
    private static partial int EpollCtl(int epoll, int operation, int descriptor, byte* what);

    [LibraryImport("libc", EntryPoint = "epoll_wait", SetLastError = true)]
    private static partial int EpollWait(int epoll, byte* events, int count, int timeoutMs);

    [LibraryImport("libc", EntryPoint = "syscall", SetLastError = true)]
    private static partial nint SystemCall(nint number, nint first, nint second);
}
