using System.Net;

namespace OverlayNet.Kernel.Netlink;

/// <summary>One direction of a tracked flow.</summary>
/// <param name="Protocol">IPPROTO_*.</param>
/// <param name="SourcePort">Host byte order; for ICMP the echo id.</param>
/// <param name="DestinationPort">Host byte order; 0 for ICMP.</param>
public readonly record struct FlowTuple(IPAddress Source, IPAddress Destination, byte Protocol, ushort SourcePort, ushort DestinationPort);

/// <summary>A flow that connection tracking knows.</summary>
/// <param name="Original">As its first packet was sent.</param>
/// <param name="Reply">As answers come: with the destination translated, its source is the real server.</param>
/// <param name="Status">IPS_* bits (linux/netfilter/nf_conntrack_common.h).</param>
/// <param name="TcpState">enum tcp_conntrack; 0 for other protocols.</param>
/// <param name="Id">CTA_ID: tells this flow from a later one with the same tuples.</param>
public sealed record TrackedFlow(FlowTuple Original, FlowTuple Reply, uint Status, byte TcpState, uint Mark, uint Id)
{
    private const uint DestinationTranslated = 1 << 5;

    /// <summary>TCP_CONNTRACK_FIN_WAIT: from here on one side has closed.</summary>
    private const byte FinWait = 4, Listen = 9;

    public bool HasDestinationNat => (Status & DestinationTranslated) != 0;

    /// <summary>Not a TCP connection that is closing or closed: what draining waits for.</summary>
    public bool IsLive => TcpState is < FinWait or Listen;
}

/// <summary>
/// Connection tracking of one network namespace (ctnetlink, linux/netfilter/nfnetlink_conntrack.h). Not thread-safe.
/// </summary>
public sealed class Conntrack(NetlinkSocket socket) : IDisposable
{
    private const ushort Subsystem = 1 << 8;
    private const byte GetFlow = 1, DeleteFlow = 2;
    private const ushort TupleOriginal = 1, TupleReply = 2, Status = 3, ProtocolInfo = 4, Mark = 8, FlowId = 12;
    private const ushort TupleIp = 1, TupleProtocol = 2;
    private const ushort SourceIPv4 = 1, DestinationIPv4 = 2, SourceIPv6 = 3, DestinationIPv6 = 4;
    private const ushort ProtocolNumber = 1, PortSource = 2, PortDestination = 3, IcmpId = 4, Icmp6Id = 7;
    private const ushort InfoTcp = 1, InfoTcpState = 1;

    /// <summary>Opens the connection tracking of a namespace (null: the calling thread's).</summary>
    public static Conntrack Open(NetworkNamespace? netns = null) => new(NetlinkSocket.Open(NetlinkProtocol.Netfilter, netns));

    /// <summary>All flows of the namespace. The kernel walks one table for all namespaces: some milliseconds on a big machine.</summary>
    public List<TrackedFlow> List(NfFamily family = NfFamily.Unspecified)
    {
        var writer = new NetlinkMessageWriter(stackalloc byte[32]);
        writer.Begin(Subsystem | GetFlow, NetlinkFlags.Request);
        writer.Struct(new NfHeader(family, 0, 0));
        return socket.Dump(ref writer, Parse, "list tracked flows");
    }

    /// <summary>Forgets a flow: its next packet begins a new one. A flow that is gone already is fine.</summary>
    /// <returns>True when it was there.</returns>
    public bool Delete(TrackedFlow flow)
    {
        var writer = new NetlinkMessageWriter(stackalloc byte[192]);
        WriteDelete(ref writer, flow);
        var result = socket.TryRequest(ref writer);
        if (!result.Ok && result.Errno != Libc.ENOENT)
            throw new NetlinkException($"delete tracked flow {flow.Original}", result.Errno, result.Detail);
        return result.Ok;
    }

