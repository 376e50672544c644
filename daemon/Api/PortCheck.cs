using OverlayNet.Contracts;
using OverlayNet.Daemon.Registry;
using OverlayNet.Vip;

namespace OverlayNet.Daemon.Api;

/// <summary>
/// Refuses to publish a port that a process of this host holds, and names it. The registry knows only what services hold; other nodes
/// find out when they apply (<see cref="Vip.Ingress.PublishedPorts"/>), leave the port to its owner and say so in their status.
/// </summary>
internal static class PortCheck
{
    /// <param name="before">Ports that the service has published already: those are its own.</param>
    /// <exception cref="RegistryException">409: a port is held.</exception>
    public static void RefuseHeld(ApiCall call, IReadOnlyList<ServicePort> ports, IReadOnlyList<ServicePort> before)
    {
        foreach (var port in ports)
        {
            // In mode host only nodes with a task answer, and this may not be one.
            if (port.Published == 0 || port.Mode == PublishMode.Host || before.Any(own => own.Published == port.Published && own.Protocol == port.Protocol))
                continue;
            var protocol = port.Protocol == PortProtocol.Tcp ? VipPort.Tcp : VipPort.Udp;
            if (call.Services.PortHolder?.Invoke(protocol, (ushort)port.Published) is { } holder)
                throw Refuse.Conflict("port-held", "ports", $"{port.Published}:{port.Target}", $"on this manager {holder}",
                    "publish another port, or end that process first");
        }
    }
}
