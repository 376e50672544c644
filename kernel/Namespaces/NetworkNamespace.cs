using System.Runtime.ExceptionServices;
using Microsoft.Win32.SafeHandles;

namespace OverlayNet.Kernel;

/// <summary>
/// An open network namespace. Keep it only as long as an operation takes: an open handle, like a socket made
/// inside, keeps a namespace alive after its owner deleted it.
/// </summary>
public sealed unsafe class NetworkNamespace : IDisposable
{
    private const nuint NsGetNsType = 0xb703; // NS_GET_NSTYPE, linux/nsfs.h

    // True on threads made by RunOnThread: they may change namespaces, as they never serve anybody else.
    [ThreadStatic]
    private static bool movable;
    private readonly SafeFileHandle handle;

    private NetworkNamespace(SafeFileHandle handle, string path)
    {
        this.handle = handle;
        Path = path;
    }

    /// <summary>The path it was opened by.</summary>
    public string Path { get; }

    /// <summary>For netlink attributes such as IFLA_NET_NS_FD and for setns(2); valid until disposed.</summary>
    public int Fd => (int)handle.DangerousGetHandle();

    /// <summary>Opens the namespace a path stands for.</summary>
    /// <exception cref="KernelException">The path does not exist, or is not a network namespace (EINVAL).</exception>
    public static NetworkNamespace Open(string path)
    {
        var fd = Libc.Open(path, Libc.O_RDONLY | Libc.O_CLOEXEC, 0);
        if (fd < 0)
            throw Libc.Failure($"network namespace {path}");
        var handle = new SafeFileHandle(fd, ownsHandle: true);
        // A named namespace that was never mounted over is an empty file, and any file opens: ask nsfs what it is.
        if (Libc.Ioctl(fd, NsGetNsType, 0) != Libc.CLONE_NEWNET)
        {
            handle.Dispose();
            throw new KernelException($"network namespace {path}", Libc.EINVAL, "the path is not a network namespace");
        }
        return new NetworkNamespace(handle, path);
    }

    /// <summary>The namespace of the calling thread.</summary>
    public static NetworkNamespace OpenCurrent() => Open($"/proc/self/task/{Libc.GetTid()}/ns/net");

    /// <summary>The namespace the process started in (its main thread never moves).</summary>
    public static NetworkNamespace OpenHost() => Open("/proc/self/ns/net");

    /// <summary>
    /// Runs a function inside this namespace: on a thread of its own that ends with it, or right here when this thread
    /// was made for such work already (<see cref="RunOnThread"/>), which then goes back to where it was.
    /// </summary>
    /// <exception cref="KernelException">setns failed. What <paramref name="function"/> throws comes through as it is.</exception>
    public T Run<T>(Func<T> function)
    {
        if (movable)
        {
            using var before = OpenCurrent();
            Enter();
            try
            {
                return function();
            }
            finally
            {
                before.Enter();
            }
        }
        T result = default!;
        RunOnThread(() =>
        {
            Enter();
            result = function();
        });
        return result;
    }

    /// <inheritdoc cref="Run{T}(Func{T})"/>
    public void Run(Action action) => Run(() =>
    {
        action();
        return 0;
    });

    /// <summary>Runs an action in a fresh namespace that nothing pins: the kernel frees it, with all links, when the action ends.</summary>
    /// <exception cref="KernelException">No namespace could be made.</exception>
    public static void RunInNew(Action action) => RunOnThread(() =>
    {
        if (Libc.Unshare(Libc.CLONE_NEWNET) != 0)
            throw Libc.Failure("new network namespace");
        action();
    });

    /// <summary>What tells this namespace from every other that lives now: its inode, the same by every path to it.</summary>
    /// <exception cref="InvalidDataException">The kernel is older than 5.14 and does not say.</exception>
    public string Identity => File.ReadLines($"/proc/self/fdinfo/{Fd}").FirstOrDefault(line => line.StartsWith("ino:", StringComparison.Ordinal)) is { } line
        ? line[4..].Trim()
        : throw new InvalidDataException("/proc/self/fdinfo names no inode; Linux 5.14 or newer is needed");

    /// <summary>Changes whenever a path comes to lead to another namespace, also where the inode number is used again; read without opening it.</summary>
    /// <exception cref="KernelException">There is no such path.</exception>
    public static (ulong Inode, long ChangedNs) Status(string path) => Libc.Status(path);

    /// <summary>
    /// The kernel's 64-bit name of this namespace (SO_NETNS_COOKIE, Linux 5.14): unique until reboot, also seen by BPF programs.
    /// </summary>
    public ulong Cookie() => Run(() =>
    {
        var fd = Libc.Socket(Libc.AF_INET, Libc.SOCK_DGRAM | Libc.SOCK_CLOEXEC, 0);
        if (fd < 0)
            throw Libc.Failure($"socket in {Path}");
        try
        {
            ulong cookie;
            uint length = sizeof(ulong);
            if (Libc.GetSockOpt(fd, Libc.SOL_SOCKET, Libc.SO_NETNS_COOKIE, &cookie, &length) != 0)
                throw Libc.Failure($"cookie of network namespace {Path}");
            return cookie;
        }
        finally
        {
            Libc.Close(fd);
        }
    });

    /// <summary>Writes a sysctl inside this namespace, skipping the write when the value is there already.</summary>
    /// <param name="name">Below /proc/sys, with slashes: <c>net/ipv4/ip_forward</c>.</param>
    /// <exception cref="IOException">The sysctl does not exist or may not be written.</exception>
    public void SetSysctl(string name, string value) => Run(() => Sysctl.Write(name, value));

    public void Dispose() => handle.Dispose();

    /// <summary>
    /// Runs an action on a fresh thread whose namespaces may be changed freely: it never returns to a pool. A pass of
    /// many operations in several namespaces is cheaper inside one such thread than with one for each.
    /// </summary>
    public static void RunOnThread(Action action)
    {
        ExceptionDispatchInfo? failure = null;
        var thread = new Thread(() =>
        {
            try
            {
                movable = true;
                action();
            }
            catch (Exception e)
            {
                failure = ExceptionDispatchInfo.Capture(e);
            }
        }, 256 * 1024)
        { IsBackground = true, Name = "netns" };
        thread.Start();
        thread.Join();
        failure?.Throw();
    }

    private void Enter()
    {
        if (Libc.SetNs(Fd, Libc.CLONE_NEWNET) != 0)
            throw Libc.Failure($"enter network namespace {Path}");
    }
}
