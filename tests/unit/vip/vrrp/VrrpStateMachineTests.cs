using System.Collections.Immutable;
using System.Net;
using OverlayNet.Vip.Vrrp;

namespace OverlayNet.UnitTests.Vip.Vrrp;

public sealed class VrrpStateMachineTests
{
    private static readonly IPAddress Local = IPAddress.Parse("192.0.2.2");
    private static readonly IPAddress Higher = IPAddress.Parse("192.0.2.3");
    private static readonly IPAddress Lower = IPAddress.Parse("192.0.2.1");
    private static readonly VirtualAddress Address = VirtualAddress.Parse("192.0.2.10/24");

    private VrrpRouter _router = null!;
    private ImmutableArray<VrrpOutput> _said = [];

    private void Given(VrrpConfig? config = null) => _router = VrrpRouter.Create(config ?? Config, Local);

    private static VrrpConfig Config => new() { VirtualRouterId = 51, Addresses = [Address] };

    private void At(double seconds, VrrpInput input) =>
        (_router, _said) = VrrpStateMachine.Step(_router, TimeSpan.FromSeconds(seconds), input);

    private static VrrpInput Advert(IPAddress source, byte priority, int intervalCs = 100, VrrpVersion version = VrrpVersion.V3) =>
        new VrrpInput.Received(new VrrpAdvertisement
        {
            Version = version,
            VirtualRouterId = 51,
            Priority = priority,
            IntervalCs = intervalCs,
            Source = source,
            Addresses = [Address.Address],
        });

    private void BecomeActive()
    {
        At(0, new VrrpInput.Startup());
        At(_router.NextTimer!.Value.TotalSeconds, new VrrpInput.TimersDue());
        Assert.Equal(VrrpState.Active, _router.State);
    }

    private bool Says<T>() where T : VrrpOutput => _said.Any(o => o is T);

    [Fact]
    public void Listens_for_the_active_down_interval_then_takes_over()
    {
        Given();
        At(0, new VrrpInput.Startup());
        Assert.Equal(VrrpState.Backup, _router.State);
        Assert.Equal(3.609375, _router.NextTimer!.Value.TotalSeconds, 6);
        At(3.609375, new VrrpInput.TimersDue());
        Assert.Collection(_said,
            o => Assert.IsType<VrrpOutput.Transition>(o),
            o => Assert.Equal(new VrrpOutput.SendAdvertisement(100), o),
            o => Assert.IsType<VrrpOutput.AddAddresses>(o),
            o => Assert.Equal(new VrrpOutput.Announce(5), o));
    }

    [Fact]
    public void The_owner_is_active_at_once()
    {
        Given(Config with { Priority = 255 });
        At(0, new VrrpInput.Startup());
        Assert.Equal(VrrpState.Active, _router.State);
    }

    [Fact]
    public void Announcements_are_repeated_after_the_delay_and_after_a_heal()
    {
        Given();
        BecomeActive();
        Assert.Equal(3.609375 + 5, _router.AnnounceTimer!.Value.TotalSeconds, 6);
        At(8.7, new VrrpInput.TimersDue());
        Assert.Contains(new VrrpOutput.Announce(5), _said);
        Assert.Null(_router.AnnounceTimer);
        At(20, new VrrpInput.Healed("link up"));
        Assert.True(Says<VrrpOutput.Announce>());
        Assert.NotNull(_router.AnnounceTimer);
    }

    [Fact]
    public void The_received_interval_governs_skew_and_down_time()
    {
        Given();
        At(0, new VrrpInput.Startup());
        At(1, Advert(Higher, 150, intervalCs: 10));
        Assert.Equal(1 + 0.3609375, _router.ActiveDownTimer!.Value.TotalSeconds, 6);
        Assert.Contains(_said, o => o is VrrpOutput.Alarm { Kind: VrrpAlarm.IntervalMismatch });
        At(1.05, Advert(Higher, 150, intervalCs: 10));
        Assert.Empty(_said);
    }

    [Fact]
    public void Version_2_drops_another_interval()
    {
        Given(Config with { Version = VrrpVersion.V2 });
        At(0, new VrrpInput.Startup());
        At(1, Advert(Higher, 150, intervalCs: 200, version: VrrpVersion.V2));
        Assert.Equal(3.609375, _router.ActiveDownTimer!.Value.TotalSeconds, 6);
        At(1, Advert(Higher, 150, version: VrrpVersion.V2));
        Assert.Equal(4.609375, _router.ActiveDownTimer!.Value.TotalSeconds, 6);
    }

    [Fact]
    public void Priority_0_shortens_the_wait_to_skew()
    {
        Given();
        At(0, new VrrpInput.Startup());
        At(1, Advert(Higher, 150));
        At(2, Advert(Higher, 0));
        Assert.Equal(2.609375, _router.ActiveDownTimer!.Value.TotalSeconds, 6);
    }

