using System.Net;
using OverlayNet.Kernel.Netlink;

namespace OverlayNet.UnitTests.Kernel.Nftables;

public sealed class ConntrackTests
{
    // Recorded from Linux 6.18: 10.0.0.1:54321 -> VIP 10.0.0.100:80, translated to 10.0.0.2:8080, TCP established.
    private const string Recorded =
        "d8000000000102000100000000000000" + "02000000" +
        "34000180" + "14000180" + "080001000a000001" + "080002000a000064" + "1c000280" + "0500010006000000" + "06000200d4310000" + "0600030000500000" +
        "34000280" + "14000180" + "080001000a000002" + "080002000a000001" + "1c000280" + "0500010006000000" + "060002001f900000" + "06000300d4310000" +
        "08000300000001ae" + "0800070000069780" + "30000480" + "2c000180" + "0500010003000000" + "0500020007000000" + "0500030007000000" + "0600040023000000" + "0600050023000000" +
        "0800080000000005" + "08000c004d21aef0" + "08000b0000000001";

    [Fact]
    public void A_translated_flow_is_read()
    {
        var octets = Convert.FromHexString(Recorded);
        BitConverter.TryWriteBytes(octets, octets.Length);
        var reader = new NetlinkMessageReader(octets);
        Assert.True(reader.MoveNext());
        var flow = Conntrack.Parse(reader.Current);
        Assert.Equal(new FlowTuple(IPAddress.Parse("10.0.0.1"), IPAddress.Parse("10.0.0.100"), 6, 54321, 80), flow.Original);
        Assert.Equal(new FlowTuple(IPAddress.Parse("10.0.0.2"), IPAddress.Parse("10.0.0.1"), 6, 8080, 54321), flow.Reply);
        Assert.True(flow.HasDestinationNat);
        Assert.True(flow.IsLive);
        Assert.Equal((5u, 0x4d21aef0u), (flow.Mark, flow.Id));
    }

    [Fact]
    public void Damaged_messages_are_refused_or_read_but_never_crash()
    {
        var random = new Random(20);
        var octets = Convert.FromHexString(Recorded);
        BitConverter.TryWriteBytes(octets, octets.Length);
        for (var round = 0; round < 20_000; round++)
        {
            var damaged = octets.ToArray();
            for (var i = random.Next(1, 6); i > 0; i--)
                damaged[random.Next(damaged.Length)] = (byte)random.Next(256);
            try
            {
                foreach (var message in new NetlinkMessageReader(damaged))
                {
                    Conntrack.Parse(message);
                    NfTablesParser.Elements(message);
                    NfTablesParser.Set(message);
                    NfTablesParser.Chain(message);
                    NfTablesParser.Rule(message);
                    NfTablesParser.Table(message);
                }
            }
            catch (InvalidDataException)
            {
                // The length of something does not fit.
            }
        }
    }
}
