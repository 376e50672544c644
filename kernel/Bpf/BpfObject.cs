using Microsoft.Win32.SafeHandles;

namespace OverlayNet.Kernel.Bpf;

/// <summary>
/// An open handle on a map, a program, a link or type information. The kernel keeps the object while a handle, a pin
/// in the BPF file system or another object that uses it lives.
/// </summary>
public abstract class BpfObject : IDisposable
{
    private readonly SafeFileHandle handle;

    private protected BpfObject(int fd, string name)
    {
        handle = new SafeFileHandle(fd, ownsHandle: true);
        Name = name;
    }

    /// <summary>For errors: the name it was made with, or the path it was opened from.</summary>
    public string Name { get; }

    /// <summary>Valid until disposed.</summary>
    public int Fd => (int)handle.DangerousGetHandle();

    /// <summary>Closes the handle; a pinned or used object lives on.</summary>
    public void Dispose()
    {
        Dispose(true);
        GC.SuppressFinalize(this);
    }

    protected virtual void Dispose(bool disposing) => handle.Dispose();

    private protected static unsafe T Info<T>(int fd, string name) where T : unmanaged
    {
        T info = default;
        var request = new BpfSystemCall.ObjectInfo { Fd = (uint)fd, Length = (uint)sizeof(T), Info = (ulong)&info };
        BpfSystemCall.Call(BpfSystemCall.Command.ObjectInfo, ref request, $"look at BPF object {name}");
        return info;
    }
}
