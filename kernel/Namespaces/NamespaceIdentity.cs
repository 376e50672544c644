using System.Globalization;

namespace OverlayNet.Kernel;

/// <summary>
/// Tells whether a path still leads to the namespace it once led to. A path below /proc leads to another one as soon as
/// the process number is used again; a name below /run/netns belongs to whoever gives it.
/// </summary>
public static class NamespaceIdentity
{
    // Cookies count from boot: without the boot's id one of the next boot could be taken for one of this.
    private static readonly Lazy<string> Boot = new(() => File.ReadAllText("/proc/sys/kernel/random/boot_id").Trim());

    /// <summary>Whether a path needs its identity kept.</summary>
    public static bool IsNeeded(string path) => path.StartsWith("/proc/", StringComparison.Ordinal);

    /// <summary>The boot's id and the namespace's cookie; equal for no two namespaces that ever were on this host.</summary>
    /// <exception cref="KernelException">The namespace cannot be entered.</exception>
    public static string Of(NetworkNamespace netns) => string.Create(CultureInfo.InvariantCulture, $"{Boot.Value}/{netns.Cookie()}");

    /// <summary>Opens the namespace that a path leads to, provided that it is the one meant.</summary>
    /// <param name="identity">Null: any.</param>
    /// <exception cref="KernelException">There is none, or another (ENOENT).</exception>
    public static NetworkNamespace Open(string path, string? identity)
    {
        var netns = NetworkNamespace.Open(path);
        try
        {
            if (identity is null || identity == Of(netns))
                return netns;
        }
        catch
        {
            netns.Dispose();
            throw;
        }
        netns.Dispose();
        throw new KernelException($"network namespace {path}", Libc.ENOENT, "the path leads to another namespace now");
    }
}
