using OverlayNet.Kernel;
using OverlayNet.Kernel.Bpf;

namespace OverlayNet.Vip.Balancers.Ebpf;

/// <summary>
/// What daemons left that never came back (a node removed while its daemon was dead, a machine joined anew): programs
/// that every connect on the machine runs through, 64 of which the kernel takes at most. A daemon's pins are orphaned
/// when none of the containers they serve exists any more; should their owner be alive after all, it still holds the
/// objects themselves and pins them again.
/// </summary>
internal static class OrphanedPins
{
    /// <param name="nodes">Those to look at: never the daemon's own.</param>
    /// <param name="changedBefore">Pins changed since may belong to a daemon that is just putting them up.</param>
    /// <returns>The nodes whose pins were removed.</returns>
    internal static List<string> Sweep(IEnumerable<string> nodes, DateTimeOffset changedBefore)
    {
        var swept = new List<string>();
        HashSet<ulong>? alive = null;
        foreach (var node in nodes)
        {
            var directory = $"{EbpfBalancer.PinRoot}/{node}";
            if (BpfFileSystem.LastChange(directory) is not { } changed || changed >= changedBefore)
                continue;
            using var netns = BpfFileSystem.OpenMap($"{directory}/netns");
            if (netns is not null && netns.Keys<ulong>() is { Count: > 0 } served && served.Any((alive ??= LiveCookies()).Contains))
                continue;
            BpfFileSystem.RemoveDirectory(directory);
            swept.Add(node);
        }
        return swept;
    }

    /// <summary>Cookies of all network namespaces that a process, a thread of it or a mount keeps and that can be seen from here.</summary>
    private static HashSet<ulong> LiveCookies()
    {
        var paths = new Dictionary<string, string>();
        foreach (var process in Directory.EnumerateDirectories("/proc").Where(path => int.TryParse(Path.GetFileName(path.AsSpan()), out _)))
        {
            try
            {
                if (new FileInfo($"{process}/ns/net").LinkTarget is { } identity)
                    paths.TryAdd(identity, $"{process}/ns/net");
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException)
            {
                // It ended, or is none of ours to look into.
            }
        }
        // proc_pid_mountinfo(5): root (net:[inode] for a namespace) and mount point are fields four and five.
        foreach (var fields in File.ReadLines("/proc/self/mountinfo").Select(line => line.Split(' ')))
        {
            if (fields.Length > 4 && fields[3].StartsWith("net:[", StringComparison.Ordinal))
                paths.TryAdd(fields[3], fields[4]);
        }
        var cookies = new HashSet<ulong>();
        foreach (var path in paths.Values.Concat(NamedNamespaces.List().Select(NamedNamespaces.PathOf)).Distinct())
        {
            try
            {
                using var netns = NetworkNamespace.Open(path);
                cookies.Add(netns.Cookie());
            }
            catch (KernelException)
            {
                // It ended meanwhile.
            }
        }
        return cookies;
    }
}
