namespace OverlayNet.Kernel;

/// <summary>
/// Named network namespaces as iproute2 keeps them: a bind mount of nsfs on a file in <c>/run/netns</c>.
/// The mounts are made in the mount namespace of pid 1: a pin made in a private one (a service's sandbox,
/// <c>ip netns exec</c>) would vanish with it and take the containers' links along.
/// </summary>
public static unsafe class NamedNamespaces
{
    public const string Directory = "/run/netns";

    // A process does not change its mount namespace; only threads made for that do, and they do not come here.
    private static readonly Lazy<bool> MountsAreTheHosts = new(() =>
    {
        try
        {
            return new FileInfo("/proc/1/ns/mnt").LinkTarget is { } host && host == new FileInfo("/proc/self/ns/mnt").LinkTarget;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return false;
        }
    });

    public static string PathOf(string name) => $"{Directory}/{name}";

    /// <summary>Names in use, mounted or stale.</summary>
    public static IReadOnlyList<string> List()
    {
        IReadOnlyList<string> names = [];
        InHostMounts(() => names = System.IO.Directory.Exists(Directory)
            ? [.. System.IO.Directory.EnumerateFiles(Directory).Select(path => System.IO.Path.GetFileName(path))]
            : []);
        return names;
    }

    /// <summary>True when the name stands for a live network namespace.</summary>
    public static bool Exists(string name)
    {
        try
        {
            OpenPinned(name).Dispose();
            return true;
        }
        catch (KernelException)
        {
            return false;
        }
    }

    /// <summary>Opens a named namespace as pid 1 sees it.</summary>
    /// <exception cref="KernelException">No such name, or a stale file that nothing is mounted on.</exception>
    public static NetworkNamespace OpenPinned(string name)
    {
        NetworkNamespace? opened = null;
        InHostMounts(() => opened = NetworkNamespace.Open(PathOf(name)));
        return opened!;
    }

    /// <summary>Makes a network namespace and pins it under a name. A stale file of that name is replaced.</summary>
    /// <exception cref="KernelException">EEXIST when a live namespace has the name; or what unshare or mount said.</exception>
    public static void Create(string name)
    {
        if (Exists(name))
            throw new KernelException($"network namespace {name}", Libc.EEXIST);
        // A thread of its own in any case: it ends up in the new namespace.
        OnThreadInHostMounts(() =>
        {
            if (Libc.Unshare(Libc.CLONE_NEWNET) != 0)
                throw Libc.Failure($"new network namespace {name}");
            Mount($"/proc/self/task/{Libc.GetTid()}/ns/net", name);
        });
    }

    /// <summary>Gives an open namespace a name, as after somebody removed the name of one that is still in use.</summary>
    /// <exception cref="KernelException">EEXIST when a live namespace has the name; or what mount said.</exception>
    public static void Pin(string name, NetworkNamespace netns)
    {
        if (Exists(name))
            throw new KernelException($"network namespace {name}", Libc.EEXIST);
        InHostMounts(() => Mount($"/proc/self/fd/{netns.Fd}", name));
    }

    private static void Mount(string source, string name)
    {
        System.IO.Directory.CreateDirectory(Directory);
        ShareMounts();
        var path = PathOf(name);
        File.Delete(path);
        var fd = Libc.Open(path, Libc.O_RDONLY | Libc.O_CREAT | Libc.O_EXCL | Libc.O_CLOEXEC, 0);
        if (fd < 0)
            throw Libc.Failure($"create {path}");
        Libc.Close(fd);
        if (Libc.Mount(source, path, null, Libc.MS_BIND, null) == 0)
            return;
        var failure = Libc.Failure($"pin network namespace {name}");
        File.Delete(path);
        throw failure;
    }

    /// <summary>Unpins a namespace and removes its name; the kernel frees it when nothing else holds it. A name that is not there is fine.</summary>
    public static void Delete(string name) => InHostMounts(() =>
    {
        var path = PathOf(name);
        if (!File.Exists(path))
            return;
        while (Libc.Umount(path, Libc.MNT_DETACH) == 0)
        {
        }
        File.Delete(path);
    });

    /// <summary>
    /// As iproute2 does at its first use: the directory becomes a shared mount of its own, so that a later
    /// unmount reaches every mount namespace that copied it, and a deleted namespace really goes away.
    /// </summary>
    private static void ShareMounts()
    {
        if (Libc.Mount("", Directory, "none", Libc.MS_SHARED | Libc.MS_REC, null) == 0)
            return;
        if (Libc.Mount(Directory, Directory, "none", Libc.MS_BIND | Libc.MS_REC, null) != 0
            || Libc.Mount("", Directory, "none", Libc.MS_SHARED | Libc.MS_REC, null) != 0)
            throw Libc.Failure($"make {Directory} a shared mount");
    }

    /// <summary>Runs an action in pid 1's mount namespace: right here when that is the process's own, else on a thread of its own.</summary>
    internal static void InHostMounts(Action action)
    {
        if (MountsAreTheHosts.Value)
            action();
        else
            OnThreadInHostMounts(action);
    }

    private static void OnThreadInHostMounts(Action action) => NetworkNamespace.RunOnThread(() =>
    {
        // Our own mount namespace may be a private one; pid 1's is the host's (or the container's, where that is our world).
        var fd = Libc.Open("/proc/1/ns/mnt", Libc.O_RDONLY | Libc.O_CLOEXEC, 0);
        if (fd >= 0)
        {
            // setns to a mount namespace needs a file system context that no other thread shares.
            if (Libc.Unshare(Libc.CLONE_FS) != 0 || Libc.SetNs(fd, Libc.CLONE_NEWNS) != 0)
            {
                var failure = Libc.Failure("enter the mount namespace of pid 1");
                Libc.Close(fd);
                throw failure;
            }
            Libc.Close(fd);
        }
        action();
    });
}
