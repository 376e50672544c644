using OverlayNet.Contracts;
using OverlayNet.Daemon.Registry;
using OverlayNet.Daemon.Registry.Store;
using OverlayNet.Vip.Fence;

namespace OverlayNet.UnitTests.Daemon.Registry;

/// <summary>Floating VIPs in the registry: what is refused and why, and that leases are written by guarded commits only.</summary>
public sealed class FloatingVipTests
{
    private static VipCreateRequest Request(string name = "front", int vrid = 51, params string[] addresses) => new()
    {
        Name = name,
        Addresses = addresses.Length == 0 ? ["192.0.2.100/24"] : [.. addresses],
        Vrid = vrid,
        Interface = "eth0",
    };

    private static VipLeaseCommit Commit(string? holder, long epoch, long guard, long incarnation = 1) => new()
    {
        Lease = new VipLease { Holder = holder, Incarnation = incarnation, Epoch = epoch, TtlMs = 4000, Priority = 100 },
        GuardRevision = guard,
        GuardIncarnation = incarnation,
    };

    private static string NodeId(int number) => RegistryFixture.Node(number).Id;

    public static TheoryData<string, VipCreateRequest> Refused() => new()
    {
        { "vrid '0'", Request(vrid: 0) },
        { "vrid '256'", Request(vrid: 256) },
        { "advertMs '5'", Request() with { AdvertMs = 5 } },
        { "advert", Request() with { AdvertMs = 41000 } },
        { "advert", Request() with { AdvertMs = 500, Version = 2 } },
        { "version", Request(addresses: "2001:db8::100/64") with { Version = 2 } },
        { "addresses '192.0.2.1'", Request(addresses: "192.0.2.1/24") },
        { "addresses '192.0.2.300/24'", Request(addresses: "192.0.2.300/24") },
        { "addresses '224.0.0.18/32'", Request(addresses: "224.0.0.18/32") },
        { "addresses '10.96.0.5'", Request(addresses: "10.96.0.5/24") },
        { "priorities '255'", Request() with { Priorities = ["255"] } },
        { "priorities '150'", Request() with { Priorities = ["n1=150", "n2=150"] } },
        { "priorities '100'", Request() with { Mode = FloatingVipMode.Vrrp } },
        { "node 'nobody'", Request() with { Priorities = ["nobody=10"] } },
        { "interface 'lo'", Request() with { Interface = "lo" } },
        { "notify 'moved'", Request() with { Notify = "moved" } },
        { "tracks 'disk:/'", Request() with { Tracks = ["disk:/"] } },
        { "tracks 'process:x,weight=900'", Request() with { Tracks = ["process:x,weight=900"] } },
        { "service", Request() with { Ports = ["80"] } },
        { "ports '81/tcp'", Request() with { Service = "web", Ports = ["81"] } },
    };

    [Theory]
    [MemberData(nameof(Refused))]
    public async Task What_cannot_work_is_refused_with_the_field_and_a_remedy(string says, VipCreateRequest request)
    {
        await using var fixture = await RegistryFixture.StartAsync();
        await fixture.NetworkAsync(subnet: "10.96.0.0/24");
        await fixture.ServiceAsync(ports: "80");
        var before = fixture.Registry.Current.Revision;
        var refusal = await Assert.ThrowsAsync<RegistryException>(() => fixture.Registry.CreateVipAsync(request));
        Assert.StartsWith(says, refusal.Message, StringComparison.Ordinal);
        Assert.False(string.IsNullOrEmpty(refusal.Error.Remedy));
        Assert.Equal(before, fixture.Registry.Current.Revision);
    }

    [Fact]
    public async Task Vrid_address_and_name_are_taken_once_by_whichever_manager()
    {
        await using var fixture = await RegistryFixture.StartAsync();
        await using var other = await fixture.AnotherAsync();
        await fixture.Registry.CreateVipAsync(Request());
        foreach (var (code, request) in new[]
                 {
                     ("name-taken", Request(vrid: 52, addresses: "192.0.2.101/24")),
                     ("vrid-taken", Request("other", 51, "192.0.2.101/24")),
                     ("address-taken", Request("other", 52, "192.0.2.100/24")),
                 })
            Assert.Equal(code, (await Assert.ThrowsAsync<RegistryException>(() => other.CreateVipAsync(request))).Error.Code);
        // Two at once: the index keys decide.
        var both = await Task.WhenAll(new[] { fixture.Registry, other }.Select(async (registry, i) =>
        {
            try
            {
                await registry.CreateVipAsync(Request($"v{i}", 60, $"192.0.2.11{i}/24"));
                return true;
            }
            catch (RegistryException)
            {
                return false;
            }
        }));
        Assert.Single(both, made => made);
    }

