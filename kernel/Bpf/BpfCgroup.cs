namespace OverlayNet.Kernel.Bpf;

/// <summary>The cgroup2 hierarchy, as far as programs attach to it.</summary>
public static class BpfCgroup
{
    private const ulong RootInode = 1; // kernfs numbers a hierarchy's root 1 (fs/kernfs/dir.c)

    /// <summary>Where cgroup2 is mounted in this mount namespace; the mount that shows most of the hierarchy first. Null: nowhere.</summary>
    public static string? FindMount() => FindMount(File.ReadLines("/proc/self/mountinfo"));

    /// <summary>
    /// True when the directory is the root of the whole hierarchy, so that a program there sees the sockets of every
    /// process. In a private cgroup namespace a fresh mount shows a sub-tree only.
    /// </summary>
    /// <exception cref="KernelException">No such directory.</exception>
    public static bool IsRoot(string path) => Id(path) == RootInode;

    /// <summary>The kernel's number of a cgroup, as in <see cref="BpfLinkInfo.CgroupId"/>.</summary>
    /// <exception cref="KernelException">No such directory.</exception>
    public static ulong Id(string path) => Libc.Status(path).Inode;

    /// <summary>Numbers of the programs attached at a cgroup itself, in the order they run.</summary>
    /// <exception cref="KernelException">The kernel refused.</exception>
    public static unsafe uint[] Query(string cgroupPath, BpfAttachType type)
    {
        var cgroup = Libc.Open(cgroupPath, Libc.O_RDONLY | Libc.O_CLOEXEC, 0);
        if (cgroup < 0)
            throw Libc.Failure($"cgroup {cgroupPath}");
        try
        {
            var ids = new uint[64]; // BPF_CGROUP_MAX_PROGS
            fixed (uint* buffer = ids)
            {
                var request = new BpfSystemCall.ProgramQuery { Target = (uint)cgroup, AttachType = type, ProgramIds = (ulong)buffer, ProgramCount = (uint)ids.Length };
                BpfSystemCall.Call(BpfSystemCall.Command.ProgramQuery, ref request, $"programs of cgroup {cgroupPath} ({type})");
                return ids[..(int)request.ProgramCount];
            }
        }
        finally
        {
            Libc.Close(cgroup);
        }
    }

    internal static string? FindMount(IEnumerable<string> mountInfo)
    {
        // proc_pid_mountinfo(5): id, parent, device, root, mount point, options, optional fields, "-", type, source, ...
        string? best = null, bestRoot = null;
        foreach (var line in mountInfo)
        {
            var fields = line.Split(' ');
            var dash = Array.IndexOf(fields, "-");
            if (dash < 5 || dash + 1 >= fields.Length || fields[dash + 1] != "cgroup2")
                continue;
            if (bestRoot is null || fields[3].Length < bestRoot.Length)
                (best, bestRoot) = (Unescape(fields[4]), fields[3]);
        }
        return best;
    }

    private static string Unescape(string path) => path.Replace("\\040", " ").Replace("\\011", "\t").Replace("\\012", "\n").Replace("\\134", "\\");
}
