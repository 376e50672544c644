using OverlayNet.Kernel;

namespace OverlayNet.Vip.Balancers.Ebpf;

/// <summary>
/// The kernel's numbers of the containers' network namespaces, by path. Asking takes entering the namespace, so an
/// answer is kept as long as the path leads to the same inode, made at the same time. No descriptor is held.
/// </summary>
internal sealed class ContainerCookies
{
    private readonly Dictionary<string, ((ulong Inode, long ChangedNs) Status, ulong Cookie, int Pass)> known = [];
    private int pass;

    /// <summary>Forgets the paths not asked for since the last call.</summary>
    internal void Sweep()
    {
        foreach (var path in known.Where(entry => entry.Value.Pass != pass).Select(entry => entry.Key).ToArray())
            known.Remove(path);
        pass++;
    }

    /// <exception cref="KernelException">There is no such namespace.</exception>
    internal ulong Get(string path)
    {
        var status = NetworkNamespace.Status(path);
        if (!known.TryGetValue(path, out var entry) || entry.Status != status)
        {
            using var netns = NetworkNamespace.Open(path);
            entry = (status, netns.Cookie(), pass);
        }
        known[path] = entry with { Pass = pass };
        return entry.Cookie;
    }
}
