using System.Collections.Immutable;
using System.Net;

namespace OverlayNet.Vip.Vrrp;

/// <summary>
/// RFC 9568 §6.4 (and RFC 3768 §6.4 for version 2) as a pure function: a state, the time and an input give the next
/// state and what to do. Beyond the RFCs: preempt delay, start-up delay, tracking, announcements repeated, and fenced
/// mode, where a permit replaces the peers' silence.
/// </summary>
public static class VrrpStateMachine
{
    public static (VrrpRouter Router, ImmutableArray<VrrpOutput> Outputs) Step(VrrpRouter router, TimeSpan now, VrrpInput input)
    {
        var step = new Stepper(router, now);
        step.Handle(input);
        return (step.Router, step.Outputs.ToImmutable());
    }

    /// <summary>Addresses compare as unsigned integers in network byte order (RFC 9568 §6.4.3).</summary>
    public static int CompareAddresses(IPAddress a, IPAddress b) =>
        a.GetAddressBytes().AsSpan().SequenceCompareTo(b.GetAddressBytes());

    private sealed class Stepper(VrrpRouter router, TimeSpan now)
    {
        public VrrpRouter Router = router;
        public readonly ImmutableArray<VrrpOutput>.Builder Outputs = ImmutableArray.CreateBuilder<VrrpOutput>();

        private VrrpConfig Config => Router.Config;

        public void Handle(VrrpInput input)
        {
            switch (input)
            {
                case VrrpInput.Startup:
                    Startup();
                    break;
                case VrrpInput.Shutdown shutdown:
                    Router = Router with { Started = false };
                    Leave(VrrpState.Initialize, graceful: true, shutdown.Reason);
                    break;
                case VrrpInput.Received received:
                    Receive(received.Advertisement);
                    break;
                case VrrpInput.TimersDue:
                    RunTimers();
                    break;
                case VrrpInput.PriorityChanged changed:
                    ChangePriority(changed.Priority, changed.Reason);
                    break;
                case VrrpInput.LocalAddressChanged changed:
                    Router = Router with { LocalAddress = changed.Address };
                    break;
                case VrrpInput.Reconfigured reconfigured:
                    Reconfigure(reconfigured.Config);
                    break;
                case VrrpInput.Healed:
                    if (Router.State == VrrpState.Active)
                        Assert();
                    break;
                case VrrpInput.Permit permit:
                    if (Router.State != VrrpState.Active && Router.Started && Router.Priority > 0)
                        BecomeActive(permit.Reason);
                    break;
                case VrrpInput.Revoke revoke:
                    if (Router.State == VrrpState.Active)
                        Leave(VrrpState.Backup, revoke.Graceful, revoke.Reason);
                    break;
                case VrrpInput.GroupBecameActive group:
                    if (Router.State == VrrpState.Backup)
                        BecomeActive(group.Reason);
                    break;
                case VrrpInput.GroupLeftActive group:
                    if (Router.State == VrrpState.Active)
                        Leave(VrrpState.Backup, graceful: true, group.Reason);
                    break;
            }
        }

        private void Startup()
        {
            if (Router.Started)
                return;
            Router = Router with { Started = true, StartupUntil = now + Config.StartupDelay };
            if (Router.Priority > 0)
                EnterFromInitialize("started");
        }

        // RFC 9568 §6.4.1: the owner goes straight to Active, everyone else listens first.
        private void EnterFromInitialize(string reason)
        {
            if (Router.Priority == VrrpPacket.OwnerPriority && !Config.Fenced && now >= Router.StartupUntil)
            {
                BecomeActive(reason);
                return;
            }

            Transition(VrrpState.Backup, reason);
            Router = Router with { ActiveAdverIntervalCs = Config.AdvertisementIntervalCs, ActiveRouter = null, PreemptAt = null };
            RestartActiveDownTimer(Later(now, Router.StartupUntil));
        }

        private void RunTimers()
        {
            if (Router.AnnounceTimer is { } announceAt && now >= announceAt)
                RepeatAnnouncement();
            if (Router.AdverTimer is { } adverAt && now >= adverAt)
                Advertise();
            if (Router.ActiveDownTimer is { } downAt && now >= downAt)
                BecomeActive(TakeOverReason());
        }

        private string TakeOverReason() => (Router.ActiveRouter, Router.PreemptAt) switch
        {
            (null, _) => "no Active Router heard",
            ({ } active, null) => $"no advertisement from {active.Source} for {ActiveDownInterval().TotalSeconds:0.###} s",
            ({ } active, _) => $"preempts {active.Source}, priority {active.Priority}",
        };

        private void Receive(VrrpAdvertisement advertisement)
        {
            Remember(advertisement);
            if (Router.State == VrrpState.Initialize || !Acceptable(advertisement))
                return;
            if (Router.State == VrrpState.Backup)
                ReceiveAsBackup(advertisement);
            else
                ReceiveAsActive(advertisement);
        }