    [Fact]
    public void A_backup_discards_lower_priority_and_so_preempts()
    {
        Given();
        At(0, new VrrpInput.Startup());
        for (var t = 1; t <= 3; t++)
            At(t, Advert(Higher, 50));
        At(3.61, new VrrpInput.TimersDue());
        Assert.Equal(VrrpState.Active, _router.State);
        Assert.Contains("preempts 192.0.2.3", _router.LastTransitionReason, StringComparison.Ordinal);
    }

    [Fact]
    public void Without_preemption_a_lower_active_router_stays()
    {
        Given(Config with { Preempt = false });
        At(0, new VrrpInput.Startup());
        At(3, Advert(Higher, 50));
        Assert.Equal(6.609375, _router.ActiveDownTimer!.Value.TotalSeconds, 6);
    }

    [Fact]
    public void Preempt_delay_counts_from_the_first_lower_advertisement()
    {
        Given(Config with { PreemptDelay = TimeSpan.FromSeconds(10) });
        At(0, new VrrpInput.Startup());
        for (var t = 1; t <= 10; t++)
            At(t, Advert(Higher, 50));
        Assert.Equal(13.609375, _router.ActiveDownTimer!.Value.TotalSeconds, 6);
        At(11, Advert(Higher, 50));
        At(12, Advert(Higher, 50));
        At(13.61, new VrrpInput.TimersDue());
        Assert.Equal(VrrpState.Active, _router.State);
    }

    [Fact]
    public void Start_up_delay_takes_over_from_nobody()
    {
        Given(Config with { Priority = 255, StartupDelay = TimeSpan.FromSeconds(30) });
        At(0, new VrrpInput.Startup());
        Assert.Equal(VrrpState.Backup, _router.State);
        At(5, Advert(Higher, 100));
        At(29, Advert(Higher, 100));
        At(29.5, Advert(Higher, 0));
        Assert.True(_router.ActiveDownTimer >= TimeSpan.FromSeconds(30));
    }

    [Fact]
    public void An_active_router_answers_a_lower_one_at_once_and_announces_again()
    {
        Given();
        BecomeActive();
        At(4, Advert(Lower, 100));
        Assert.Contains(new VrrpOutput.SendAdvertisement(100), _said);
        Assert.True(Says<VrrpOutput.Announce>());
        Assert.Equal(VrrpState.Active, _router.State);
        Assert.Equal(5, _router.AdverTimer!.Value.TotalSeconds, 6);
    }

    [Theory]
    [InlineData(100, true)]
    [InlineData(101, true)]
    [InlineData(99, false)]
    public void An_active_router_yields_to_higher_priority_or_equal_with_higher_address(byte priority, bool yields)
    {
        Given();
        BecomeActive();
        At(4, Advert(Higher, priority));
        Assert.Equal(yields ? VrrpState.Backup : VrrpState.Active, _router.State);
        Assert.Equal(yields, Says<VrrpOutput.RemoveAddresses>());
        Assert.DoesNotContain(new VrrpOutput.SendAdvertisement(0), _said);
    }

    [Fact]
    public void An_active_router_answers_priority_0()
    {
        Given();
        BecomeActive();
        At(4, Advert(Lower, 0));
        Assert.Equal(new VrrpOutput.SendAdvertisement(100), Assert.Single(_said));
    }

    [Fact]
    public void Shutdown_says_priority_0_before_the_addresses_go()
    {
        Given();
        BecomeActive();
        At(5, new VrrpInput.Shutdown("stopped"));
        Assert.IsType<VrrpOutput.SendAdvertisement>(_said[0]);
        Assert.IsType<VrrpOutput.RemoveAddresses>(_said[1]);
        Assert.Equal(VrrpState.Initialize, _router.State);
        Assert.Null(_router.NextTimer);
        At(6, new VrrpInput.PriorityChanged(90, "late verdict"));
        Assert.Equal(VrrpState.Initialize, _router.State);
    }

    [Fact]
    public void A_fault_hands_over_and_its_end_returns_to_backup()
    {
        Given();
        BecomeActive();
        At(5, new VrrpInput.PriorityChanged(0, "interface eth0 is down"));
        Assert.Contains(new VrrpOutput.SendAdvertisement(0), _said);
        Assert.Equal(VrrpState.Initialize, _router.State);
        At(6, new VrrpInput.PriorityChanged(100, "interface eth0 is up"));
        Assert.Equal(VrrpState.Backup, _router.State);
    }

    [Fact]
    public void A_reload_moves_nothing_and_touches_only_what_changed()
    {
        Given();
        BecomeActive();
        var second = VirtualAddress.Parse("192.0.2.11/24");
        At(5, new VrrpInput.Reconfigured(Config with { Addresses = [Address, second] }));
        Assert.Equal(VrrpState.Active, _router.State);
        var added = Assert.Single(_said.OfType<VrrpOutput.AddAddresses>());
        Assert.Equal([second], added.Addresses);
        Assert.False(Says<VrrpOutput.RemoveAddresses>());
        At(6, new VrrpInput.Reconfigured(Config with { Addresses = [second], Priority = 42 }));
        Assert.Equal(42, _router.Priority);
        Assert.True(Says<VrrpOutput.RemoveAddresses>());
    }

