using OverlayNet.Vip.Balancers.Nft;

namespace OverlayNet.UnitTests.Vip.Balancers;

public sealed class BucketsTests
{
    [Theory]
    [InlineData(new[] { 8, 8, 8 }, 3)]
    [InlineData(new[] { 8, 2 }, 5)]
    [InlineData(new[] { 8, 8, 2 }, 9)]
    [InlineData(new[] { 1 }, 1)]
    [InlineData(new[] { 65535, 65535 }, 2)]
    [InlineData(new[] { 0, 0 }, 0)]
    [InlineData(new int[0], 0)]
    [InlineData(new[] { 8, 0, 8 }, 2)]
    public void As_few_buckets_as_shares_need(int[] weights, int buckets) => Assert.Equal(buckets, Buckets.Fill(weights).Length);

    [Fact]
    public void Shares_are_kept_for_any_weights()
    {
        var random = new Random(42);
        for (var round = 0; round < 2000; round++)
        {
            int[] weights = [.. Enumerable.Range(0, random.Next(1, 12)).Select(_ => random.Next(5) == 0 ? 0 : random.Next(1, random.Next(2, 65536)))];
            var buckets = Buckets.Fill(weights);
            var sum = weights.Sum(weight => (double)weight);
            if (sum == 0)
            {
                Assert.Empty(buckets);
                continue;
            }
            Assert.InRange(buckets.Length, weights.Count(weight => weight > 0), Buckets.Usual);
            for (var i = 0; i < weights.Length; i++)
            {
                var count = buckets.Count(bucket => bucket == i);
                Assert.Equal(weights[i] > 0, count > 0);
                // Each tiny weight still has a bucket of its own: that is the only way to be off by more than a point.
                Assert.InRange((double)count / buckets.Length - weights[i] / sum, -0.01 - (weights.Length - 1.0) / Buckets.Usual, 0.01 + 1.0 / Buckets.Usual);
            }
        }
    }

    [Fact]
    public void Consistent_buckets_move_only_what_they_must()
    {
        int[] weights = [.. Enumerable.Repeat(8, 10)];
        ulong[] keys = [.. Enumerable.Range(1, 10).Select(i => (ulong)i * 7919)];
        var before = Buckets.FillConsistently(weights, keys);
        weights[3] = 0;
        var after = Buckets.FillConsistently(weights, keys);
        Assert.DoesNotContain(3, after);
        for (var i = 0; i < before.Length; i++)
            Assert.True(before[i] == 3 || before[i] == after[i]);
        Assert.All(Enumerable.Range(0, 10), server => Assert.InRange(before.Count(bucket => bucket == server), 8, 50));
    }

    [Fact]
    public void A_class_is_a_number_and_back()
    {
        foreach (var service in new[] { ServiceClass.Refuse, new(5, true, false, 0), new(16383, true, true, 65535), new(1, false, true, 60) })
            Assert.Equal(service, ServiceClass.FromId(service.Id));
    }
}
