using System.Net;
using OverlayNet.Contracts;
using OverlayNet.Kernel;
using OverlayNet.Kernel.Netlink;
using OverlayNet.Tools.Capture.Decode;
using OverlayNet.Tools.Capture.Live;
using OverlayNet.Tools.Cli;

namespace OverlayNet.Tools.Diagnosis.Checks;

/// <summary>Floating VIPs: who has the address, and who else advertises the virtual router.</summary>
internal static class VipChecks
{
    private const int SnapLength = 256;
    private static readonly TimeSpan Longest = TimeSpan.FromSeconds(3), Margin = TimeSpan.FromMilliseconds(300);

    public static IEnumerable<Diagnosed> Run(CheckupInput input)
    {
        var vips = input.Node.Snapshot.Vips;
        if (vips.Count == 0)
            return [];
        var heard = Listen(input, vips);
        return [.. vips.SelectMany(vip => Addresses(vip, input)), .. Alarms(input.Vips), .. Strangers(vips, input.Node.Snapshot, input.Host, heard)];
    }

    /// <summary>The address on a node that is not the holder: two nodes answer for it.</summary>
    public static IEnumerable<Diagnosed> Addresses(FloatingVip vip, CheckupInput input)
    {
        if (vip.Mode != FloatingVipMode.Fenced)
            yield break;
        var holder = input.Node.Snapshot.VipHolders.FirstOrDefault(known => known.Set == vip.LeaseSet);
        foreach (var text in vip.Addresses)
        {
            var address = IPAddress.Parse(text.Split('/')[0]);
            if (input.Host.Addresses.FirstOrDefault(entry => entry.Address.Equals(address)) is not { } entry)
            {
                if (holder?.NodeId == input.Node.NodeId && input.Vips.FirstOrDefault(known => known.Name == vip.Name) is { State: "holder", SecondsInState: > 2 })
                    yield return Diagnosed.Error("vip.missing", vip.Name, $"this node holds it, and {address} is on no interface", null, $"overlaynet vip explain {vip.Name}");
                continue;
            }
            if (holder?.NodeId == input.Node.NodeId)
                continue;
            var link = input.Host.NameOf(entry.Interface);
            var path = input.Node.Host.Path;
            yield return Diagnosed.Error("vip.two-owners", vip.Name, $"{address} is on {link} of this node, and the holder is {(holder?.NodeId is { } id ? input.Node.NodeNameOf(id) : "nobody")}: two nodes answer for it",
                $"{entry.Address}/{Text.Number(entry.PrefixLength)} on {link}", $"ip addr del {address}/{Text.Number(entry.PrefixLength)} dev {link}", () =>
                {
                    using var host = NetworkNamespace.Open(path);
                    using var socket = NetlinkSocket.Open(NetlinkProtocol.Route, host);
                    new RouteAddresses(socket).Delete(entry);
                });
        }
    }

    public static IEnumerable<Diagnosed> Alarms(IEnumerable<VipExplanation> vips) => vips
        .Where(vip => vip.State == "refused")
        .Select(vip => Diagnosed.Error("vip.refused", vip.Name, vip.Reason, null, $"overlaynet vip explain {vip.Name}"));

    /// <summary>Routers that are none of the cluster's and use a VRID of ours.</summary>
    public static IEnumerable<Diagnosed> Strangers(IReadOnlyList<FloatingVip> vips, RegistrySnapshot snapshot, NamespaceReading host, IEnumerable<(string Interface, DecodedPacket Packet)> heard)
    {
        var said = new HashSet<(string, IPAddress)>();
        foreach (var (@interface, packet) in heard)
        {
            if (packet is not { Vrrp: { Carp: false } advert, Ip: { } ip } || vips.FirstOrDefault(vip => vip.Vrid == advert.VirtualRouterId && vip.Interface == @interface) is not { } vip)
                continue;
            if (snapshot.Nodes.Any(node => node.Address.Equals(ip.Source)) || host.Having(ip.Source) is not null || snapshot.VipHolders.Any(holder => holder.Sources.Contains(ip.Source)) || !said.Add((vip.Name, ip.Source)))
                continue;
            // Nodes of the cluster speak from an address that the registry has, or from one that the holder announced.
            yield return Diagnosed.Error("vrrp.foreign", vip.Name, $"{ip.Source} advertises virtual router {Text.Number(advert.VirtualRouterId)} on {@interface} and is no node of this cluster",
                $"VRRP version {Text.Number(advert.Version)}, priority {Text.Number(advert.Priority)}, addresses {string.Join(", ", advert.Addresses)}, from {packet.Ethernet?.Source}", $"give it another VRID, or move ours: vip create with another --vrid; find it by its MAC {packet.Ethernet?.Source}");
        }
    }

    /// <summary>Adverts on the VIPs' interfaces for a little more than the longest interval.</summary>
    private static List<(string Interface, DecodedPacket Packet)> Listen(CheckupInput input, IReadOnlyList<FloatingVip> vips)
    {
        var time = TimeSpan.FromMilliseconds(vips.Max(vip => vip.AdvertMs)) + Margin;
        var handles = new List<PcapHandle>();
        var heard = new List<(string, DecodedPacket)>();
        try
        {
            var path = $"/proc/self/fd/{Text.Number(input.Node.Host.Fd)}";
            foreach (var name in vips.Select(vip => vip.Interface).Distinct().Where(name => input.Host.Link(name) is { IsUp: true }))
                handles.Add(PcapHandle.Open(new CapturePoint(name, path, name, "ip proto 112 or ip6 proto 112", ""), SnapLength));
            if (handles.Count == 0)
                return heard;
            var decoder = new PacketDecoder();
            using var stop = new CancellationTokenSource(time < Longest ? time : Longest);
            new LiveCapture(handles, (_, record) => heard.Add((record.Point, decoder.Decode(record.Link, record.Data.Span, record.Length, record.TimeNs, record.Point)))).Run(() => false, stop.Token);
            return heard;
        }
        finally
        {
            foreach (var handle in handles)
                handle.Dispose();
        }
    }
}
