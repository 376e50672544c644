using FsCheck;
using FsCheck.Fluent;
using OverlayNet.Vip.Health;

namespace OverlayNet.UnitTests.Vip.Health;

public sealed class OutlierTests
{
    [Fact]
    public void One_that_clients_fare_badly_with_while_others_are_fine_is_found()
    {
        var found = Outliers.Find(3, [Sight("n1", "a", 20, 12), Sight("n1", "b", 20, 1), Sight("n1", "c", 20, 0)]);
        Assert.Equal([new Outlier("a", 20, 12)], found);
    }

    [Theory]
    // Few, or a minority, say nothing.
    [InlineData(4, 4)]
    [InlineData(40, 19)]
    public void Few_troubled_connections_say_nothing(int flows, int troubled) =>
        Assert.Empty(Outliers.Find(3, [Sight("n1", "a", flows, troubled), Sight("n1", "b", 20, 0), Sight("n1", "c", 20, 0)]));

    [Fact]
    public void A_node_that_fares_badly_with_most_is_set_aside()
    {
        Assert.Empty(Outliers.Find(3, [Sight("n1", "a", 20, 20), Sight("n1", "b", 20, 20), Sight("n1", "c", 20, 0)]));
        Assert.Empty(Outliers.Find(1, [Sight("n1", "a", 20, 20)]));
        // What it sees nothing of is over already, and so it is well.
        Assert.Equal("a", Outliers.Find(3, [Sight("n1", "a", 20, 20)]).Single().Id);
        Assert.Equal("a", Outliers.Find(3, [Sight("n1", "a", 9, 9), Sight("n1", "b", 9, 9), Sight("n2", "a", 9, 9), Sight("n2", "b", 9, 0)]).Single().Id);
    }

    [Fact]
    public void Never_more_than_a_tenth_of_a_service_is_out_by_passive_signals() => Prop.ForAll(
        Gen.Choose(0, 500).Zip(Gen.Choose(0, 500)).Zip(Gen.Choose(0, 100)).ToArbitrary(), drawn =>
        {
            var ((members, out_), percent) = drawn;
            var without = Math.Min(members, out_);
            var room = Outliers.Room(members, without, percent);
            return room >= 0 && (room == 0 || (without + room) * 100 <= members * Math.Min(percent, Outliers.MostPercent));
        }).QuickCheckThrowOnFailure();

    [Fact]
    public void Over_long_histories_a_service_keeps_nine_tenths_and_whoever_is_well_comes_back() => Prop.ForAll(
        Gen.Choose(1, int.MaxValue).ToArbitrary(), seed =>
        {
            var random = new Random(seed);
            var members = Enumerable.Range(0, 1 + random.Next(40)).Select(i => $"e{i:00}").ToList();
            var (ill, ejectedAt) = (new HashSet<string>(), new Dictionary<string, int>());
            for (var step = 0; step < 500; step++)
            {
                foreach (var id in members.Where(_ => random.Next(60) == 0))
                    _ = ill.Add(id) || ill.Remove(id);
                var sights = from node in Enumerable.Range(0, 3)
                             from id in members.Where(id => !ejectedAt.ContainsKey(id))
                             let flows = random.Next(20)
                             select Sight($"n{node}", id, flows, ill.Contains(id) ? flows : random.Next(10) == 0 ? 1 : 0);
                foreach (var outlier in Outliers.Find(members.Count, sights).Take(Outliers.Room(members.Count, ejectedAt.Count, 10)))
                {
                    if (outlier.Troubled > outlier.Flows || outlier.Troubled < Outliers.LeastTroubled)
                        return false;
                    ejectedAt[outlier.Id] = step;
                }
                if (ejectedAt.Count * 10 > members.Count)
                    return false;
                // The hold time ends it.
                foreach (var id in ejectedAt.Where(entry => step - entry.Value >= 10).Select(entry => entry.Key).ToList())
                    ejectedAt.Remove(id);
            }
            return true;
        }).QuickCheckThrowOnFailure();

    private static PassiveSight Sight(string node, string id, int flows, int troubled) => new(node, id, flows, troubled);
}
