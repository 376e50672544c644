using OverlayNet.Dns.Server;

namespace OverlayNet.UnitTests.Dns;

public sealed class BatchPacerTests
{
    private const long Second = 1_000_000_000;

    [Theory]
    [InlineData(100_000, 8, 2, true)] // a forwarder with few sockets
    [InlineData(100_000, 8, 8, false)] // clients of a query each: nothing is gained
    [InlineData(100_000, 40, 4, false)] // full batches come by themselves
    [InlineData(20_000, 4, 1, false)] // too little to gather
    [InlineData(50_000, 1, 1, false)] // one query after the other
    public void WaitsOnlyWhereAnswersShareMessages(int rate, int queries, int messages, bool expected)
    {
        var pacer = new BatchPacer(Second);
        var waits = 0;
        var batches = rate / queries;
        for (var i = 0; i < batches; i++)
            waits += pacer.ShouldWait(Second * i / batches, queries, messages) ? 1 : 0;

        if (expected)
            Assert.InRange(waits, batches * 9 / 10, batches);
        else
            Assert.Equal(0, waits);
    }

    [Fact]
    public void StopsWhenTheLoadEnds()
    {
        var pacer = new BatchPacer(Second);
        var now = 0L;
        for (var i = 0; i < 1000; i++)
            pacer.ShouldWait(now += 50_000, 8, 2);
        Assert.True(pacer.ShouldWait(now += 50_000, 8, 2));

        Assert.False(pacer.ShouldWait(now + Second, 1, 1));
    }
}
