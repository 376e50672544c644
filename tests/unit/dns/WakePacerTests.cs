using OverlayNet.Dns.Server;

namespace OverlayNet.UnitTests.Dns;

public sealed class WakePacerTests
{
    private const long Second = 1_000_000_000;
    private const long Answering = 10_000, Waiting = 100_000;

    [Theory]
    [InlineData(20_000, true)] // hundreds of containers
    [InlineData(60_000, true)]
    [InlineData(5_000, false)] // too little to gather
    public void WaitsFromARateOnAtWhichQueriesGather(int rate, bool expected)
    {
        var pacer = new WakePacer(Second);
        var gap = Second / rate;
        var (now, answered, passes, waits) = (0L, 0L, 0, 0);
        while (now < Second)
        {
            // What came while it answered and waited, or the next one, slept for.
            now = Math.Max(now, (answered + 1) * gap);
            var queries = (int)(now / gap - answered);
            answered += queries;
            now += queries * Answering;
            passes++;
            if (pacer.ShouldWait(now, queries))
            {
                waits++;
                now += Waiting;
            }
        }

        if (expected)
            Assert.InRange(waits, passes * 9 / 10, passes);
        else
            Assert.Equal(0, waits);
    }

    [Fact]
    public void OneQueryAfterTheOtherIsMadeToWaitForOneWindowInHalfASecond()
    {
        var pacer = new WakePacer(Second);
        var (now, waits) = (0L, 0);
        while (now < 10 * Second)
        {
            now += 40_000;
            if (pacer.ShouldWait(now, 1))
            {
                waits++;
                now += Waiting;
            }
        }

        Assert.InRange(waits, 1, 20 * 40);
    }

    [Fact]
    public void FullPassesDoNotWait()
    {
        var pacer = new WakePacer(Second);
        for (var i = 0; i < 1000; i++)
            Assert.False(pacer.ShouldWait(i * 200_000, 16));
    }

    [Fact]
    public void StopsWhenTheLoadEnds()
    {
        var pacer = new WakePacer(Second);
        var now = 0L;
        for (var i = 0; i < 1000; i++)
            pacer.ShouldWait(now += 100_000, 3);
        Assert.True(pacer.ShouldWait(now += 100_000, 3));

        Assert.False(pacer.ShouldWait(now + Second, 1));
    }
}
