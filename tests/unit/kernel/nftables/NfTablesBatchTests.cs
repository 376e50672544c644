using OverlayNet.Kernel.Netlink;

namespace OverlayNet.UnitTests.Kernel.Nftables;

/// <summary>Batches against bytes that the kernel took and nft listed back, and the socket's side against a scripted kernel.</summary>
public sealed class NfTablesBatchTests
{
    private static readonly NfTable Table = new(NfFamily.IPv4, "t");

    [Fact]
    public void A_batch_is_begun_and_ended_and_carries_the_generation()
    {
        var sent = Send(generation: 7, static (ref NfTablesBatch batch) => batch.AddTable(Table, "me"));
        Assert.Equal(
            "1c000000" + "1000" + "0100" + "SSSSSSSS" + "00000000" + "0000000a" + "0800010000000007" +          // begin, subsystem 10, generation 7
            "30000000" + "000a" + "0504" + "SSSSSSSS" + "00000000" + "02000000" +                                 // NEWTABLE, create, ack
            "0600010074000000" + "0800020000000000" + "0900060000036d6500000000" +                                  // name, flags, comment
            "14000000" + "1100" + "0100" + "SSSSSSSS" + "00000000" + "0000000a",                                  // end
            sent);
    }

    [Fact]
    public void Expressions_are_written_as_nft_writes_them()
    {
        // ip daddr 10.0.0.2 tcp dport 80 dnat to register: payload, cmp, meta, cmp, payload, cmp, nat.
        var expressions = new NfExpressions().Payload(NfPayloadBase.Network, 16, 4, 0).Compare(NfCompare.Equal, 0, [10, 0, 0, 2]);
        Assert.Equal(
            "34000180" + "0c0001007061796c6f616400" + "24000280" + "0800010000000008" + "0800020000000001" + "0800030000000010" + "0800040000000004" +
            "2c000180" + "08000100636d7000" + "20000280" + "0800010000000008" + "0800020000000000" + "0c000380" + "080001000a000002",
            Convert.ToHexStringLower(expressions.Written));
        Assert.Equal("10000180" + "0c0001006e6f747261636b00", Convert.ToHexStringLower(new NfExpressions().NoTrack().Written));
    }

    [Fact]
    public void Elements_of_one_set_share_messages_of_less_than_64_KiB()
    {
        var batch = new NfTablesBatch();
        for (var i = 0; i < 10_000; i++)
            batch.AddElement(Table, "m", BitConverter.GetBytes(i), [1, 2, 3, 4]);
        Assert.InRange(batch.Count, 5, 10);
        batch.DeleteElement(Table, "m", [0, 0, 0, 0]);
        batch.AddElement(Table, "n", [0, 0, 0, 0]);
        var count = batch.Count;
        batch.AddElement(Table, "n", [0, 0, 0, 1]);
        Assert.Equal(count, batch.Count);
        batch.Dispose();
    }

    [Fact]
    public void A_refusal_names_the_object_and_the_kernels_words()
    {
        var refusal = Assert.Throws<NetlinkException>(() => Send(0, static (ref NfTablesBatch batch) =>
        {
            batch.AddTable(Table);
            batch.AddElement(Table, "m", [1, 0, 0, 0]);
        }, (transport, sent) => transport.Answer(Error(sent, message: 2, errno: 17))));
        Assert.True(refusal.AlreadyExists);
        Assert.StartsWith("add elements to set m of nftables table ip t: ", refusal.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_changed_generation_is_an_answer_and_a_busy_kernel_is_asked_again()
    {
        var transport = new ScriptedTransport();
        using var nft = new NfTables(new NetlinkSocket(transport));
        var sends = 0;
        transport.OnSend = sent => transport.Answer(Error(sent, message: 0, errno: sends++ == 0 ? 11 : 85));
        var batch = new NfTablesBatch();
        batch.AddTable(Table);
        Assert.False(nft.TryCommit(ref batch, 5));
        Assert.Equal(2, sends);
    }

    private delegate void Fill(ref NfTablesBatch batch);

    private static string Send(uint generation, Fill fill, Action<ScriptedTransport, byte[]>? answer = null)
    {
        var transport = new ScriptedTransport();
        byte[] datagram = [];
        transport.OnSend = sent =>
        {
            datagram = sent;
            if (answer is null)
                transport.Answer(Error(sent, Messages(sent).Count - 2, 0));
            else
                answer(transport, sent);
        };
        using var nft = new NfTables(new NetlinkSocket(transport));
        var batch = new NfTablesBatch();
        fill(ref batch);
        Assert.True(nft.TryCommit(ref batch, generation));
        var text = Convert.ToHexStringLower(datagram).ToCharArray();
        foreach (var offset in Messages(datagram))
            text.AsSpan((offset + 8) * 2, 8).Fill('S');
        return new string(text);
    }

    private static List<int> Messages(byte[] datagram)
    {
        var offsets = new List<int>();
        for (var offset = 0; offset < datagram.Length; offset += (int)(BitConverter.ToUInt32(datagram, offset) + 3 & ~3u))
            offsets.Add(offset);
        return offsets;
    }

    /// <summary>NLMSG_ERROR for one message of a datagram, its header echoed (NETLINK_CAP_ACK).</summary>
    private static byte[] Error(byte[] sent, int message, int errno)
    {
        var failed = sent.AsSpan(Messages(sent)[message], 16);
        var answer = new byte[36];
        BitConverter.TryWriteBytes(answer, 36);
        answer[4] = 2;
        answer[7] = 1;
        failed.Slice(8, 4).CopyTo(answer.AsSpan(8));
        BitConverter.TryWriteBytes(answer.AsSpan(16), -errno);
        failed.CopyTo(answer.AsSpan(20));
        return answer;
    }

    private sealed class ScriptedTransport : INetlinkTransport
    {
        private readonly Queue<byte[]> answers = new();

        public Action<byte[]> OnSend { get; set; } = _ => { };

        public void Answer(byte[] datagram) => answers.Enqueue(datagram);

        public void Send(ReadOnlySpan<byte> datagram) => OnSend(datagram.ToArray());

        public int Receive(Span<byte> buffer)
        {
            var answer = answers.Dequeue();
            answer.CopyTo(buffer);
            return answer.Length;
        }

        public void Join(uint group)
        {
        }

        public void Stop()
        {
        }

        public void Dispose()
        {
        }
    }
}
