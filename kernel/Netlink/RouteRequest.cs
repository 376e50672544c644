using System.Net;
using System.Net.Sockets;

namespace OverlayNet.Kernel.Netlink;

/// <summary>Writes one message.</summary>
public delegate void NetlinkWrite(ref NetlinkMessageWriter writer);

/// <summary>One change to the kernel's network configuration, as a value: send it alone or with many others in flight.</summary>
/// <param name="Verb">What is done: <c>add link</c>.</param>
/// <param name="Subject">What it is done to; made into text only when it is needed.</param>
public readonly record struct RouteRequest(string Verb, object Subject, NetlinkWrite Write)
{
    /// <summary>The operation and the object, for errors and reports.</summary>
    public string What => $"{Verb} {Subject}";

    /// <summary>Sends this one change.</summary>
    /// <exception cref="NetlinkException">The kernel refused.</exception>
    public void Send(NetlinkSocket socket)
    {
        var result = TrySend(socket);
        if (!result.Ok)
            throw new NetlinkException(What, result.Errno, result.Detail);
    }

    /// <summary>Sends this one change, giving the kernel's refusal as a value.</summary>
    public NetlinkResult TrySend(NetlinkSocket socket)
    {
        var writer = new NetlinkMessageWriter(stackalloc byte[512]);
        try
        {
            Write(ref writer);
            return socket.TryRequest(ref writer);
        }
        finally
        {
            writer.Dispose();
        }
    }

    /// <summary>Sends many changes, many in flight; each is applied or refused on its own, in order.</summary>
    /// <returns>One result a change, in their order.</returns>
    public static NetlinkResult[] SendAll(NetlinkSocket socket, IReadOnlyList<RouteRequest> requests)
    {
        if (requests.Count == 0)
            return [];
        var writer = new NetlinkMessageWriter(stackalloc byte[1024]);
        try
        {
            foreach (var request in requests)
                request.Write(ref writer);
            return socket.Batch(ref writer);
        }
        finally
        {
            writer.Dispose();
        }
    }

    internal static byte Family(IPAddress address) => address.AddressFamily == AddressFamily.InterNetworkV6 ? (byte)Libc.AF_INET6 : (byte)Libc.AF_INET;
}
