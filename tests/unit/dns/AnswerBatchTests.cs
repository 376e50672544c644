using System.Net;
using System.Net.Sockets;
using OverlayNet.Dns;
using OverlayNet.Dns.Answer;
using OverlayNet.Dns.Server;

namespace OverlayNet.UnitTests.Dns;

/// <summary>Answers that share a message arrive as the datagrams they would have been alone.</summary>
public sealed unsafe class AnswerBatchTests
{
    private const int Capacity = 64;

    public static TheoryData<string> Loopbacks => ["127.0.0.1", "::1"];

    [Theory]
    [MemberData(nameof(Loopbacks))]
    public void EqualAnswersToOneClientShareAMessage(string address)
    {
        using var peers = new Peers(IPAddress.Parse(address), clients: 2);

        // Client 0: 20 of 40 octets and 2 of 60; client 1: 5 of 40.
        var messages = peers.Send([.. Enumerable.Repeat((0, 40), 10), (1, 40), (0, 60), .. Enumerable.Repeat((0, 40), 10), (0, 60), .. Enumerable.Repeat((1, 40), 4)]);

        Assert.Equal(1 + 2 + 1, messages);
        Assert.Equal(19 + 4, peers.Batch.Merged);
        peers.AssertAllArrived();
    }

    [Theory]
    [MemberData(nameof(Loopbacks))]
    public void AnyMixArrivesWhole(string address)
    {
        using var peers = new Peers(IPAddress.Parse(address), clients: 5);
        var random = new Random(1);
        for (var round = 0; round < 200; round++)
        {
            peers.Send([.. Enumerable.Range(0, random.Next(1, Capacity + 1)).Select(_ => (random.Next(5), random.Next(3) == 0 ? random.Next(12, 1233) : 61))]);
            peers.AssertAllArrived();
        }

        Assert.True(peers.Batch.Merged > 1000);
        Assert.Equal(0, peers.Batch.Failed);
    }

    [Fact]
    public void TheLargestAnswersDoNotExceedAMessage()
    {
        using var peers = new Peers(IPAddress.Loopback, clients: 1);
        var messages = peers.Send([.. Enumerable.Repeat((0, Limits.EdnsUdp), Capacity)]);
        Assert.Equal(2, messages);
        peers.AssertAllArrived();
    }

    [Fact]
    public void WhereTheKernelCannotCutEachGoesAlone()
    {
        using var peers = new Peers(IPAddress.Loopback, clients: 1);
        // SO_NO_CHECK: without checksums the kernel refuses to cut (net/ipv4/udp.c, udp_send_skb).
        peers.SetServerOption(level: 1, name: 11, value: 1);

        peers.Send([.. Enumerable.Repeat((0, 50), 8)]);
        peers.AssertAllArrived();
        var messages = peers.Send([.. Enumerable.Repeat((0, 50), 8)]);
        peers.AssertAllArrived();

        Assert.Equal(8, messages);
        Assert.Equal(0, peers.Batch.Failed);
    }

    /// <summary>A server's socket and clients that know what they are to receive.</summary>
    private sealed class Peers : IDisposable
    {
        private readonly ListenerSocket _server;
        private readonly Socket _options;
        private readonly Socket[] _clients;
        private readonly List<string>[] _expected;
        private readonly byte[] _packets = GC.AllocateArray<byte>(Capacity * Limits.EdnsUdp, pinned: true);
        private readonly byte[] _addresses = GC.AllocateArray<byte>(Capacity * 32, pinned: true);
        private int _serial;

        public Peers(IPAddress address, int clients)
        {
            var udp = DnsSockets.OpenUdp(new IPEndPoint(address, 0));
            _options = new Socket(new SafeSocketHandle(udp.DangerousGetHandle(), ownsHandle: false));
            _server = new ListenerSocket(udp, leaveOpen: false, new ListenerView(new ZoneInfo("overlay.internal", "dc1", 1), new Scope([], false), null, [], null, false));
            _clients = [.. Enumerable.Range(0, clients).Select(_ => new Socket(address.AddressFamily, SocketType.Dgram, ProtocolType.Udp) { ReceiveTimeout = 5000 })];
            foreach (var client in _clients)
                client.Bind(new IPEndPoint(address, 0));
            _expected = [.. _clients.Select(_ => new List<string>())];
        }

        public AnswerBatch Batch { get; } = new(Capacity);

        public void SetServerOption(int level, int name, int value) => _options.SetRawSocketOption(level, name, BitConverter.GetBytes(value));

        public int Send((int Client, int Length)[] answers)
        {
            Batch.Clear();
            fixed (byte* packets = _packets, addresses = _addresses)
            {
                for (var i = 0; i < answers.Length; i++)
                {
                    var (client, length) = answers[i];
                    var packet = _packets.AsSpan(i * Limits.EdnsUdp, length);
                    new Random(_serial++).NextBytes(packet);
                    _expected[client].Add(Convert.ToHexString(packet));
                    var address = _clients[client].LocalEndPoint!.Serialize();
                    address.Buffer.Span[..address.Size].CopyTo(_addresses.AsSpan(i * 32));
                    Batch.Add(packets + i * Limits.EdnsUdp, length, addresses + i * 32, address.Size);
                }

                return Batch.Send(_server);
            }
        }

        public void AssertAllArrived()
        {
            var buffer = new byte[65536];
            for (var i = 0; i < _clients.Length; i++)
            {
                var received = _expected[i].Select(_ => Convert.ToHexString(buffer.AsSpan(0, _clients[i].Receive(buffer)))).ToList();
                Assert.Equal(_expected[i].Order(StringComparer.Ordinal), received.Order(StringComparer.Ordinal));
                Assert.Equal(0, _clients[i].Available);
                _expected[i].Clear();
            }
        }

        public void Dispose()
        {
            _server.Close();
            _options.Dispose();
            Batch.Dispose();
            foreach (var client in _clients)
                client.Dispose();
        }
    }
}
