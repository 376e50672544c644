using FsCheck;
using FsCheck.Fluent;
using OverlayNet.Vip.Balancers.Ebpf;

namespace OverlayNet.UnitTests.Vip.Ebpf;

public class AliasTableTests
{
    [Fact]
    public void NoWeightNoSlot()
    {
        Assert.Empty(AliasTable.Build([]).Slots);
        Assert.Empty(AliasTable.Build([(1, 0), (2, 0)]).Slots);
    }

    [Fact]
    public void EqualWeightsAreWholeSlots()
    {
        var (slots, even) = AliasTable.Build([(7, 3), (8, 0), (9, 3)]);
        Assert.True(even);
        Assert.Equal([new Slot(uint.MaxValue, 7, 7), new Slot(uint.MaxValue, 9, 9)], slots);
    }

    [Fact]
    public void EveryCandidateGetsItsShare() => Check.One(Config.QuickThrowOnFailure.WithReplay(20, 21), Prop.ForAll(
        Gen.OneOf(Gen.Choose(0, 10), Gen.Choose(0, 65535)).ListOf().ToArbitrary(),
        weights =>
        {
            var (slots, _) = AliasTable.Build([.. weights.Select((weight, i) => ((uint)i, weight))]);
            var shares = new double[weights.Count];
            foreach (var slot in slots)
            {
                var first = slot.First == slot.Second ? 1 : slot.Threshold / 4294967296.0;
                shares[slot.First] += first / slots.Length;
                shares[slot.Second] += (1 - first) / slots.Length;
            }
            double total = weights.Sum();
            return slots.Length == weights.Count(weight => weight > 0)
                && weights.Select((weight, i) => total == 0 ? shares[i] == 0 : Math.Abs(shares[i] - weight / total) < 1e-9).All(ok => ok);
        }));

    /// <summary>What the programs do with the table: turns times the golden ratio.</summary>
    [Theory]
    [InlineData(100, 3, new[] { 8, 2 })]
    [InlineData(2000, 4, new[] { 8, 2 })]
    [InlineData(1000, 5, new[] { 1, 2, 3, 4 })]
    [InlineData(1000, 5, new[] { 65535, 32768, 1, 100 })]
    public void TurnsSpreadCloselyWhereverTheyBegin(int connections, int within, int[] weights)
    {
        var (slots, _) = AliasTable.Build([.. weights.Select((weight, i) => ((uint)i, weight))]);
        var random = new Random(7);
        for (var trial = 0; trial < 50; trial++)
        {
            var start = (ulong)random.NextInt64();
            var counts = new int[weights.Length];
            for (var i = 0; i < connections; i++)
            {
                var scaled = ((start + (ulong)i) * 0x9e3779b97f4a7c15 >> 32) * (ulong)slots.Length;
                var slot = slots[scaled >> 32];
                counts[(uint)scaled < slot.Threshold ? slot.First : slot.Second]++;
            }
            for (var i = 0; i < weights.Length; i++)
                Assert.InRange(counts[i] - (double)connections * weights[i] / weights.Sum(), -within, within);
        }
    }
}
