using System.Net;
using System.Text;
using OverlayNet.Dns;
using OverlayNet.Dns.Answer;
using OverlayNet.Dns.Table;

namespace OverlayNet.UnitTests.Dns;

/// <summary>Which answers may be given to all clients of a network for as long as the name's entry stays: those the kernel gives.</summary>
public sealed unsafe class LastingAnswerTests
{
    private const string Domain = "overlay.internal";
    private static readonly ZoneInfo zone = new(Domain, "dc1", 1) { Synced = true };

    [Theory]
    [InlineData("web", 16)]
    [InlineData("WEB", 16)]
    [InlineData("www", 16)]
    [InlineData("web.front", 16)]
    [InlineData("web.front.overlay.internal", 16)]
    [InlineData("web.front.dc1.overlay.internal", 16)]
    [InlineData("web-1.web.front", 16)]
    // A dotted name could be of another network of one of the clients.
    [InlineData("web-1.web", 0)]
    // Found further on: one day the network itself may have the name.
    [InlineData("store", 0)]
    [InlineData("store.back", 0)]
    [InlineData("store.back.dc1.overlay.internal", 0)]
    [InlineData("node-a", 0)]
    // Several addresses, one of which comes first by lot; none at all; not ours.
    [InlineData("db", 0)]
    [InlineData("empty", 0)]
    [InlineData("nobody", 0)]
    [InlineData("front.overlay.internal", 0)]
    public void Lasts(string name, int size)
    {
        Assert.Equal(size, Ask(name, RrType.A, [SampleConfig.Front, SampleConfig.Back]));
    }

    [Fact]
    public void Where_the_listeners_network_is_not_known_nothing_lasts() =>
        Assert.Equal(0, Ask("web", RrType.A, [SampleConfig.Front], ownFirst: false));

    [Theory]
    [InlineData(RrType.AAAA, 28)]
    [InlineData(RrType.ANY, 0)]
    [InlineData(RrType.TXT, 0)]
    public void Types(RrType type, int size) => Assert.Equal(size, Ask("web", type, [SampleConfig.Front, SampleConfig.Back]));

    [Fact]
    public void A_network_called_as_the_data_centre_is_not_to_be_found_by_its_name_alone()
    {
        // web.dc1.overlay.internal: dc1 is taken for the data centre first, and web for a network.
        var named = SampleConfig.Front with { Name = "dc1" };
        Assert.Equal(0, Ask("web.dc1.overlay.internal", RrType.A, [named]));
        Assert.Equal(16, Ask("web.dc1.dc1.overlay.internal", RrType.A, [named]));
        Assert.Equal(16, Ask("web.dc1", RrType.A, [named]));
    }

    /// <returns>Octets of the record that lasts; 0: none does.</returns>
    private static int Ask(string name, RrType type, DnsNetwork[] networks, bool ownFirst = true)
    {
        var views = networks.Select(network =>
        {
            var view = new NetworkView(network.Id, network.Name, zone.Suffix, 5);
            view.Apply(network);
            return view;
        }).ToList();
        var nodes = new NetworkView("", "node", zone.Suffix, 5, reverse: false);
        nodes.Apply(new DnsNetwork { Id = "", Name = "node", Endpoints = [SampleConfig.Endpoint("n", "node-a", "192.0.2.1")] });
        var listener = new ListenerView(zone, new Scope([.. views, nodes], internalOnly: false), null, [], null, false) { OwnNetworkFirst = ownFirst };
        var processor = new QueryProcessor(new ServerCookies(TimeProvider.System));
        var packet = new byte[4096];
        byte[] query =
        [
            0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, .. name.Split('.').SelectMany(label => (byte[])[(byte)label.Length, .. Encoding.ASCII.GetBytes(label)]), 0,
            0, (byte)type, 0, 1,
        ];
        query.CopyTo(packet, 0);
        fixed (byte* p = packet)
        {
            processor.Process(p, query.Length, tcp: false, ClientAddress.From(IPAddress.Loopback), listener);
            return processor.LastingRecord.Length;
        }
    }
}
