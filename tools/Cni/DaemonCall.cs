using System.Globalization;
using System.Net.Sockets;
using System.Text;

namespace OverlayNet.Tools.Cni;

/// <summary>The daemon could not be asked, or its answer not be read.</summary>
/// <param name="away">Nothing listens, or what listened ended before it had answered: the same call succeeds once it is back.</param>
internal sealed class DaemonCallException(bool away, string message) : Exception(message)
{
    public bool Away { get; } = away;
}

/// <summary>
/// One HTTP request over the daemon's unix socket, by hand: a general client would cost the plugin more than the call
/// itself. Version 1.0, so that the answer comes in one piece and the connection ends with it.
/// </summary>
internal static class DaemonCall
{
    // Longer than the daemon's own limit for building an endpoint.
    private const int TimeoutMilliseconds = 60_000;

    /// <exception cref="DaemonCallException">Nothing listens there, or what answered was no HTTP.</exception>
    public static (int Status, byte[] Body) Post(string socketPath, string target, byte[] json)
    {
        using var socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified) { SendTimeout = TimeoutMilliseconds, ReceiveTimeout = TimeoutMilliseconds };
        try
        {
            socket.Connect(new UnixDomainSocketEndPoint(socketPath));
        }
        catch (Exception e) when (e is SocketException or ArgumentException)
        {
            throw new DaemonCallException(away: true, e.Message);
        }
        try
        {
            var head = string.Create(CultureInfo.InvariantCulture, $"POST {target} HTTP/1.0\r\nHost: overlaynet\r\nContent-Type: application/json\r\nContent-Length: {json.Length}\r\n\r\n");
            socket.Send(Encoding.ASCII.GetBytes(head));
            socket.Send(json);
            return Parse(ReceiveAll(socket));
        }
        catch (SocketException e)
        {
            throw new DaemonCallException(away: true, e.Message);
        }
    }

    /// <summary>Takes an answer apart. The daemon always says its length here, so that one that was cut off is told from a whole one.</summary>
    /// <exception cref="DaemonCallException">It is no HTTP answer, or not whole.</exception>
    internal static (int Status, byte[] Body) Parse(ReadOnlySpan<byte> answer)
    {
        var end = answer.IndexOf("\r\n\r\n"u8);
        if (answer.Length == 0)
            throw new DaemonCallException(away: true, "it closed the connection without an answer");
        if (end < 0 || !answer.StartsWith("HTTP/1.1 "u8))
            throw new DaemonCallException(away: false, "its answer is not HTTP");
        var lines = Encoding.ASCII.GetString(answer[..end]).Split("\r\n");
        var body = answer[(end + 4)..];
        var length = lines.FirstOrDefault(line => line.StartsWith("Content-Length:", StringComparison.OrdinalIgnoreCase)) is { } header
            && int.TryParse(header.AsSpan(header.IndexOf(':') + 1), NumberStyles.AllowLeadingWhite, CultureInfo.InvariantCulture, out var said)
                ? said
                : body.Length;
        if (lines[0].Split(' ') is not [_, var status, ..] || !int.TryParse(status, NumberStyles.None, CultureInfo.InvariantCulture, out var code))
            throw new DaemonCallException(away: false, "its answer is not HTTP");
        if (body.Length < length)
            throw new DaemonCallException(away: true, "its answer broke off");
        return (code, body[..length].ToArray());
    }

    private static byte[] ReceiveAll(Socket socket)
    {
        using var received = new MemoryStream();
        var buffer = new byte[8192];
        int count;
        while ((count = socket.Receive(buffer)) > 0)
            received.Write(buffer, 0, count);
        return received.ToArray();
    }
}
