namespace OverlayNet.Kernel;

/// <summary>A system call that failed: which object, and what the kernel said.</summary>
public class KernelException(string what, int errno, string? detail = null)
    : IOException($"{what}: {(detail is null ? Libc.Describe(errno) : $"{detail} ({Libc.Describe(errno)})")}")
{
    /// <summary>The object and the operation, as a person would name them.</summary>
    public string What { get; } = what;

    /// <summary>The kernel's error number, positive (errno.h).</summary>
    public int Errno { get; } = errno;

    /// <summary>The kernel's longer text (netlink extended ack), when it gave one.</summary>
    public string? Detail { get; } = detail;
}
