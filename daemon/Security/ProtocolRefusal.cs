using System.Globalization;
using OverlayNet.Contracts;
using OverlayNet.Daemon.Registry;

namespace OverlayNet.Daemon.Security;

/// <summary>Peers more than one protocol version apart do not talk.</summary>
internal static class ProtocolRefusal
{
    public static RegistryException Of(int version) => new(StatusCodes.Status400BadRequest, new ErrorBody
    {
        Code = "protocol-version",
        Message = $"protocol version '{version}': this node speaks {Protocol.Version} and understands one version more or less",
        Field = "protocolVersion",
        Value = version.ToString(CultureInfo.InvariantCulture),
        Remedy = version < Protocol.Version
            ? "upgrade the calling node first, one release at a time"
            : "upgrade this manager first, one release at a time",
    });
}
