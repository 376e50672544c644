using System.Runtime.InteropServices;

namespace OverlayNet.Kernel;

/// <summary>One process and no other, whatever becomes of its number (pidfd_open(2), Linux 5.3). Readable once it has ended.</summary>
public sealed unsafe partial class ProcessHandle : IDisposable
{
    private const int PidfdOpen = 434; // the same on every architecture
    private int fd;

    private ProcessHandle(int fd) => this.fd = fd;

    /// <summary>For <see cref="PollSet.Wait"/>; valid until disposed.</summary>
    public int Fd => fd;

    /// <returns>Null: no such process, or the number is a thread's.</returns>
    public static ProcessHandle? TryOpen(int processId)
    {
        var fd = (int)SystemCall(PidfdOpen, processId, 0);
        return fd >= 0 ? new ProcessHandle(fd) : null;
    }

    /// <summary>Whether it has ended, its namespaces with it; a zombie counts as ended.</summary>
    public bool HasEnded
    {
        get
        {
            var poll = new Libc.PollFd { Fd = fd, Events = Libc.POLLIN };
            var now = default(Libc.TimeSpec);
            return Libc.PPoll(&poll, 1, &now, null) > 0;
        }
    }

    public void Dispose()
    {
        if (fd >= 0)
            _ = Libc.Close(fd);
        fd = -1;
    }

    [LibraryImport("libc", EntryPoint = "syscall", SetLastError = true)]
    private static partial nint SystemCall(nint number, nint first, nint second);
}
