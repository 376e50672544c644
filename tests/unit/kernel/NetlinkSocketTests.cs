using System.Net;
using OverlayNet.Kernel;
using OverlayNet.Kernel.Netlink;
using static OverlayNet.UnitTests.Kernel.ScriptedNetlinkTransport;

namespace OverlayNet.UnitTests.Kernel;

/// <summary>Requests, dumps, batches and notifications against a scripted kernel.</summary>
public sealed class NetlinkSocketTests
{
    private static readonly Neighbour Entry = new(2, IPAddress.Parse("10.96.0.9"), MacAddress.Parse("02:42:00:00:00:09"));

    [Fact]
    public void ARefusalCarriesTheObjectTheErrorAndTheKernelsText()
    {
        using var socket = new NetlinkSocket(new ScriptedNetlinkTransport(sent => [Ack(sent[0], 22, "Network address not specified")]));
        var refusal = Assert.Throws<NetlinkException>(() => new RouteNeighbours(socket).Add(Entry));
        Assert.Equal((22, "Network address not specified"), (refusal.Errno, refusal.Detail));
        Assert.Contains("add neighbour 10.96.0.9", refusal.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void ExtendedAcksOfTheKernelAreRead()
    {
        using var einval = new NetlinkSocket(new ScriptedNetlinkTransport(sent => [Answering(RecordedMessages.RefusedNeighbour, sent[0])]));
        Assert.Equal(new NetlinkResult(22, "Network address not specified"), RouteNeighbours.Adding(Entry).TrySend(einval));
        using var erange = new NetlinkSocket(new ScriptedNetlinkTransport(sent => [Answering(RecordedMessages.RefusedVxlan, sent[0])]));
        Assert.Equal(new NetlinkResult(34, "VXLAN ID must be lower than 16777216"), RouteNeighbours.Adding(Entry).TrySend(erange));
    }

    [Fact]
    public void AnErrorThatEchoesTheWholeMessageIsReadToo()
    {
        // A kernel without NETLINK_CAP_ACK: the attributes stand behind the failed message, not behind its header.
        using var socket = new NetlinkSocket(new ScriptedNetlinkTransport(sent =>
        {
            byte[] text = [9, 0, 1, 0, (byte)'n', (byte)'o', (byte)'p', (byte)'e', 0, 0, 0, 0];
            return [Message(Error, sent[0].Sequence, 0x200, [.. BitConverter.GetBytes(-17), .. sent[0].Octets, .. text])];
        }));
        Assert.Equal(new NetlinkResult(17, "nope"), RouteNeighbours.Adding(Entry).TrySend(socket));
    }

    [Fact]
    public void AnswersToOthersAreSkipped()
    {
        using var socket = new NetlinkSocket(new ScriptedNetlinkTransport(sent =>
            [Message(Error, sent[0].Sequence - 1, 0, 0xea, 0xff, 0xff, 0xff), Message(28, 0), Ack(sent[0])]));
        Assert.True(RouteNeighbours.Adding(Entry).TrySend(socket).Ok);
    }

    [Fact]
    public void ABatchGivesEveryMessageItsOwnResultAndAsksForOneAcknowledgementAChunk()
    {
        const int count = 10_000;
        var chunks = 0;
        var transport = new ScriptedNetlinkTransport(sent =>
        {
            chunks++;
            Assert.All(sent[..^1], message => Assert.False(message.Flags.HasFlag(NetlinkFlags.Ack)));
            Assert.True(sent[^1].Flags.HasFlag(NetlinkFlags.Ack));
            // The kernel answers only refusals and what asks for it.
            return sent.Where(message => message.Sequence % 100 == 0 && message != sent[^1]).Select(message => Ack(message, 17, "taken")).Append(Ack(sent[^1]));
        });
        using var socket = new NetlinkSocket(transport);
        var results = RouteRequest.SendAll(socket, [.. Enumerable.Repeat(RouteNeighbours.Adding(Entry), count)]);
        Assert.True(chunks > 1);
        Assert.Equal(count, results.Length);
        for (var i = 0; i < count; i++)
        {
            var refused = results[i].Errno == 17;
            Assert.Equal(transport.Sent[i].Sequence % 100 == 0 && !transport.Sent[i].Flags.HasFlag(NetlinkFlags.Ack), refused);
        }
        Assert.Equal(transport.Sent.Select(message => message.Sequence), Enumerable.Range(0, count).Select(i => transport.Sent[0].Sequence + (uint)i));
        Assert.Empty(RouteRequest.SendAll(socket, []));
    }

    [Fact]
    public void ADumpOfSeveralDatagramsIsOneList()
    {
        using var socket = new NetlinkSocket(new ScriptedNetlinkTransport(sent => Split(Answering(RecordedMessages.Neighbours, sent[0]))));
        Assert.Equal(2, new RouteNeighbours(socket).Dump().Count);
    }

    [Fact]
    public void AnInterruptedDumpIsTakenAgain()
    {
        var tries = 0;
        using var socket = new NetlinkSocket(new ScriptedNetlinkTransport(sent =>
        {
            var answer = Answering(RecordedMessages.Neighbours, sent[0]);
            if (++tries < 3)
                answer[6] |= 0x10; // NLM_F_DUMP_INTR
            return [answer];
        }));
        Assert.Equal(2, new RouteNeighbours(socket).Dump().Count);
        Assert.Equal(3, tries);
    }

    [Fact]
    public void ADumpMayFailHalfWay()
    {
        using var socket = new NetlinkSocket(new ScriptedNetlinkTransport(sent => [Message(Done, sent[0].Sequence, 2, 0xf4, 0xff, 0xff, 0xff)]));
        Assert.Equal(12, Assert.Throws<NetlinkException>(() => new RouteNeighbours(socket).Dump()).Errno);
    }

    [Fact]
    public void AnOverrunReachesTheCallerAndTheSocketGoesOn()
    {
        var full = true;
        using var socket = new NetlinkSocket(new ScriptedNetlinkTransport(sent =>
        {
            (full, var now) = (false, full);
            // The acknowledgement of the first request comes late, in front of the second's.
            return now ? [null, Ack(sent[0], 22)] : [Ack(sent[0])];
        }));
        Assert.Throws<NetlinkOverrunException>(() => RouteNeighbours.Adding(Entry).TrySend(socket));
        Assert.True(RouteNeighbours.Adding(Entry).TrySend(socket).Ok);
    }

    [Fact]
    public void AStoppedSocketEndsTheWaitOfARequest()
    {
        using var socket = new NetlinkSocket(new ScriptedNetlinkTransport(_ => []));
        Assert.Throws<OperationCanceledException>(() => RouteNeighbours.Adding(Entry).TrySend(socket));
    }

    [Fact]
    public void GetWithoutAnAnswerSaysSo()
    {
        using var absent = new NetlinkSocket(new ScriptedNetlinkTransport(sent => [Ack(sent[0], 19)]));
        Assert.Null(new RouteLinks(absent).Get("br0"));
        using var present = new NetlinkSocket(new ScriptedNetlinkTransport(sent => [Answering(RecordedMessages.Bridge, sent[0]), Ack(sent[0])]));
        Assert.Equal("br0", new RouteLinks(present).Get("br0")!.Name);
        using var empty = new NetlinkSocket(new ScriptedNetlinkTransport(sent => [Ack(sent[0])]));
        Assert.Null(new RouteLinks(empty).Get("br0"));
    }

    [Fact]
    public void TheMonitorHandsOverChangesAndTellsOfLostOnes()
    {
        var transport = new ScriptedNetlinkTransport(_ => []);
        transport.Push(RecordedMessages.Neighbours);
        transport.Push(null);
        transport.Push(RecordedMessages.VxlanPort);
        using var resync = new CountdownEvent(1);
        var heard = new System.Collections.Concurrent.ConcurrentQueue<object>();
        using (var monitor = new NetlinkMonitor(new NetlinkSocket(transport), RouteGroups.All, change => heard.Enqueue(change.Subject), () => resync.Signal()))
            Assert.True(resync.Wait(TimeSpan.FromSeconds(60)));
        Assert.True(transport.Disposed);
        Assert.Equal([1u, 3u, 5u, 9u, 7u, 11u], transport.Groups);
        Assert.Equal(2, heard.OfType<Neighbour>().Count());
    }

    private static IEnumerable<byte[]> Split(byte[] datagram) => SentMessage.Split(datagram).Select(message => message.Octets);
}
