using System.Net;
using FsCheck;
using FsCheck.Fluent;
using OverlayNet.Contracts;
using OverlayNet.Daemon.Registry;

namespace OverlayNet.UnitTests.Daemon.Registry;

/// <summary>Long random histories of taking and freeing, against a model.</summary>
public sealed class AddressPoolProperties
{
    private static readonly TimeSpan Quarantine = TimeSpan.FromSeconds(60);

    /// <param name="Kind">0: free one, 1: let time pass, else: take one.</param>
    private sealed record Step(int Kind, int Choice);

    private static Arbitrary<Step[]> Histories() => (
        from kind in Gen.Choose(0, 5)
        from choice in Gen.Choose(0, 1000)
        select new Step(kind, choice)).ArrayOf(200).ToArbitrary();

    [Theory]
    [InlineData("10.0.0.0/29", null)]
    [InlineData("10.0.0.0/27", "10.0.0.8/29")]
    [InlineData("10.0.0.0/24", null)]
    [InlineData("fd00::/125", null)]
    [InlineData("fd00::/64", null)]
    public void NoAddressTwiceAndQuarantineHolds(string subnetText, string? rangeText)
    {
        var subnet = IPNetwork.Parse(subnetText);
        var range = rangeText is null ? subnet : IPNetwork.Parse(rangeText);
        var gateway = Prefixes.At(subnet, 1);
        var property = Prop.ForAll(Histories(), history =>
        {
            var table = new AddressTable();
            var pool = new AddressPool(table, subnet, rangeText is null ? null : range, gateway);
            var taken = new List<IPAddress>();
            var freedAt = new Dictionary<IPAddress, long>();
            var (now, last) = (1_000_000L, (IPAddress?)null);
            foreach (var step in history)
            {
                if (step.Kind == 1)
                    now += step.Choice * 100L;
                else if (step.Kind == 0 && taken.Count > 0)
                {
                    var address = taken[step.Choice % taken.Count];
                    taken.Remove(address);
                    freedAt[address] = now;
                    table.Entries[address] = new AddressEntry(null, now, 1);
                }
                else if (step.Kind > 1)
                {
                    var address = pool.Next(last, now, Quarantine);
                    var usable = Usable(subnet, range, gateway);
                    if (address is null)
                    {
                        // Exhausted only when every address that may be given out is taken.
                        if (usable is null || usable.Any(a => !taken.Contains(a)))
                            return false;
                        continue;
                    }
                    if (taken.Contains(address) || !range.Contains(address) || pool.Reserved(address) is not null)
                        return false;
                    if (freedAt.TryGetValue(address, out var at) && now - at < Quarantine.TotalMilliseconds)
                    {
                        // Early only when nothing else is left, and then the one that has rested longest.
                        if (usable is null || usable.Any(a => !taken.Contains(a)
                            && (!freedAt.TryGetValue(a, out var other) || now - other >= Quarantine.TotalMilliseconds || other < at)))
                            return false;
                    }
                    taken.Add(address);
                    freedAt.Remove(address);
                    table.Entries[address] = new AddressEntry("endpoint/x", 0, 1);
                    last = address;
                }
            }
            return true;
        });
        Check.One(Config.QuickThrowOnFailure.WithMaxTest(200).WithReplay(new Replay(new Rnd(20260101, 7), null)), property);
    }

    /// <returns>Null: too many to list, hence never exhausted by a history.</returns>
    private static List<IPAddress>? Usable(IPNetwork subnet, IPNetwork range, IPAddress gateway)
    {
        if (Prefixes.LastOffset(range) > 1024)
            return null;
        var all = new List<IPAddress>();
        for (var i = 0; i <= (int)Prefixes.LastOffset(range); i++)
        {
            var address = Prefixes.At(range, (UInt128)i);
            var offset = Prefixes.Offset(subnet, address);
            var broadcast = Prefixes.Bits(address) == 32 && offset == Prefixes.LastOffset(subnet);
            if (offset != 0 && !broadcast && !address.Equals(gateway))
                all.Add(address);
        }
        return all;
    }

    [Fact]
    public void AllocationIsSerial()
    {
        var table = new AddressTable();
        var pool = new AddressPool(table, IPNetwork.Parse("10.0.0.0/24"), null, IPAddress.Parse("10.0.0.1"));
        IPAddress? last = null;
        for (var i = 2; i <= 254; i++)
        {
            last = pool.Next(last, 0, Quarantine)!;
            Assert.Equal($"10.0.0.{i}", last.ToString());
            // Freed at once: still not the next one.
            table.Entries[last] = new AddressEntry(null, -1_000_000, 1);
        }
        Assert.Equal("10.0.0.2", pool.Next(last, 0, Quarantine)!.ToString());
    }

    [Fact]
    public void AClockThatWasSetBackDoesNotPutAnAddressAwayForGood()
    {
        var table = new AddressTable();
        var pool = new AddressPool(table, IPNetwork.Parse("10.0.0.0/24"), null, IPAddress.Parse("10.0.0.1"));
        table.Entries[IPAddress.Parse("10.0.0.2")] = new AddressEntry(null, 10_000_000, 1);
        Assert.Equal("10.0.0.2", pool.Next(null, 1_000_000, Quarantine)!.ToString());
        Assert.Equal("10.0.0.3", pool.Next(null, 9_990_000, Quarantine)!.ToString());
    }

    [Fact]
    public void MacsAreUniqueInANetworkAndLocal()
    {
        var macs = Enumerable.Range(0, 4096).Select(i => MacAddresses.Derive("net", Prefixes.At(IPNetwork.Parse("10.0.0.0/16"), (UInt128)i)));
        Assert.Equal(4096, macs.Distinct().Count());
        foreach (var mac in (string[])[MacAddresses.Derive("net", IPAddress.Parse("10.0.0.1")), MacAddresses.Derive("net", IPAddress.Parse("fd00::1"))])
        {
            Assert.Matches("^([0-9a-f]{2}:){5}[0-9a-f]{2}$", mac);
            Assert.Equal(2, Convert.ToByte(mac[..2], 16) & 3);
        }
        Assert.NotEqual(MacAddresses.Derive("a", IPAddress.Parse("10.0.0.1")), MacAddresses.Derive("b", IPAddress.Parse("10.0.0.1")));
    }
}
