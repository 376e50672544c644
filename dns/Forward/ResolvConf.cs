using System.Net;

namespace OverlayNet.Dns.Forward;

/// <summary>Reads name servers from resolv.conf(5).</summary>
internal static class ResolvConf
{
    /// <summary>Where systemd-resolved lists the servers behind its stub.</summary>
    private const string BehindStub = "/run/systemd/resolve/resolv.conf";

    /// <summary>
    /// The servers to forward to: without systemd-resolved's stub (it may forward to us; the servers behind it are
    /// taken instead) and without our own addresses.
    /// </summary>
    /// <param name="path">The file; one that cannot be read has no servers.</param>
    /// <param name="own">Addresses we listen on.</param>
    /// <param name="read">Reads a file, null when it cannot be.</param>
    public static List<IPEndPoint> Read(string path, IReadOnlyCollection<IPAddress> own, Func<string, string?> read)
    {
        var servers = Parse(read(path) ?? "");
        if (servers.Count > 0 && servers.TrueForAll(IsStub) && path != BehindStub)
            servers = Parse(read(BehindStub) ?? "");
        servers.RemoveAll(server => IsStub(server) || own.Contains(server.Address));
        return servers;
    }

    public static string? ReadFile(string path)
    {
        try
        {
            return File.ReadAllText(path);
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException)
        {
            return null;
        }
    }

    internal static List<IPEndPoint> Parse(string text)
    {
        var servers = new List<IPEndPoint>();
        foreach (var line in text.AsSpan().EnumerateLines())
        {
            var rest = line.Trim();
            if (!rest.StartsWith("nameserver", StringComparison.Ordinal) || rest.Length == 10 || !char.IsWhiteSpace(rest[10]))
                continue;
            rest = rest[10..].Trim();
            var end = rest.IndexOfAny(' ', '\t', '#');
            if (IPAddress.TryParse(end < 0 ? rest : rest[..end], out var address))
            {
                var server = new IPEndPoint(address, 53);
                if (!servers.Contains(server))
                    servers.Add(server);
            }
        }

        return servers;
    }

    /// <summary>127.0.0.53 and 127.0.0.54 (systemd-resolved.service(8)).</summary>
    private static bool IsStub(IPEndPoint server) =>
        server.Address.Equals(IPAddress.Parse("127.0.0.53")) || server.Address.Equals(IPAddress.Parse("127.0.0.54"));
}