        private void Remember(VrrpAdvertisement advertisement)
        {
            var heard = Router.Heard;
            foreach (var (source, router) in heard)
                if (now - router.At > VrrpRouter.HeardFor)
                    heard = heard.Remove(source);
            Router = Router with { Heard = heard.SetItem(advertisement.Source, new HeardRouter(advertisement, now)) };
        }

        private void ReceiveAsBackup(VrrpAdvertisement advertisement)
        {
            if (advertisement.Priority == VrrpPacket.ReleasePriority)
            {
                Router = Router with { PreemptAt = null };
                if (!Config.Fenced)
                    Router = Router with { ActiveDownTimer = Later(now, Router.StartupUntil) + Skew() };
                return;
            }

            var lower = advertisement.Priority < Router.Priority && (Config.Preempt || Router.Priority == VrrpPacket.OwnerPriority);
            if (lower)
            {
                Router = Router with { ActiveRouter = advertisement, PreemptAt = Router.PreemptAt ?? now + Config.PreemptDelay };
                if (now >= Router.PreemptAt && now >= Router.StartupUntil)
                    return;
            }
            else
                Router = Router with { ActiveRouter = advertisement, PreemptAt = null };

            Router = Router with { ActiveAdverIntervalCs = FollowedInterval(advertisement) };
            RestartActiveDownTimer(now);
        }

        private void ReceiveAsActive(VrrpAdvertisement advertisement)
        {
            if (Config.Fenced)
            {
                // The lease says who is right; neighbours that believed the other sender are told again.
                if (advertisement.Priority != VrrpPacket.ReleasePriority)
                    Assert();
                return;
            }

            if (advertisement.Priority == VrrpPacket.ReleasePriority)
            {
                Advertise();
                return;
            }

            var loses = advertisement.Priority > Router.Priority ||
                (advertisement.Priority == Router.Priority && CompareAddresses(advertisement.Source, Router.LocalAddress) > 0);
            if (!loses)
            {
                // Two Active Routers have met: the other believes us after one packet, the neighbours after an announcement.
                Assert();
                return;
            }

            Leave(VrrpState.Backup, graceful: false, $"{advertisement.Source} advertises priority {advertisement.Priority}");
            Router = Router with { ActiveRouter = advertisement, ActiveAdverIntervalCs = FollowedInterval(advertisement) };
            RestartActiveDownTimer(now);
        }

        // RFC 9568 §7.1: what needs the configuration. A v2 interval that differs is dropped (RFC 3768 §7.1), a v3 one is followed.
        private bool Acceptable(VrrpAdvertisement advertisement)
        {
            var source = advertisement.Source;
            if (source.Equals(Router.LocalAddress))
                return Refuse(VrrpAlarm.OwnSourceAddress, source, "an advertisement with this node's own source address: a loop, or a second machine with this address");
            if (Config.UnicastPeers.Count > 0 && !Config.UnicastPeers.Contains(source))
                return false;
            if (advertisement.Version != Config.Version)
                return Refuse(VrrpAlarm.VersionMismatch, source, $"the peer speaks version {(int)advertisement.Version}, this node {(int)Config.Version}; configure one version");
            if (advertisement.IntervalCs != Config.AdvertisementIntervalCs)
            {
                Raise(VrrpAlarm.IntervalMismatch, source, $"the peer advertises every {advertisement.IntervalCs * 10} ms, this node every {Config.AdvertisementIntervalCs * 10} ms; configure one interval");
                if (Config.Version == VrrpVersion.V2)
                    return false;
            }

            if (advertisement.Priority == VrrpPacket.OwnerPriority && Config.IsOwner)
                Raise(VrrpAlarm.SecondOwner, source, "two routers have priority 255; only the node that owns the addresses may");
            else if (advertisement.Priority == Config.Priority && !Config.Fenced)
                Raise(VrrpAlarm.EqualPriority, source, $"both have priority {Config.Priority}, so the higher address wins; give each node its own priority");
            if (!advertisement.Addresses.ToHashSet().SetEquals(Config.Addresses.Select(a => a.Address)))
                Raise(VrrpAlarm.AddressListMismatch, source, $"the peer advertises {string.Join(", ", advertisement.Addresses)}, this node {string.Join(", ", Config.Addresses.Select(a => a.Address))}; configure one list");
            if (Config.Fenced && Router.State == VrrpState.Active && advertisement.Priority != VrrpPacket.ReleasePriority)
                Raise(VrrpAlarm.UnfencedPeer, source, $"advertises priority {advertisement.Priority} without the lease; stop it, or give it another VRID");
            return true;
        }

