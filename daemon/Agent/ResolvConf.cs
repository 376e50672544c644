using System.Net;
using OverlayNet.Contracts;
using OverlayNet.Daemon.Registry;

namespace OverlayNet.Daemon.Agent;

/// <summary><c>/etc/netns/NAME/resolv.conf</c>, which <c>ip netns exec NAME</c> shows as /etc/resolv.conf. Only for namespaces with a name.</summary>
public static class ResolvConf
{
    private const string Root = "/etc/netns";
    private const string Mark = "# written by overlaynetd";

    public static void Write(string netnsPath, Network network, Snapshot snapshot)
    {
        if (PathFor(netnsPath) is not { } path)
            return;
        Directory.CreateDirectory(Path.GetDirectoryName(path)!);
        var servers = new[] { network.Gateway4, network.Gateway6 }.OfType<IPAddress>().Select(address => $"nameserver {address}");
        // ndots:0 as in Docker: 'web' is asked for as it stands, without a round through the search list.
        // timeout:1: a query that the daemon had taken from its socket when it was killed is asked again in a second, not in five.
        File.WriteAllLines(path, [Mark, .. servers, $"search {network.Name}.{snapshot.ClusterDomain}", "options ndots:0 timeout:1 attempts:5"]);
    }

    /// <summary>Removes the file if it is ours.</summary>
    public static void Remove(string netnsPath)
    {
        if (PathFor(netnsPath) is not { } path || !File.Exists(path) || File.ReadLines(path).FirstOrDefault() != Mark)
            return;
        File.Delete(path);
        var directory = Path.GetDirectoryName(path)!;
        if (!Directory.EnumerateFileSystemEntries(directory).Any())
            Directory.Delete(directory);
    }

    private static string? PathFor(string netnsPath) =>
        Path.GetDirectoryName(netnsPath) is "/run/netns" or "/var/run/netns" ? Path.Combine(Root, Path.GetFileName(netnsPath), "resolv.conf") : null;
}
