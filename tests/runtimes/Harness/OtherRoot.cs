using OverlayNet.ClusterTests.Harness;

namespace OverlayNet.RuntimeTests.Harness;

/// <summary>The root of another Debian, whose programs run on this machine's kernel, devices and /run.</summary>
public static class OtherRoot
{
    /// <summary>A Debian 13, fetched once.</summary>
    public static string Trixie { get; } =
        Commands.Run(TimeSpan.FromMinutes(10), "bash", Path.Combine(Tree.Root, "tools", "lib", "debian-root"), "trixie").Succeeded().Text;

    /// <summary>A shell's commands that make the root that of the mount namespace they are run in, with what its programs need of this machine.</summary>
    /// <param name="root">The root.</param>
    /// <param name="also">Further directories that are to be seen inside at the same paths.</param>
    /// <remarks>Not chroot: what a runtime starts in a container enters the root of the mount namespace.</remarks>
    public static string Enter(string root, params string[] also) => string.Join(" && ",
        // What is given up is the host's too, and stays there: a slave's end is nobody else's.
        (string[])[$"mount --bind {root} {root}", .. ((string[])["/proc", "/sys", "/dev", "/run", .. also]).Distinct().Select(path => $"mkdir -p {root}{path} && mount --rbind {path} {root}{path}"), $"cd {root} && pivot_root . mnt && mount --make-rslave /mnt && umount -l /mnt"]);
}