    /// <summary>Forgets many flows, many in flight at a time.</summary>
    /// <returns>How many were there.</returns>
    public int Delete(IReadOnlyCollection<TrackedFlow> flows)
    {
        if (flows.Count == 0)
            return 0;
        var pending = new NetlinkMessageWriter([]);
        foreach (var flow in flows)
            WriteDelete(ref pending, flow);
        var deleted = 0;
        foreach (var result in socket.Batch(ref pending))
        {
            if (result.Ok)
                deleted++;
            else if (result.Errno != Libc.ENOENT)
                throw new NetlinkException("delete tracked flows", result.Errno, result.Detail);
        }
        pending.Dispose();
        return deleted;
    }

    public void Dispose() => socket.Dispose();

    internal static TrackedFlow Parse(in NetlinkMessage message)
    {
        FlowTuple original = default, reply = default;
        uint status = 0, mark = 0, id = 0;
        byte tcpState = 0;
        foreach (var attribute in message.Attributes<NfHeader>())
        {
            switch (attribute.Type)
            {
                case TupleOriginal:
                    original = ParseTuple(attribute.Nested);
                    break;
                case TupleReply:
                    reply = ParseTuple(attribute.Nested);
                    break;
                case Status:
                    status = attribute.U32BigEndian;
                    break;
                case Mark:
                    mark = attribute.U32BigEndian;
                    break;
                case FlowId:
                    id = attribute.U32BigEndian;
                    break;
                case ProtocolInfo:
                    foreach (var info in attribute.Nested)
                    {
                        if (info.Type == InfoTcp)
                            tcpState = ParseTcpState(info.Nested);
                    }
                    break;
            }
        }
        return new TrackedFlow(original, reply, status, tcpState, mark, id);
    }

    private static void WriteDelete(ref NetlinkMessageWriter writer, TrackedFlow flow)
    {
        var original = flow.Original;
        var v6 = original.Source.AddressFamily == System.Net.Sockets.AddressFamily.InterNetworkV6;
        writer.Begin(Subsystem | DeleteFlow, NetlinkFlags.Request);
        writer.Struct(new NfHeader(v6 ? NfFamily.IPv6 : NfFamily.IPv4, 0, 0));
        var tuple = writer.BeginNest(TupleOriginal);
        var ip = writer.BeginNest(TupleIp);
        writer.Address(v6 ? SourceIPv6 : SourceIPv4, original.Source);
        writer.Address(v6 ? DestinationIPv6 : DestinationIPv4, original.Destination);
        writer.EndNest(ip);
        var protocol = writer.BeginNest(TupleProtocol);
        writer.U8(ProtocolNumber, original.Protocol);
        writer.U16BigEndian(PortSource, original.SourcePort);
        writer.U16BigEndian(PortDestination, original.DestinationPort);
        writer.EndNest(protocol);
        writer.EndNest(tuple);
        // With the id the kernel refuses to delete another flow that took the tuple since we looked.
        writer.U32BigEndian(FlowId, flow.Id);
    }

    private static FlowTuple ParseTuple(NetlinkAttributes attributes)
    {
        IPAddress source = IPAddress.Any, destination = IPAddress.Any;
        byte protocol = 0;
        ushort sourcePort = 0, destinationPort = 0;
        foreach (var part in attributes)
        {
            if (part.Type is not (TupleIp or TupleProtocol))
                continue;
            foreach (var field in part.Nested)
            {
                switch (part.Type, field.Type)
                {
                    case (TupleIp, SourceIPv4 or SourceIPv6):
                        source = field.Address;
                        break;
                    case (TupleIp, DestinationIPv4 or DestinationIPv6):
                        destination = field.Address;
                        break;
                    case (TupleProtocol, ProtocolNumber):
                        protocol = field.U8;
                        break;
                    case (TupleProtocol, PortSource or IcmpId or Icmp6Id):
                        sourcePort = field.U16BigEndian;
                        break;
                    case (TupleProtocol, PortDestination):
                        destinationPort = field.U16BigEndian;
                        break;
                }
            }
        }
        return new FlowTuple(source, destination, protocol, sourcePort, destinationPort);
    }

    private static byte ParseTcpState(NetlinkAttributes attributes)
    {
        foreach (var attribute in attributes)
        {
            if (attribute.Type == InfoTcpState)
                return attribute.U8;
        }
        return 0;
    }
}
