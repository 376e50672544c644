using System.Net;
using OverlayNet.Kernel.Netlink;

namespace OverlayNet.UnitTests.Kernel.Ipvs;

/// <summary><c>/proc/net/ip_vs_conn</c> as the kernel prints it (ip_vs_conn_seq_show).</summary>
public sealed class IpvsConnectionsTests
{
    [Fact]
    public void Connections_of_both_families_are_read_and_templates_passed_over()
    {
        var connections = IpvsConnections.Parse(
        [
            "Pro FromIP   FPrt ToIP     TPrt DestIP   DPrt State       Expires PEName PEData",
            "TCP 0A0A0009 9C40 0A0A0002 0050 0A0A000B 0050 ESTABLISHED     897",
            "UDP FD00:0010:0000:0000:0000:0000:0000:0009 D431 FD00:0010:0000:0000:0000:0000:0000:0002 0035 FD00:0010:0000:0000:0000:0000:0000:000B 0035 UDP             299",
            // Of persistence: it has no port of the client.
            "TCP 0A0A0009 0000 0A0A0002 0050 0A0A000B 0050 NONE            100",
            "nonsense",
        ]);
        Assert.Equal(
            [
                new IpvsConnection(6, IPEndPoint.Parse("10.10.0.9:40000"), IPEndPoint.Parse("10.10.0.2:80"), IPEndPoint.Parse("10.10.0.11:80"), "ESTABLISHED"),
                new IpvsConnection(17, IPEndPoint.Parse("[fd00:10::9]:54321"), IPEndPoint.Parse("[fd00:10::2]:53"), IPEndPoint.Parse("[fd00:10::b]:53"), "UDP"),
            ],
            connections);
    }
}
