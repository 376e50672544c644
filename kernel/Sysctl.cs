namespace OverlayNet.Kernel;

/// <summary>Kernel settings below /proc/sys; those of the network stack belong to the calling thread's network namespace.</summary>
public static class Sysctl
{
    /// <summary>Writes a value unless it is there already.</summary>
    /// <param name="name">Below /proc/sys, with slashes: <c>net/ipv4/ip_forward</c>.</param>
    /// <returns>True when the value changed.</returns>
    /// <exception cref="IOException">The setting does not exist or may not be written.</exception>
    public static bool Write(string name, string value)
    {
        // /proc/sys/net follows the opening thread's namespace (proc_sys_net uses current), not the process's.
        var path = "/proc/sys/" + name;
        if (File.ReadAllText(path).Trim() == value)
            return false;
        File.WriteAllText(path, value);
        return true;
    }

    /// <returns>The value, or null when the kernel has no such setting.</returns>
    public static string? Read(string name)
    {
        try
        {
            return File.ReadAllText("/proc/sys/" + name).Trim();
        }
        catch (IOException)
        {
            return null;
        }
    }
}
