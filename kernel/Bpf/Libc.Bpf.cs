using System.Runtime.InteropServices;

namespace OverlayNet.Kernel;

/// <summary>What BPF objects need of the C library: shared memory, atomic renames, and what a path stands for.</summary>
internal static unsafe partial class Libc
{
    internal const int ENOSPC = 28, ESTALE = 116;
    internal const int PROT_READ = 1, PROT_WRITE = 2, MAP_SHARED = 1;
    internal const nint MAP_FAILED = -1;
    private const int AtCurrentDirectory = -100;
    private const uint StatxInode = 0x100, StatxChangeTime = 0x80;

    [LibraryImport(Library, EntryPoint = "mmap", SetLastError = true)]
    internal static partial void* MapMemory(void* address, nuint length, int protection, int flags, int fd, nint offset);

    [LibraryImport(Library, EntryPoint = "munmap", SetLastError = true)]
    internal static partial int UnmapMemory(void* address, nuint length);

    [LibraryImport(Library, EntryPoint = "rename", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    internal static partial int Rename(string from, string to);

    /// <summary>f_type of statfs(2) for the file system a path is on; 0 when there is no such path.</summary>
    internal static long FileSystemType(string path)
    {
        var status = stackalloc long[32]; // struct statfs has 120 octets and begins with f_type on 64-bit machines
        return StatFileSystem(path, status) == 0 ? status[0] : 0;
    }

    /// <summary>Inode number and time of the last change of its inode (ns since 1970) of what a path leads to.</summary>
    /// <exception cref="KernelException">There is no such path.</exception>
    internal static (ulong Inode, long ChangedNs) Status(string path)
    {
        // struct statx (linux/stat.h): stx_ino at 32, stx_ctime at 96 (seconds, then ns at 104).
        var status = stackalloc byte[256];
        return StatX(AtCurrentDirectory, path, 0, StatxInode | StatxChangeTime, status) == 0
            ? (*(ulong*)(status + 32), *(long*)(status + 96) * 1_000_000_000 + *(uint*)(status + 104))
            : throw Failure(path);
    }

    [LibraryImport(Library, EntryPoint = "statfs", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static partial int StatFileSystem(string path, long* status);

    [LibraryImport(Library, EntryPoint = "statx", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static partial int StatX(int directory, string path, int flags, uint mask, byte* status);
}
