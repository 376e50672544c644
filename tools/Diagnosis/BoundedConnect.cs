using System.Net;
using System.Net.Sockets;

namespace OverlayNet.Tools.Diagnosis;

/// <summary>Connects within a time, on the calling thread: connect(2) without blocking, then poll(2).</summary>
internal static class BoundedConnect
{
    /// <returns>Null: connected. <see cref="SocketError.TimedOut"/>: nothing came back in time.</returns>
    public static SocketError? To(Socket socket, EndPoint target, TimeSpan timeout)
    {
        socket.Blocking = false;
        try
        {
            socket.Connect(target);
        }
        catch (SocketException e) when (e.SocketErrorCode is SocketError.WouldBlock or SocketError.InProgress or SocketError.AlreadyInProgress)
        {
            if (!socket.Poll(timeout, SelectMode.SelectWrite) && !socket.Poll(TimeSpan.Zero, SelectMode.SelectError))
                return SocketError.TimedOut;
        }
        catch (SocketException e)
        {
            return e.SocketErrorCode;
        }
        var error = (SocketError)(int)socket.GetSocketOption(SocketOptionLevel.Socket, SocketOptionName.Error)!;
        socket.Blocking = true;
        return error == SocketError.Success ? null : error;
    }
}
