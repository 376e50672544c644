using System.Globalization;
using OverlayNet.Contracts;
using OverlayNet.Kernel.Netlink;
using OverlayNet.Tools.Cli;

namespace OverlayNet.Tools.Capture;

/// <summary>The interface that has a node's underlay address.</summary>
internal static class UnderlayInterface
{
    /// <exception cref="CommandFailure">No interface of this namespace has it.</exception>
    public static string Of(RegistrySnapshot snapshot, string nodeId)
    {
        var address = snapshot.Nodes.FirstOrDefault(node => node.Id == nodeId)?.Address
            ?? throw new CommandFailure(ExitCodes.Failed, "the registry does not know this node", "see 'overlaynet status'");
        using var socket = NetlinkSocket.Open(NetlinkProtocol.Route);
        var index = new RouteAddresses(socket).Dump().FirstOrDefault(entry => entry.Address.Equals(address))?.Interface;
        return new RouteLinks(socket).Dump().FirstOrDefault(link => link.Index == index)?.Name
            ?? throw new CommandFailure(ExitCodes.Failed, $"no interface of this host has the node's address {address}", "run it on the node itself, in the namespace its daemon runs in");
    }
}
