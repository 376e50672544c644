using FsCheck;
using FsCheck.Fluent;
using OverlayNet.Vip.Balancers.Ebpf;

namespace OverlayNet.UnitTests.Vip.Ebpf;

public class RangeAllocatorTests
{
    [Fact]
    public void TakesFirstFitAndJoinsWhatIsFreed()
    {
        var ranges = new RangeAllocator(1, 11);
        Assert.Equal(1, ranges.Take(4));
        Assert.Equal(5, ranges.Take(4));
        Assert.Equal(-1, ranges.Take(3));
        ranges.Free(1, 4);
        Assert.Equal(-1, ranges.Take(5));
        ranges.Free(5, 4);
        Assert.Equal(1, ranges.Take(10));
        ranges.Grow(16);
        Assert.Equal(11, ranges.Take(5));
    }

    [Fact]
    public void TakesACertainRangeOnce()
    {
        var ranges = new RangeAllocator(1, 11);
        Assert.True(ranges.TakeAt(4, 3));
        Assert.False(ranges.TakeAt(6, 1));
        Assert.False(ranges.TakeAt(2, 3));
        Assert.False(ranges.TakeAt(10, 2));
        Assert.False(ranges.TakeAt(0, 1));
        Assert.True(ranges.TakeAt(1, 3));
        Assert.Equal(7, ranges.Take(4));
        Assert.Equal(-1, ranges.Take(1));
    }

    [Fact]
    public void NeverHandsOutAnIndexTwiceAndLosesNone() => Check.One(Config.QuickThrowOnFailure.WithReplay(20, 21), Prop.ForAll(
        Gen.Choose(-6, 9).ListOf().ToArbitrary(),
        steps =>
        {
            var ranges = new RangeAllocator(1, 64);
            var taken = new List<(int Start, int Length)>();
            foreach (var step in steps)
            {
                if (step > 0 && ranges.Take(step) is var start and > 0)
                    taken.Add((start, step));
                else if (step < 0 && taken.Count > 0)
                {
                    var (from, length) = taken[-step % taken.Count];
                    taken.RemoveAt(-step % taken.Count);
                    ranges.Free(from, length);
                }
            }
            var indices = taken.SelectMany(range => Enumerable.Range(range.Start, range.Length)).ToArray();
            var free = Enumerable.Range(1, 63).Except(indices).Count(_ => ranges.Take(1) > 0);
            return indices.Distinct().Count() == indices.Length && indices.Length + free == 63 && ranges.Take(1) == -1;
        }));
}
