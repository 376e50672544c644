using System.Net;
using OverlayNet.Daemon.Health;
using OverlayNet.Kernel.Netlink;

namespace OverlayNet.UnitTests.Daemon.Health;

/// <summary>From sockets and tracked flows to what clients see of each endpoint.</summary>
public sealed class PassiveSignTests
{
    private const byte Established = 1, SynSent = 2, TimeWait = 6, TrackedEstablished = 3, TrackedClose = 8;
    private static readonly IPAddress Client = IPAddress.Parse("10.1.0.9"), Vip = IPAddress.Parse("10.1.0.2"), A = IPAddress.Parse("10.1.0.11"), B = IPAddress.Parse("fd00::b");
    private readonly Dictionary<string, (int Flows, int Troubled)> _signs = [];

    [Fact]
    public void A_socket_to_the_vip_counts_for_the_real_server_that_tracking_names()
    {
        Count([Flow(40000, A, TrackedEstablished)], [Socket(40000, Vip, SynSent, retransmits: 1), Socket(40001, Vip, SynSent, retransmits: 1)]);
        Assert.Equal((1, 1), _signs["a"]);
        Assert.Single(_signs);
    }

    [Fact]
    public void A_socket_that_was_connected_straight_to_it_counts_too_in_either_family()
    {
        Count([], [Socket(40000, A, Established), Socket(40001, A.MapToIPv6(), Established, retransmits: 1), Socket(40002, B, Established, retransmits: 2), Socket(40003, B, TimeWait)]);
        Assert.Equal((2, 0), _signs["a"]);
        Assert.Equal((1, 1), _signs["b"]);
    }

    [Fact]
    public void A_reset_is_remembered_by_tracking_alone()
    {
        Count([Flow(40000, A, TrackedClose)], []);
        Assert.Equal((1, 1), _signs["a"]);
    }

    private void Count(IReadOnlyList<TrackedFlow> flows, IReadOnlyList<DiagSocket> sockets) =>
        PassiveSigns.Count(new Dictionary<IPAddress, string> { [A] = "a", [B] = "b" }, flows, sockets, _signs);

    private static TrackedFlow Flow(ushort port, IPAddress server, byte state) => new(
        new FlowTuple(Client, Vip, 6, port, 80), new FlowTuple(server, Client, 6, 8080, port), 1 << 5, state, 0, port);

    private static DiagSocket Socket(int port, IPAddress remote, byte state, int retransmits = 0) =>
        new((byte)(remote.GetAddressBytes().Length == 4 ? 2 : 10), 6, state, new IPEndPoint(Client, port), new IPEndPoint(remote, 80), 1, 1, null) { Retransmits = retransmits };
}
