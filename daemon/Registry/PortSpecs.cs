using System.Globalization;
using OverlayNet.Contracts;

namespace OverlayNet.Daemon.Registry;

/// <summary>Service ports as people write them: <c>[name=][PUB:]TARGET[/PROTO]</c>.</summary>
/// <remarks>
/// As in Swarm, <c>8080:80</c> publishes 8080 on the nodes; inside the network the VIP answers on the target port, 80.
/// </remarks>
public static class PortSpecs
{
    private const string Remedy = "write [NAME=][PUBLISHED:]TARGET[/tcp|udp], such as 80, 8080:80, 53/udp or http=8080:80/tcp";

    /// <exception cref="RegistryException">A port is malformed, or two collide.</exception>
    public static IReadOnlyList<ServicePort> Parse(IReadOnlyList<string>? specs, PublishMode mode)
    {
        var ports = new List<ServicePort>();
        foreach (var spec in specs ?? [])
        {
            var port = Parse(spec, mode);
            foreach (var other in ports)
            {
                if (other.Protocol == port.Protocol && other.Port == port.Port)
                    throw Refuse.Invalid("duplicate-port", "ports", spec, "the service has this port already", "name each port once");
                if (other.Protocol == port.Protocol && port.Published != 0 && other.Published == port.Published)
                    throw Refuse.Invalid("duplicate-port", "ports", spec, $"port {port.Published} is published twice",
                        "publish each port once");
                if (other.Protocol == port.Protocol && port.Name is not null && other.Name == port.Name)
                    throw Refuse.Invalid("duplicate-port", "ports", spec, "the service has a port by this name already",
                        "give each port a name of its own");
            }
            ports.Add(port);
        }
        return ports;
    }

    /// <exception cref="RegistryException">It is malformed.</exception>
    public static ServicePort Parse(string? spec, PublishMode mode)
    {
        var rest = spec ?? "";
        string? name = null;
        if (rest.IndexOf('=', StringComparison.Ordinal) is var equals and >= 0)
        {
            name = Name(spec!, rest[..equals]);
            rest = rest[(equals + 1)..];
        }
        var protocol = PortProtocol.Tcp;
        if (rest.IndexOf('/', StringComparison.Ordinal) is var slash and >= 0)
        {
            protocol = rest[(slash + 1)..] switch
            {
                "tcp" => PortProtocol.Tcp,
                "udp" => PortProtocol.Udp,
                var other => throw Malformed(spec, $"'{other}' is not a protocol"),
            };
            rest = rest[..slash];
        }
        var published = 0;
        if (rest.IndexOf(':', StringComparison.Ordinal) is var colon and >= 0)
        {
            published = Number(spec, rest[..colon]);
            rest = rest[(colon + 1)..];
        }
        var target = Number(spec, rest);
        return new ServicePort
        {
            Name = name,
            Protocol = protocol,
            Port = target,
            Target = target,
            Published = published,
            Mode = mode,
        };
    }

    // Service names of RFC 6335 section 5.1: what SRV records have after the underscore.
    private static string Name(string spec, string name)
    {
        if (name.Length is 0 or > 15 || name.AsSpan().ContainsAnyExcept("abcdefghijklmnopqrstuvwxyz0123456789-")
            || name[0] == '-' || name[^1] == '-' || !name.Any(char.IsAsciiLetter))
            throw Malformed(spec, $"'{name}' is not a port name (1-15 lower-case letters, digits and hyphens, at least one letter)");
        return name;
    }

    private static int Number(string? spec, string text)
    {
        if (!int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out var number) || number is < 1 or > ushort.MaxValue)
            throw Malformed(spec, $"'{text}' is not a port number (1-65535)");
        return number;
    }

    private static RegistryException Malformed(string? spec, string problem) =>
        Refuse.Invalid("invalid-port", "ports", spec ?? "", problem, Remedy);
}
