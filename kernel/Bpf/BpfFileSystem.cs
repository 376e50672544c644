using System.Runtime.InteropServices;
using System.Text;

namespace OverlayNet.Kernel.Bpf;

/// <summary>
/// Pins in the BPF file system keep objects over the end of the process. All paths are those of pid 1's mount
/// namespace: a pin in a private one would vanish with it.
/// </summary>
public static unsafe class BpfFileSystem
{
    public const string Root = "/sys/fs/bpf";
    private const long Magic = 0xcafe4a11; // BPF_FS_MAGIC, linux/magic.h

    /// <summary>Mounts the file system at <see cref="Root"/> where nothing did yet.</summary>
    /// <exception cref="KernelException">The kernel refused.</exception>
    public static void EnsureMounted() => NamedNamespaces.InHostMounts(Mount);

    /// <summary>Makes a directory below <see cref="Root"/>, with its parents; mounts the file system if need be.</summary>
    public static void CreateDirectory(string path) => NamedNamespaces.InHostMounts(() =>
    {
        Mount();
        Directory.CreateDirectory(path, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);
    });

    /// <summary>Pins an object; a pin of that name is replaced in one step.</summary>
    /// <exception cref="KernelException">No such directory, or it is not in a BPF file system.</exception>
    public static void Pin(BpfObject target, string path) => NamedNamespaces.InHostMounts(() =>
    {
        var fresh = path + "_new"; // the file system keeps '.' for itself
        File.Delete(fresh);
        Call(BpfSystemCall.Command.ObjectPin, fresh, (uint)target.Fd, $"pin BPF object {target.Name} at {path}");
        if (Libc.Rename(fresh, path) != 0)
            throw Libc.Failure($"pin BPF object {target.Name} at {path}");
    });

    /// <summary>Opens a pinned map; null when nothing is pinned there.</summary>
    /// <exception cref="KernelException">Any other refusal.</exception>
    public static BpfMap? OpenMap(string path) => Open(path) is { } fd ? BpfMap.Adopt(fd, path) : null;

    /// <summary>Opens a pinned program; null when nothing is pinned there.</summary>
    /// <exception cref="KernelException">Any other refusal.</exception>
    public static BpfProgram? OpenProgram(string path) => Open(path) is { } fd ? new BpfProgram(fd, path) : null;

    /// <summary>Opens a pinned link; null when nothing is pinned there.</summary>
    /// <exception cref="KernelException">Any other refusal.</exception>
    public static BpfLink? OpenLink(string path) => Open(path) is { } fd ? new BpfLink(fd, path) : null;

    /// <summary>Removes one pin; one that is not there is fine.</summary>
    public static void Unpin(string path) => NamedNamespaces.InHostMounts(() => File.Delete(path));

    /// <summary>Removes a directory and every pin below; one that is not there is fine.</summary>
    public static void RemoveDirectory(string path) => NamedNamespaces.InHostMounts(() =>
    {
        if (Directory.Exists(path))
            Directory.Delete(path, recursive: true);
    });

    /// <summary>Names in a directory; empty when there is no such directory.</summary>
    public static IReadOnlyList<string> List(string path)
    {
        IReadOnlyList<string> names = [];
        NamedNamespaces.InHostMounts(() => names = Directory.Exists(path)
            ? [.. Directory.EnumerateFileSystemEntries(path).Select(entry => Path.GetFileName(entry))]
            : []);
        return names;
    }

    /// <summary>When a pin was last made in a directory or removed from it; null when there is no such directory.</summary>
    public static DateTimeOffset? LastChange(string path)
    {
        DateTimeOffset? changed = null;
        NamedNamespaces.InHostMounts(() => changed = Directory.Exists(path) ? Directory.GetLastWriteTimeUtc(path) : null);
        return changed;
    }

    private static void Mount()
    {
        if (Libc.FileSystemType(Root) == Magic)
            return;
        if (Libc.Mount("bpf", Root, "bpf", 0, null) != 0)
            throw Libc.Failure($"mount the BPF file system at {Root}");
    }

    private static int? Open(string path)
    {
        int? fd = null;
        NamedNamespaces.InHostMounts(() =>
        {
            try
            {
                fd = Call(BpfSystemCall.Command.ObjectGet, path, 0, $"open BPF pin {path}");
            }
            catch (KernelException e) when (e.Errno == Libc.ENOENT)
            {
                fd = null;
            }
        });
        return fd;
    }

    private static int Call(BpfSystemCall.Command command, string path, uint fd, string what)
    {
        fixed (byte* text = Encoding.UTF8.GetBytes(path + '\0'))
        {
            var request = new BpfSystemCall.ObjectPath { Path = (ulong)text, Fd = fd };
            return BpfSystemCall.Call(command, ref request, what);
        }
    }
}