        private bool Refuse(VrrpAlarm kind, IPAddress peer, string detail)
        {
            Raise(kind, peer, detail);
            return false;
        }

        private void Raise(VrrpAlarm kind, IPAddress peer, string detail)
        {
            if (Router.Raised.Contains((kind, peer)))
                return;
            Router = Router with { Raised = Router.Raised.Add((kind, peer)) };
            Outputs.Add(new VrrpOutput.Alarm(kind, peer, detail));
        }

        private void ChangePriority(int priority, string reason)
        {
            if (priority == Router.Priority)
                return;
            Router = Router with { Priority = priority };
            if (priority == 0)
                Leave(VrrpState.Initialize, graceful: true, reason);
            else if (Router.State == VrrpState.Initialize && Router.Started)
                EnterFromInitialize(reason);
        }

        private void Reconfigure(VrrpConfig config)
        {
            var before = Config;
            var delta = Router.Priority == 0 ? 0 : Router.Priority - before.Priority;
            Router = Router with { Config = config.Validate(), Raised = [] };
            if (Router.Priority != 0)
                Router = Router with { Priority = config.IsOwner ? config.Priority : Math.Clamp(config.Priority + delta, 1, 254) };
            if (Router.State == VrrpState.Backup)
                RestartActiveDownTimer(Later(now, Router.StartupUntil));
            if (Router.State != VrrpState.Active)
                return;
            var gone = before.Addresses.Except(config.Addresses).ToArray();
            var come = config.Addresses.Except(before.Addresses).ToArray();
            if (gone.Length > 0)
                Outputs.Add(new VrrpOutput.RemoveAddresses(gone));
            if (come.Length > 0)
                Outputs.Add(new VrrpOutput.AddAddresses(come));
            Assert();
        }

        private void BecomeActive(string reason)
        {
            Transition(VrrpState.Active, reason);
            Router = Router with { ActiveDownTimer = null, ActiveRouter = null, PreemptAt = null };
            Advertise();
            Outputs.Add(new VrrpOutput.AddAddresses(Config.Addresses));
            Outputs.Add(new VrrpOutput.Announce(Config.Announcements.Count));
            Router = Router with { AnnounceTimer = now + Config.Announcements.RepeatDelay };
        }

        // The priority-0 advertisement goes first, while the address and the right to use it are still there.
        private void Leave(VrrpState to, bool graceful, string reason)
        {
            var wasActive = Router.State == VrrpState.Active;
            if (wasActive && graceful)
                Outputs.Add(new VrrpOutput.SendAdvertisement(VrrpPacket.ReleasePriority));
            if (wasActive)
                Outputs.Add(new VrrpOutput.RemoveAddresses(Config.Addresses));
            Router = Router with { AdverTimer = null, AnnounceTimer = null, ActiveDownTimer = null, PreemptAt = null, ActiveRouter = null };
            if (Router.State != to)
                Transition(to, reason);
            if (to == VrrpState.Backup)
                RestartActiveDownTimer(now);
        }

        private void Advertise()
        {
            Outputs.Add(new VrrpOutput.SendAdvertisement((byte)Router.Priority));
            Router = Router with { AdverTimer = now + VrrpTimers.FromCentiseconds(Config.AdvertisementIntervalCs) };
        }

        private void Assert()
        {
            Advertise();
            Outputs.Add(new VrrpOutput.Announce(1));
            Router = Router with { AnnounceTimer = now + Config.Announcements.RepeatDelay };
        }

        private void RepeatAnnouncement()
        {
            var refresh = Config.Announcements.RefreshInterval;
            Outputs.Add(new VrrpOutput.Announce(Config.Announcements.Count));
            Router = Router with { AnnounceTimer = refresh > TimeSpan.Zero ? now + refresh : null };
        }

        private void Transition(VrrpState to, string reason)
        {
            Outputs.Add(new VrrpOutput.Transition(Router.State, to, reason));
            Router = Router with { State = to, LastTransitionAt = now, LastTransitionReason = reason };
        }

        // A fenced Backup waits for a permit, not for silence.
        private void RestartActiveDownTimer(TimeSpan from) =>
            Router = Router with { ActiveDownTimer = Config.Fenced ? null : from + ActiveDownInterval() };

        private int FollowedInterval(VrrpAdvertisement advertisement) =>
            Config.Version == VrrpVersion.V3 ? advertisement.IntervalCs : Config.AdvertisementIntervalCs;

        private TimeSpan Skew() => VrrpTimers.SkewTime(Config.Version, Router.Priority, Router.ActiveAdverIntervalCs);

        private TimeSpan ActiveDownInterval() =>
            VrrpTimers.ActiveDownInterval(Config.Version, Router.Priority, Router.ActiveAdverIntervalCs);

        private static TimeSpan Later(TimeSpan a, TimeSpan b) => a > b ? a : b;
    }
}
