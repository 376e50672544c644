using OverlayNet.Contracts;

namespace OverlayNet.Daemon.Planners;

/// <summary>Names for SRV of ports that were given none (IANA service names).</summary>
public static class WellKnownPorts
{
    public static string? NameOf(ServicePort port) => (port.Port, port.Protocol) switch
    {
        (21, PortProtocol.Tcp) => "ftp",
        (22, PortProtocol.Tcp) => "ssh",
        (25, PortProtocol.Tcp) => "smtp",
        (53, _) => "domain",
        (80 or 8080, PortProtocol.Tcp) => "http",
        (123, PortProtocol.Udp) => "ntp",
        (389, PortProtocol.Tcp) => "ldap",
        (443 or 8443, PortProtocol.Tcp) => "https",
        (3306, PortProtocol.Tcp) => "mysql",
        (5432, PortProtocol.Tcp) => "postgresql",
        (5672, PortProtocol.Tcp) => "amqp",
        (6379, PortProtocol.Tcp) => "redis",
        _ => null,
    };
}
