using System.Globalization;

namespace OverlayNet.Vip.Ingress;

/// <summary>A process whose socket is bound to a port of this host.</summary>
/// <param name="Process">Null when the socket belongs to no process that we may see.</param>
public sealed record PortHolder(byte Protocol, ushort Port, int? Process, string? Command)
{
    private const int Listening = 10, Unconnected = 7, LocalField = 1, StateField = 3, InodeField = 9;

    public override string ToString() => $"{(Protocol == VipPort.Tcp ? "tcp" : "udp")} port {Port} is held by {(Process is null ? "a socket of the kernel or of another container" : $"{Command} (pid {Process})")}";

    /// <summary>Who listens on a port in the calling thread's network namespace, at any address; null: nobody.</summary>
    /// <param name="beyondLoopback">Not counting sockets bound to a loopback address, which published ports leave alone.</param>
    public static PortHolder? Find(byte protocol, ushort port, bool beyondLoopback = false)
    {
        var name = protocol == VipPort.Tcp ? "tcp" : "udp";
        foreach (var file in new[] { $"/proc/thread-self/net/{name}", $"/proc/thread-self/net/{name}6" })
        {
            if (!File.Exists(file))
                continue;
            if (FindInode(File.ReadLines(file), protocol, port, beyondLoopback) is { } inode)
            {
                var process = ProcessOf(inode);
                return new PortHolder(protocol, port, process, process is null ? null : CommandOf(process.Value));
            }
        }
        return null;
    }

    /// <summary>The socket that listens on a port, from the lines of /proc/net/tcp and its like (proc_net_tcp.rst).</summary>
    internal static string? FindInode(IEnumerable<string> lines, byte protocol, ushort port, bool beyondLoopback = false)
    {
        var state = protocol == VipPort.Tcp ? Listening : Unconnected;
        foreach (var line in lines.Skip(1))
        {
            var fields = line.Split(' ', StringSplitOptions.RemoveEmptyEntries);
            if (fields.Length > InodeField
                && ushort.TryParse(fields[LocalField].AsSpan(fields[LocalField].LastIndexOf(':') + 1), NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out var local) && local == port
                && int.TryParse(fields[StateField], NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out var found) && found == state
                && !(beyondLoopback && IsLoopback(fields[LocalField].AsSpan(0, fields[LocalField].LastIndexOf(':')))))
                return fields[InodeField];
        }
        return null;
    }

    /// <summary>127.0.0.0/8, ::ffff:127.0.0.0/104 or ::1, in words of four octets in host (little-endian) order.</summary>
    private static bool IsLoopback(ReadOnlySpan<char> address) => address.Length == 8
        ? address.EndsWith("7F")
        : address is "00000000000000000000000001000000" || (address.StartsWith("0000000000000000FFFF0000") && address.EndsWith("7F"));

    private static int? ProcessOf(string inode)
    {
        var wanted = $"socket:[{inode}]";
        foreach (var directory in Directory.EnumerateDirectories("/proc"))
        {
            if (!int.TryParse(Path.GetFileName(directory), out var process))
                continue;
            try
            {
                if (Directory.EnumerateFiles($"{directory}/fd").Any(descriptor => new FileInfo(descriptor).LinkTarget == wanted))
                    return process;
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException)
            {
                // It ended while we looked, or is not ours to look into.
            }
        }
        return null;
    }

    private static string? CommandOf(int process)
    {
        try
        {
            return File.ReadAllText($"/proc/{process}/comm").Trim();
        }
        catch (IOException)
        {
            return null;
        }
    }
}
