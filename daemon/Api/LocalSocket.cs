using System.Net;
using System.Net.Sockets;
using Microsoft.AspNetCore.Connections;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Microsoft.AspNetCore.Server.Kestrel.Transport.Sockets;

namespace OverlayNet.Daemon.Api;

/// <summary>Marks connections that came in through the API's unix socket.</summary>
internal sealed class LocalCallerFeature
{
    public static LocalCallerFeature Instance { get; } = new();
}

/// <summary>The API's unix socket: who may open its file may do everything, so its mode is right before anybody can connect.</summary>
public static class LocalSocket
{
    /// <summary>Owner and group: 0660.</summary>
    public const UnixFileMode Mode =
        UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.GroupRead | UnixFileMode.GroupWrite;

    /// <summary>Listens on a path; callers there count as local.</summary>
    public static void ListenLocal(this KestrelServerOptions options, string path) =>
        options.ListenUnixSocket(path, listen => listen.Use(next => connection =>
        {
            connection.Features.Set(LocalCallerFeature.Instance);
            return next(connection);
        }));

    /// <summary>
    /// Makes Kestrel set the mode between bind and listen, and take the place of a socket file that a killed daemon left behind.
    /// </summary>
    /// <remarks>The state lock must be held: then no living daemon owns the file.</remarks>
    public static void Configure(SocketTransportOptions options) => options.CreateBoundListenSocket = Bind;

    private static Socket Bind(EndPoint endpoint)
    {
        if (endpoint is not UnixDomainSocketEndPoint local)
            return SocketTransportOptions.CreateDefaultBoundListenSocket(endpoint);
        var path = local.ToString();
        File.Delete(path);
        var socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        socket.Bind(local);
        File.SetUnixFileMode(path, Mode);
        return socket;
    }
}
