using System.Net.Sockets;
using OverlayNet.Contracts;

namespace OverlayNet.Daemon.Health.Probers;

/// <summary>What one probe found; null as a whole stands for a fault of this node, of which nothing follows for the endpoint.</summary>
internal sealed record ProbeResult(CheckOutcome Outcome, string Reason)
{
    public static ProbeResult Pass { get; } = new(CheckOutcome.Pass, "");

    public static ProbeResult NoAnswer(string reason) => new(CheckOutcome.NoAnswer, reason);

    public static ProbeResult Bad(string reason) => new(CheckOutcome.BadAnswer, reason);

    /// <summary>What a socket error says of the other side; null: it is this node's own trouble.</summary>
    public static ProbeResult? Of(SocketException error) => error.SocketErrorCode switch
    {
        SocketError.ConnectionRefused => new ProbeResult(CheckOutcome.Refused, "connection refused"),
        SocketError.ConnectionReset or SocketError.Shutdown or SocketError.ConnectionAborted => Bad("connection reset"),
        SocketError.TimedOut or SocketError.HostUnreachable or SocketError.HostDown or SocketError.NetworkUnreachable => NoAnswer(error.Message),
        _ => null,
    };
}
