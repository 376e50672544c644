using System.Net;
using System.Net.Sockets;
using OverlayNet.Dns;

namespace OverlayNet.UnitTests.Dns;

public sealed class ProtocolTests : IDisposable
{
    private static readonly DnsService Big = new()
    {
        Name = "big",
        Mode = DnsServiceMode.RoundRobin,
        Ports = [new("http", "tcp", 80)],
        Endpoints = [.. Enumerable.Range(1, 200).Select(i => SampleConfig.Endpoint("b" + i, "big-" + i, "10.1.1." + i, "fd01::1:" + i))],
    };

    private readonly DnsTestServer _server = new(
        SampleConfig.Config with { Networks = [SampleConfig.Front with { Services = [SampleConfig.Web, Big] }] });

    public void Dispose() => _server.Dispose();

    [Fact]
    public void ASubsetFitsIntoAPlainAnswer()
    {
        foreach (var type in new[] { RrType.A, RrType.AAAA })
        {
            var reply = _server.Ask("big.front.dc1.overlay.internal", type);
            Assert.False(reply.Tc);
            Assert.InRange(reply.Raw.Length, 200, 512);
            Assert.InRange(reply.Answers.Count, 14, 16);
        }
    }

    [Fact]
    public void ACutSetSaysSoAndTcpHasItAll()
    {
        var udp = _server.Ask("tasks.big", RrType.A);
        Assert.True(udp.Tc);
        Assert.InRange(udp.Raw.Length, 400, 512);
        var edns = _server.Ask("tasks.big", RrType.A, q => q.Edns = true);
        Assert.True(edns.Tc);
        Assert.InRange(edns.Raw.Length, 1100, 1232);
        var tcp = _server.ExchangeTcp(TestQuery.Build("tasks.big", RrType.A))[0];
        Assert.False(tcp.Tc);
        Assert.Equal(200, tcp.Data.Distinct().Count());
        var srv = _server.ExchangeTcp(TestQuery.Build("_http._tcp.big", RrType.SRV))[0];
        Assert.Equal(200, srv.Answers.Count);
        Assert.Equal(400, srv.Additionals.Count);
        Assert.All(srv.Additionals, a => Assert.EndsWith(".big.front.dc1.overlay.internal.", a.Name, StringComparison.Ordinal));
    }

    [Theory]
    [InlineData(0, 512)]
    [InlineData(512, 512)]
    [InlineData(900, 900)]
    [InlineData(1232, 1232)]
    [InlineData(65535, 1232)]
    public void TheClientsSizeIsClamped(int size, int most)
    {
        var reply = _server.Ask("tasks.big", RrType.A, q => { q.Edns = true; q.UdpSize = size; });
        Assert.InRange(reply.Raw.Length, most - 32, most);
        Assert.NotNull(reply.Opt);
    }

    [Fact]
    public void BadVersionIsToldOurs()
    {
        var reply = _server.Ask("web", RrType.A, q => { q.Edns = true; q.Version = 1; });
        Assert.Equal((int)Rcode.BadVers, reply.Rcode);
        Assert.Equal(0u, (reply.Opt!.Ttl >> 16) & 0xFF);
        Assert.Empty(reply.Answers);
    }

    [Fact]
    public void DnssecOkIsCopiedUnknownOptionsAndFlagsAreNot()
    {
        var reply = _server.Ask("web", RrType.A, q => { q.Edns = true; q.DnssecOk = true; q.Options.Add((65001, [1, 2, 3])); });
        Assert.Equal(0x8000u, reply.Opt!.Ttl);
        Assert.Empty(reply.Opt.Raw);
        Assert.Equal(["10.1.0.2"], reply.Data);
    }

    [Fact]
    public void NoEdnsIsAnsweredWithout() => Assert.Null(_server.Ask("web", RrType.A).Opt);

    [Fact]
    public void CookiesAreGivenAndStable()
    {
        byte[] client = [1, 2, 3, 4, 5, 6, 7, 8];
        var first = _server.Ask("web", RrType.A, q => { q.Edns = true; q.Options.Add((10, client)); }).Option(10)!;
        Assert.Equal(24, first.Length);
        Assert.Equal(client, first[..8]);
        Assert.Equal(1, first[8]);
        var second = _server.Ask("web", RrType.A, q => { q.Edns = true; q.Options.Add((10, first)); }).Option(10)!;
        Assert.Equal(client, second[..8]);
    }

    [Theory]
    [InlineData(7)]
    [InlineData(9)]
    [InlineData(15)]
    [InlineData(41)]
    public void CookiesOfIllegalLengthAreMalformed(int length) =>
        Assert.Equal((int)Rcode.FormErr, _server.Ask("web", RrType.A, q => { q.Edns = true; q.Options.Add((10, new byte[length])); }).Rcode);

    [Fact]
    public void AnyGetsOneSet()
    {
        var reply = _server.Ask("web-1", RrType.ANY);
        Assert.Equal(RrType.A, Assert.Single(reply.Answers).Type);
        Assert.Equal(RrType.SOA, Assert.Single(_server.Ask("empty.front.overlay.internal", RrType.ANY).Authorities).Type);
    }

    [Theory]
    [InlineData(RrType.AXFR, 1, Rcode.Refused)]
    [InlineData(RrType.IXFR, 1, Rcode.Refused)]
    [InlineData(RrType.TXT, 3, Rcode.Refused)]
    [InlineData(RrType.OPT, 1, Rcode.FormErr)]
    public void RefusedQuestions(RrType type, int @class, Rcode rcode) =>
        Assert.Equal((int)rcode, _server.Ask("web", type, q => q.Class = (ushort)@class).Rcode);