    [Fact]
    public async Task A_lease_is_written_on_exactly_the_revision_that_was_seen()
    {
        await using var fixture = await RegistryFixture.StartAsync();
        var registry = fixture.Registry;
        var vip = (await registry.CreateVipAsync(Request())).Value;
        var first = await registry.CommitLeaseAsync(vip.LeaseSet, Commit(NodeId(1), 1, 0));
        Assert.Equal(VipLeaseOutcome.Committed, first.Outcome);
        Assert.Equal(VipLeaseOutcome.Conflict, (await registry.CommitLeaseAsync(vip.LeaseSet, Commit(NodeId(2), 1, 0))).Outcome);
        Assert.Equal(VipLeaseOutcome.Conflict, (await registry.CommitLeaseAsync(vip.LeaseSet, Commit(NodeId(2), 2, first.Revision, incarnation: 2))).Outcome);
        var reading = await registry.ReadLeaseAsync(vip.LeaseSet, default);
        Assert.Equal((NodeId(1), first.Revision, 1L), (reading.Lease!.Holder, reading.Revision, reading.Incarnation));
        await Eventually.True(() => registry.Leases.Leases.ContainsKey(vip.LeaseSet));
        Assert.Equal("stale-epoch", (await Assert.ThrowsAsync<RegistryException>(() => registry.CommitLeaseAsync(vip.LeaseSet, Commit(NodeId(2), 1, first.Revision)))).Error.Code);
        var second = await registry.CommitLeaseAsync(vip.LeaseSet, Commit(NodeId(2), 2, first.Revision));
        Assert.Equal(VipLeaseOutcome.Committed, second.Outcome);
        await Eventually.True(() => registry.Current.VipHolders.GetValueOrDefault(vip.LeaseSet)?.Epoch == 2);
        Assert.Equal(NodeId(2), registry.Current.VipHolders[vip.LeaseSet].NodeId);
    }

    [Fact]
    public async Task Renewals_make_no_revision_that_agents_hear_of()
    {
        await using var fixture = await RegistryFixture.StartAsync();
        var registry = fixture.Registry;
        var vip = (await registry.CreateVipAsync(Request())).Value;
        var revision = (await registry.CommitLeaseAsync(vip.LeaseSet, Commit(NodeId(1), 1, 0))).Revision;
        await Eventually.True(() => registry.Current.Revision == revision);
        for (var i = 0; i < 20; i++)
            revision = (await registry.CommitLeaseAsync(vip.LeaseSet, Commit(NodeId(1), 1, revision))).Revision;
        await Eventually.True(() => registry.Leases.Revision == revision);
        Assert.Equal(20, revision - registry.Current.Revision);
        // What comes after is seen at once, and nothing waits for the revisions that nobody hears of.
        await registry.CreateVipAsync(Request("other", 52, "192.0.2.101/24"));
        Assert.Equal(2, registry.Current.Vips.Count);
        Assert.True(registry.Current.Revision > revision);
    }

