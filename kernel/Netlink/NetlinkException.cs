namespace OverlayNet.Kernel.Netlink;

/// <summary>The kernel refused a netlink request: the object, the error number, and the kernel's extended ack text when it sent one.</summary>
public sealed class NetlinkException(string what, int errno, string? detail = null) : KernelException(what, errno, detail)
{
    /// <summary>EEXIST: the object is there already.</summary>
    public bool AlreadyExists => Errno == Libc.EEXIST;

    /// <summary>ENOENT, ESRCH, ENODEV or EADDRNOTAVAIL: there is no such object.</summary>
    public bool NotFound => Errno is Libc.ENOENT or Libc.ESRCH or Libc.ENODEV or Libc.EADDRNOTAVAIL;

    /// <summary>EOPNOTSUPP: this kernel does not have the feature.</summary>
    public bool NotSupported => Errno == Libc.EOPNOTSUPP;
}

/// <summary>The kernel dropped multicast messages because this socket was read too slowly (ENOBUFS): the reader must look at everything again.</summary>
public sealed class NetlinkOverrunException() : IOException("netlink messages were lost (ENOBUFS); a full resync is needed");

/// <summary>An answer of one request in a batch.</summary>
/// <param name="Errno">0 for success, else a positive error number.</param>
/// <param name="Detail">The kernel's extended ack text.</param>
public readonly record struct NetlinkResult(int Errno, string? Detail)
{
    public bool Ok => Errno == 0;
}
