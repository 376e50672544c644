using System.Net;
using System.Runtime.InteropServices;

namespace OverlayNet.Kernel;

/// <summary>
/// Sockets that other processes hold: finds one by its inode, and connects it anew in its owner's stead. The owner
/// notices nothing but that its datagrams go elsewhere. Needs Linux 5.6, CAP_SYS_PTRACE and a /proc that shows the owner.
/// </summary>
public static unsafe partial class ForeignSockets
{
    private const int PidfdOpen = 434, PidfdGetFd = 438; // the same on every architecture
    private const string LinkStart = "socket:[";

    /// <summary>A descriptor of some process.</summary>
    public readonly record struct Holder(int ProcessId, int Descriptor);

    /// <summary>A holder of each socket, looked for in all processes that can be seen; those nobody visible holds are missing.</summary>
    /// <param name="inodes">As the socket diagnosis gives them.</param>
    public static Dictionary<uint, Holder> Find(IReadOnlySet<uint> inodes)
    {
        var holders = new Dictionary<uint, Holder>();
        foreach (var process in Directory.EnumerateDirectories("/proc"))
        {
            if (holders.Count == inodes.Count)
                break;
            if (!int.TryParse(Path.GetFileName(process.AsSpan()), out var pid))
                continue;
            foreach (var (inode, descriptor) in SocketsOf(pid))
            {
                if (inodes.Contains(inode))
                    holders.TryAdd(inode, new Holder(pid, descriptor));
            }
        }
        return holders;
    }

    /// <summary>Inodes and descriptors of the sockets that a process holds; fewer, or none, when it ends meanwhile or cannot be seen.</summary>
    public static List<(uint Inode, int Descriptor)> SocketsOf(int processId)
    {
        var sockets = new List<(uint, int)>();
        try
        {
            foreach (var descriptor in Directory.EnumerateFiles($"/proc/{processId}/fd"))
            {
                if (new FileInfo(descriptor).LinkTarget is { } target && target.StartsWith(LinkStart, StringComparison.Ordinal)
                    && uint.TryParse(target.AsSpan(LinkStart.Length, target.Length - LinkStart.Length - 1), out var inode))
                    sockets.Add((inode, int.Parse(Path.GetFileName(descriptor.AsSpan()))));
            }
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // It ended meanwhile, or is none of ours to look into.
        }
        return sockets;
    }

    /// <summary>Calls connect(2) on a descriptor of another process, after checking that it is still that socket.</summary>
    /// <exception cref="KernelException">What connect said; ESRCH or EBADF when the holder has closed it.</exception>
    public static void Connect(Holder holder, uint inode, IPEndPoint target)
    {
        var what = $"connect socket {inode} of process {holder.ProcessId} to {target}";
        var process = (int)SystemCall(PidfdOpen, holder.ProcessId, 0, 0);
        if (process < 0)
            throw Libc.Failure(what);
        try
        {
            var socket = (int)SystemCall(PidfdGetFd, process, holder.Descriptor, 0);
            if (socket < 0)
                throw Libc.Failure(what);
            try
            {
                if (new FileInfo($"/proc/self/fd/{socket}").LinkTarget != $"{LinkStart}{inode}]")
                    throw new KernelException(what, Libc.ESRCH, "the descriptor stands for something else by now");
                fixed (byte* address = target.Serialize().Buffer.Span)
                {
                    if (ConnectSocket(socket, address, (uint)target.Serialize().Size) != 0)
                        throw Libc.Failure(what);
                }
            }
            finally
            {
                Libc.Close(socket);
            }
        }
        finally
        {
            Libc.Close(process);
        }
    }

    [LibraryImport("libc", EntryPoint = "syscall", SetLastError = true)]
    private static partial nint SystemCall(nint number, nint first, nint second, nint third);

    [LibraryImport("libc", EntryPoint = "connect", SetLastError = true)]
    private static partial int ConnectSocket(int fd, byte* address, uint length);
}