    [Fact]
    public void Strangers_are_alarmed_about_once_and_unicast_strangers_ignored()
    {
        Given();
        At(0, new VrrpInput.Startup());
        At(1, Advert(Local, 200));
        Assert.Contains(_said, o => o is VrrpOutput.Alarm { Kind: VrrpAlarm.OwnSourceAddress });
        Assert.Null(_router.ActiveRouter);
        At(2, Advert(Higher, 200, version: VrrpVersion.V2));
        Assert.Contains(_said, o => o is VrrpOutput.Alarm { Kind: VrrpAlarm.VersionMismatch });
        At(2, Advert(Higher, 100));
        Assert.Contains(_said, o => o is VrrpOutput.Alarm { Kind: VrrpAlarm.EqualPriority });
        At(3, Advert(Higher, 100));
        Assert.Empty(_said);

        Given(Config with { UnicastPeers = [Lower] });
        At(0, new VrrpInput.Startup());
        At(1, Advert(Higher, 200));
        Assert.Null(_router.ActiveRouter);
        At(1, Advert(Lower, 200));
        Assert.NotNull(_router.ActiveRouter);
    }

    [Fact]
    public void Fenced_waits_for_a_permit_and_ignores_higher_priorities()
    {
        Given(Config with { Fenced = true, Priority = 255 });
        At(0, new VrrpInput.Startup());
        Assert.Equal(VrrpState.Backup, _router.State);
        Assert.Null(_router.NextTimer);
        At(1, Advert(Higher, 0));
        Assert.Null(_router.NextTimer);
        At(2, new VrrpInput.Permit("lease"));
        Assert.Equal(VrrpState.Active, _router.State);
        At(3, Advert(Higher, 255));
        Assert.Equal(VrrpState.Active, _router.State);
        Assert.Contains(_said, o => o is VrrpOutput.Alarm { Kind: VrrpAlarm.UnfencedPeer });
        Assert.True(Says<VrrpOutput.Announce>());
        At(4, new VrrpInput.Revoke(Graceful: false, "deadline"));
        Assert.DoesNotContain(new VrrpOutput.SendAdvertisement(0), _said);
        Assert.True(Says<VrrpOutput.RemoveAddresses>());
    }

    [Fact]
    public void Tracking_follows_keepalived_weights()
    {
        var up = new VrrpTrack { Name = "a", Weight = 10 };
        var down = new VrrpTrack { Name = "b", Weight = -20, Fall = 2 };
        Assert.Equal(110, VrrpTracking.EffectivePriority(100, [up, down]).Priority);
        down = down.Observe(false);
        Assert.True(down.Up);
        down = down.Observe(false);
        Assert.Equal(90, VrrpTracking.EffectivePriority(100, [up, down]).Priority);
        Assert.Equal(255, VrrpTracking.EffectivePriority(255, [up, down]).Priority);
        var fault = new VrrpTrack { Name = "eth0", Kind = VrrpTrackKind.Interface, Up = false };
        Assert.Equal((0, "interface eth0 is down"), VrrpTracking.EffectivePriority(255, [fault]));
        Assert.Equal(1, VrrpTracking.EffectivePriority(5, [down]).Priority);
        Assert.Equal(254, VrrpTracking.EffectivePriority(250, [up]).Priority);
    }

    [Fact]
    public void A_sync_group_moves_together_and_waits_for_its_faulty_member()
    {
        var members = ImmutableArray.Create(VrrpRouter.Create(Config, Local), VrrpRouter.Create(Config with { VirtualRouterId = 52 }, Local));
        void Group(double seconds, int member, VrrpInput input) =>
            (members, _) = VrrpSyncGroup.Step(members, member, TimeSpan.FromSeconds(seconds), input);
        Group(0, 0, new VrrpInput.Startup());
        Group(0, 1, new VrrpInput.Startup());
        Group(3.61, 0, new VrrpInput.TimersDue());
        Assert.All(members, m => Assert.Equal(VrrpState.Active, m.State));
        Group(5, 1, new VrrpInput.PriorityChanged(0, "fault"));
        Assert.Equal(VrrpState.Backup, members[0].State);
        Group(9, 0, new VrrpInput.TimersDue());
        Assert.Equal(VrrpState.Backup, members[0].State);
        Group(10, 1, new VrrpInput.PriorityChanged(100, "mended"));
        Group(15, 0, new VrrpInput.TimersDue());
        Assert.All(members, m => Assert.Equal(VrrpState.Active, m.State));
    }
}