    [Fact]
    public void OtherOpcodesAreNotImplemented()
    {
        for (var opcode = 1; opcode < 16; opcode++)
        {
            var reply = _server.Ask("web", RrType.A, q => q.Flags1 = (byte)(opcode << 3));
            Assert.Equal((int)Rcode.NotImp, reply.Rcode);
            Assert.Equal(opcode, (reply.Flags1 >> 3) & 15);
        }
    }

    [Fact]
    public void FlagsAreEchoedOrCleared()
    {
        var reply = _server.Ask("web", RrType.A, q => q.Flags2 = 0x70); // Z, AD, CD
        Assert.Equal(0x90, reply.Flags2); // RA, CD
        Assert.Equal(0, _server.Ask("web", RrType.A, q => q.Flags1 = 0).Flags1 & 1);
    }

    [Fact]
    public void WhatIsNotAQueryIsDropped()
    {
        var response = TestQuery.Build("web", RrType.A);
        response[2] |= 0x80;
        Assert.Null(_server.TryExchange(response, 200));
        Assert.Null(_server.TryExchange([1, 2, 3], 200));
    }

    [Fact]
    public void MalformedQueriesAreToldSo()
    {
        var query = TestQuery.Build("web", RrType.A);
        foreach (var bad in new[]
        {
            [.. query[..12]],
            With(query, 5, 0),
            With(query, 5, 2),
            With(query, 12, 0xC0),
            With(query, 12, 0x40),
            query[..^1],
            [.. query, 1],
            With(query, 11, 1),
        })
            Assert.Equal((int)Rcode.FormErr, Reply.Parse(_server.TryExchange(bad)!).Rcode);
    }

    [Fact]
    public void TwoOptRecordsAreMalformed()
    {
        var query = TestQuery.Build("web", RrType.A, new QueryOptions { Edns = true });
        Assert.Equal((int)Rcode.FormErr, Reply.Parse(_server.TryExchange(With([.. query, .. query[^11..]], 11, 2))!).Rcode);
    }

    [Fact]
    public void TheRateLimitSlipsAndDrops()
    {
        // The clock stands still: what is saved up for one second is all there is.
        using var server = new DnsTestServer(SampleConfig.Config, options: new DnsServerOptions { ClientQueriesPerSecond = 50 }, time: new ManualTime());
        using var socket = new Socket(AddressFamily.InterNetwork, SocketType.Dgram, ProtocolType.Udp) { ReceiveTimeout = DnsTestServer.Patience, ReceiveBufferSize = 1 << 20 };
        socket.Connect(IPAddress.Loopback, server.Port);
        for (var i = 0; i < 400; i++)
            socket.Send(TestQuery.Build("web", RrType.A));
        var (full, truncated) = (0, 0);
        var buffer = new byte[512];
        while (full < 49 || truncated < 175)
        {
            var reply = Reply.Parse(buffer[..socket.Receive(buffer)]);
            if (reply.Tc)
                truncated++;
            else
                full++;
        }

        // Fifty are paid for, perhaps one of them by the datagram that told the thread of its socket; of the rest, every
        // other one is told to come back over TCP.
        Assert.InRange(full, 49, 50);
        Assert.Equal(175, truncated);
        Assert.Equal(["10.1.0.2"], server.ExchangeTcp(TestQuery.Build("web", RrType.A))[0].Data);
        Assert.InRange(server.Server.GetMetrics().RateLimited, 350, 351);
        Assert.Equal(0, socket.Available);
    }

    [Fact]
    public void IdleConnectionsAreClosed()
    {
        using var server = new DnsTestServer(SampleConfig.Config, options: new DnsServerOptions { TcpIdle = TimeSpan.FromMilliseconds(200) });
        using var client = new TcpClient();
        client.Connect(IPAddress.Loopback, server.Port);
        client.ReceiveTimeout = DnsTestServer.Patience;
        client.GetStream().Write([0, 40, 1]); // a query that never ends
        Assert.Equal(0, client.GetStream().Read(new byte[1]));
    }

    [Fact]
    public void ConnectionsPerClientAreCapped()
    {
        using var server = new DnsTestServer(SampleConfig.Config, options: new DnsServerOptions { TcpConnectionsPerClient = 2 });
        var clients = Enumerable.Range(0, 3).Select(_ => new TcpClient("127.0.0.1", server.Port) { ReceiveTimeout = DnsTestServer.Patience }).ToList();
        var query = TestQuery.Build("web", RrType.A);
        var answered = 0;
        foreach (var client in clients)
        {
            try
            {
                client.GetStream().Write([0, (byte)query.Length, .. query]);
                answered += client.GetStream().Read(new byte[512]) > 0 ? 1 : 0;
            }
            catch (IOException)
            {
                // Reset.
            }
        }

        Assert.Equal(2, answered);
        foreach (var client in clients)
            client.Dispose();
        Assert.True(SpinWait.SpinUntil(() => server.Server.GetMetrics().TcpConnections == 0, DnsTestServer.Patience));
        Assert.Equal(["10.1.0.2"], server.ExchangeTcp(query)[0].Data);
    }

    [Fact]
    public void KeepaliveIsToldOnConnectionsOnly()
    {
        var query = TestQuery.Build("web", RrType.A, new QueryOptions { Edns = true, Options = { (11, []) } });
        Assert.Equal([0, 100], _server.ExchangeTcp(query)[0].Option(11)!);
        Assert.Null(_server.Exchange(query).Option(11));
    }

    private static byte[] With(byte[] bytes, int at, byte value)
    {
        var copy = bytes.ToArray();
        copy[at] = value;
        return copy;
    }
}
