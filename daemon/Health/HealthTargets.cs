using System.Net;
using OverlayNet.Contracts;
using OverlayNet.Daemon.Registry;

namespace OverlayNet.Daemon.Health;

/// <summary>Which endpoints are checked, where, and how often while they start. Pure.</summary>
public static class HealthTargets
{
    /// <summary>Whether a service decides by checks when this endpoint gets traffic.</summary>
    public static bool IsChecked(Snapshot snapshot, Endpoint endpoint) => CheckOf(snapshot, endpoint) is not null;

    /// <summary>An endpoint's own check, or else its service's; null: none.</summary>
    public static HealthCheck? CheckOf(Snapshot snapshot, Endpoint endpoint) =>
        endpoint is { Kind: EndpointKind.Container, ServiceId: { } service } ? endpoint.Health ?? snapshot.Services.GetValueOrDefault(service)?.Health : null;

    public static bool NeedsPort(CheckKind kind) => kind is not (CheckKind.Exec or CheckKind.Ttl);

    /// <summary>Whether a check passes only while something listens on its TCP port.</summary>
    public static bool Listens(PlannedCheck plan) => plan is { Reach: false, Check.Kind: CheckKind.Http or CheckKind.Https or CheckKind.Tcp or CheckKind.Grpc };

    /// <summary>The port a check goes to; 0: there is none.</summary>
    public static int PortOf(Service? service, HealthCheck check)
    {
        if (check.Port != 0 || service is null)
            return check.Port;
        var protocol = check.Kind == CheckKind.Udp ? PortProtocol.Udp : PortProtocol.Tcp;
        return service.Ports.FirstOrDefault(port => port.Protocol == protocol)?.Target ?? 0;
    }

    /// <summary>The address a check goes to: the family that comes first for clients too.</summary>
    public static IPAddress? AddressOf(Endpoint endpoint) => endpoint.Address4 ?? endpoint.Address6;

    /// <summary>
    /// Whether the endpoint's kernel answers at all, for endpoints whose service asks for no check: a connection to a port of
    /// the service, or else to the discard port, is accepted or refused.
    /// </summary>
    public static HealthCheck Reach(Service? service) => new()
    {
        Kind = CheckKind.Tcp,
        Port = service?.Ports.FirstOrDefault(port => port.Protocol == PortProtocol.Tcp)?.Target ?? 9,
        IntervalMs = 1000,
    };
}