    [Fact]
    public async Task The_stream_gives_a_node_its_leases_and_the_bids_placed_since()
    {
        await using var fixture = await RegistryFixture.StartAsync();
        var registry = fixture.Registry;
        var vip = (await registry.CreateVipAsync(Request())).Value;
        await registry.PlaceBidAsync(vip.LeaseSet, new VipBid { NodeId = NodeId(2), Priority = 1 });
        await Eventually.True(() => registry.Leases.Bids.Count == 1);
        using var stop = new CancellationTokenSource(TimeSpan.FromSeconds(20));
        await using var stream = registry.WatchLeasesAsync(NodeId(1), null, stop.Token).GetAsyncEnumerator();
        Assert.True(await stream.MoveNextAsync());
        Assert.Null(stream.Current.Reading!.Lease);
        await registry.CommitLeaseAsync(vip.LeaseSet, Commit(NodeId(1), 1, 0));
        Assert.True(await stream.MoveNextAsync());
        Assert.Equal(NodeId(1), stream.Current.Reading!.Lease!.Holder);
        await registry.PlaceBidAsync(vip.LeaseSet, new VipBid { NodeId = NodeId(2), Priority = 150 });
        Assert.True(await stream.MoveNextAsync());
        Assert.Equal((NodeId(2), 150), (stream.Current.Bid!.NodeId, stream.Current.Bid.Priority));
    }

    [Fact]
    public async Task The_address_of_a_removed_vip_rests_while_its_holder_may_still_answer()
    {
        await using var fixture = await RegistryFixture.StartAsync();
        var registry = fixture.Registry;
        var vip = (await registry.CreateVipAsync(Request())).Value;
        var lease = await registry.CommitLeaseAsync(vip.LeaseSet, Commit(NodeId(1), 1, 0));
        await Eventually.True(() => registry.Leases.Leases.ContainsKey(vip.LeaseSet));
        await registry.RemoveVipAsync("front");
        Assert.Equal("address-rests", (await Assert.ThrowsAsync<RegistryException>(() => registry.CreateVipAsync(Request()))).Error.Code);
        // The holder's renewal finds nothing to renew.
        Assert.Equal(404, (await Assert.ThrowsAsync<RegistryException>(() => registry.CommitLeaseAsync(vip.LeaseSet, Commit(NodeId(1), 1, lease.Revision)))).Status);
        fixture.Time.Advance(FloatingVipRules.LongestTtl + TimeSpan.FromSeconds(1));
        Assert.NotEqual(vip.Id, (await registry.CreateVipAsync(Request())).Value.Id);
    }

    [Fact]
    public async Task A_group_must_agree_and_has_one_lease()
    {
        await using var fixture = await RegistryFixture.StartAsync();
        var registry = fixture.Registry;
        var one = (await registry.CreateVipAsync(Request() with { SyncGroup = "pair" })).Value;
        Assert.Equal("sync-group-differs", (await Assert.ThrowsAsync<RegistryException>(
            () => registry.CreateVipAsync(Request("back", 52, "192.0.2.101/24") with { SyncGroup = "pair", Profile = FenceProfile.Fast }))).Error.Code);
        var two = (await registry.CreateVipAsync(Request("back", 52, "192.0.2.101/24") with { SyncGroup = "pair" })).Value;
        Assert.Equal(one.LeaseSet, two.LeaseSet);
    }

    [Fact]
    public async Task A_move_needs_a_holder_and_a_node_that_takes_part()
    {
        await using var fixture = await RegistryFixture.StartAsync();
        var registry = fixture.Registry;
        var vip = (await registry.CreateVipAsync(Request() with { Priorities = ["n1=150"] })).Value;
        Assert.Equal("no-holder", (await Assert.ThrowsAsync<RegistryException>(() => registry.MoveVipAsync("front", "n1"))).Error.Code);
        await registry.CommitLeaseAsync(vip.LeaseSet, Commit(NodeId(1), 1, 0));
        await Eventually.True(() => registry.Current.VipHolders.ContainsKey(vip.LeaseSet));
        Assert.Equal("not-a-candidate", (await Assert.ThrowsAsync<RegistryException>(() => registry.MoveVipAsync("front", "n2"))).Error.Code);
        await registry.MoveVipAsync("front", "n1");
        await Eventually.True(() => registry.Leases.Bids.Values.Any(bid => bid.Value.Bid is { Forced: true }));
    }

    [Fact]
    public void The_policies_and_their_contract_have_the_same_values()
    {
        foreach (var policy in Enum.GetValues<StoreLossPolicy>())
            Assert.Equal(policy.ToString(), ((StoreLoss)policy).ToString());
        Assert.Equal(FenceTiming.Default.LongestTtl, FloatingVipRules.LongestTtl);
        Assert.Equal(FenceTiming.Default.MaxHold, FloatingVipRules.MaxHold);
    }
}
