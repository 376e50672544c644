using System.Collections.Immutable;
using System.Net;
using OverlayNet.Contracts;
using OverlayNet.Daemon.Metrics;
using OverlayNet.Daemon.Planners;
using OverlayNet.Daemon.Registry;
using OverlayNet.Kernel;
using OverlayNet.Kernel.Netlink;
using OverlayNet.Vip.Fence;
using OverlayNet.Vip.Vrrp;

namespace OverlayNet.Daemon.Agent.FloatingVips;

/// <summary>
/// One set of floating VIPs running on this node: its fence and gates, or plain virtual routers, and what is tracked. Everything but
/// the callbacks of the routers' thread is called from the runner's loop.
/// </summary>
internal sealed class FloatingVipInstance : IDisposable
{
    private const int MaxAlarms = 20;

    // A new holder is heard a moment before the registry's word of it is here.
    private static readonly TimeSpan StrangerAfter = TimeSpan.FromSeconds(2);
    private readonly FencedVip? _fenced;
    private readonly VrrpRunner? _plain;
    private readonly VipTracker _tracker;
    private readonly Action<FloatingVipInstance, string, string> _record;
    private readonly VipNotifier _notifier;
    private readonly ImmutableArray<int> _interfaces;
    private ImmutableList<string> _alarms = [];
    private (int Priority, string Reason) _priority;
    private readonly Dictionary<IPAddress, TimeSpan> _strangers = [];
    private bool _wasDown;

    /// <summary>Starts it: gate shut, addresses of an earlier life removed, and no priority until the first look at the host.</summary>
    /// <param name="record">Called with an action and a message for the events; from any thread, must be cheap.</param>
    /// <exception cref="KernelException">The kernel refused.</exception>
    /// <exception cref="ArgumentException">The configuration does not fit this node; names the field and the remedy.</exception>
    public FloatingVipInstance(
        FloatingVipPlan plan, string nodeId, Func<string, Func<IReadOnlyList<IPAddress>>, ILeaseStore> store, VipNotifier notifier, HostView host,
        Action<FloatingVipInstance, string, string> record, TimeProvider time, ILogger logger, IPromisePeers? peers = null, FenceWatchdog? watchdog = null)
    {
        (Plan, _notifier, _record) = (plan, notifier, record);
        _priority = (0, "not looked at yet");
        _tracker = new VipTracker(plan.Vips, time);
        _interfaces = [.. plan.Gate.Interfaces.Select(name => host.Link(name)?.Index ?? throw new KernelException($"interface {name}", 19, "there is no such interface"))];
        if (!plan.Fenced)
        {
            _plain = new VrrpRunner([.. plan.Members], logger, null, HearRouters);
            return;
        }
        var gates = new List<IFenceGate>();
        try
        {
            if (watchdog is not null)
            {
                watchdog.Probe();
                gates.Add(watchdog.Gate(plan.Set));
            }
            gates.Add(new NftGate(plan.Gate));
            try
            {
                gates.Add(new BpfGate(plan.Gate));
            }
            catch (KernelException e)
            {
                Alarm($"no BPF gate ({e.Message}): the nft gate stands alone and follows the wall clock");
            }
            _fenced = new FencedVip(
                new FenceConfig
                {
                    VipSet = plan.Set,
                    Node = nodeId,
                    Timing = FloatingVipPlanner.TimingOf(plan.First.Profile),
                    Policy = (StoreLossPolicy)plan.First.StoreLoss,
                    Preempt = plan.First.Preempt,
                    PreemptDelay = TimeSpan.FromMilliseconds(plan.First.PreemptDelayMs),
                    Peers = [.. plan.Peers],
                },
                priority: 0, [.. plan.Members], new CombinedGate(gates), store(plan.Set, Sources), logger, peers, observer: HearRouters, told: HearFence);
        }
        catch
        {
            gates.ForEach(gate => gate.Dispose());
            throw;
        }
    }

    public FloatingVipPlan Plan { get; private set; }

    public FencedVip? Fenced => _fenced;

    public ImmutableArray<VrrpRouter> Routers() => _fenced?.Routers ?? _plain!.Routers;

    /// <summary>Why its thread ended; null while it runs.</summary>
    public Exception? Failure => _fenced is null ? _plain!.Failure : _fenced.Failure;

    public (int Priority, string Reason) Priority => _priority;

    /// <summary>What an operator must mend, the newest last.</summary>
    public IReadOnlyList<string> Alarms => Volatile.Read(ref _alarms);

    /// <summary>The state in one word.</summary>
    public string State => (_fenced is { } fenced ? fenced.Node.State.ToString() : Routers()[0].State.ToString()).ToLowerInvariant();

    /// <summary>An equal plan of a newer revision: what may differ is whether the node is fit.</summary>
    public void Update(FloatingVipPlan plan) => Plan = plan;

    /// <returns>False when an interface was made anew under its name: then sockets and programs are on the old one.</returns>
    public bool Observe(HostView host)
    {
        if (!Plan.Gate.Interfaces.Select((name, i) => host.Link(name)?.Index is not { } index || index == _interfaces[i]).All(same => same))
            return false;
        var routers = Routers();
        var next = _tracker.Evaluate(host, Plan.Priority);
        if (Plan.Unfit is { } unfit)
            next = (0, unfit);
        else if (next.Priority > 0 && routers.FirstOrDefault(router => !router.Started) is { } waiting)
            next = (0, $"the interface has no {(waiting.Config.Family == System.Net.Sockets.AddressFamily.InterNetwork ? "IPv4" : "link-local IPv6")} address to advertise from");
        var down = !Plan.Gate.Interfaces.All(host.InterfaceUp);
        if (_wasDown && !down)
            Heal("the interface is up again");
        _wasDown = down;
        if (next.Priority == _priority.Priority)
        {
            _priority = next;
            return true;
        }
        if (_priority.Priority != 0 || next.Priority != Plan.Priority)
            _record(this, "priority", $"{next.Priority}: {next.Reason}");
        _priority = next;
        if (_fenced is not null)
            _fenced.SetPriority(next.Priority, next.Reason);
        else
            _plain!.Post(null, new VrrpInput.PriorityChanged(next.Priority, next.Reason));
        return true;
    }

    /// <summary>Tells once what advertises on this VRID without being the holder, or a node of the cluster.</summary>
    /// <param name="legitimate">Addresses whose advertisements are right.</param>
    public void JudgePeers(IReadOnlyCollection<IPAddress> legitimate)
    {
        foreach (var (router, index) in Routers().Select((router, index) => (router, index)))
        {
            foreach (var heard in router.Heard.Values)
            {
                var advertisement = heard.Advertisement;
                if (advertisement.Priority == 0 || BootClock.Now - heard.At > TimeSpan.FromSeconds(3) + 3 * VrrpTimers.FromCentiseconds(advertisement.IntervalCs)
                    || legitimate.Contains(advertisement.Source) || advertisement.Source.Equals(router.LocalAddress))
                {
                    _strangers.Remove(advertisement.Source);
                    continue;
                }
                _strangers.TryAdd(advertisement.Source, BootClock.Now);
                if (BootClock.Now < _strangers[advertisement.Source] + StrangerAfter)
                    continue;
                Alarm($"VRID {router.Config.VirtualRouterId} is in use on {Plan.Members[index].Interface} by {advertisement.Source} (priority {advertisement.Priority}), "
                    + "which is not the holder: stop it, or give this VIP another --vrid");
            }
        }
    }

    public void Heal(string reason)
    {
        if (_fenced is not null)
            _fenced.Healed(reason);
        else
            _plain!.Post(null, new VrrpInput.Healed(reason));
    }

    public void Alarm(string text)
    {
        if (Alarms.Contains(text))
            return;
        ImmutableInterlocked.Update(ref _alarms, alarms => alarms.Count == MaxAlarms ? alarms.RemoveAt(0).Add(text) : alarms.Add(text));
        foreach (var vip in Plan.Vips)
            DaemonInstruments.VipAlarms.Add(1, DaemonInstruments.Tag("vip", vip.Name));
        _record(this, "alarm", text);
    }

    /// <summary>Hands the VIP over and ends. The gate stays, shut.</summary>
    public void Dispose()
    {
        _fenced?.Dispose();
        _plain?.Dispose();
        _tracker.Dispose();
    }

    private IReadOnlyList<IPAddress> Sources() => [.. Routers().Select(router => router.LocalAddress)];

    // On the routers' thread.
    private void HearRouters(int member, VrrpOutput output)
    {
        switch (output)
        {
            case VrrpOutput.Alarm alarm:
                Alarm($"{alarm.Kind} from {alarm.Peer}: {alarm.Detail}");
                break;
            case VrrpOutput.Transition transition when _fenced is null && !Plan.Fenced && member == 0:
                Told(transition.To.ToString(), transition.Reason, "-");
                break;
        }
    }

    // On the routers' thread.
    private void HearFence(FenceOutput output)
    {
        switch (output)
        {
            case FenceOutput.Alarm alarm:
                Alarm(alarm.Text);
                break;
            case FenceOutput.Transition transition:
                Told(transition.To.ToString(), transition.Reason, _fenced?.Node.Version.ToString() ?? "-");
                break;
        }
    }

    private void Told(string state, string reason, string epoch)
    {
        var word = state.ToLowerInvariant();
        _record(this, word, reason);
        foreach (var vip in Plan.Vips)
        {
            DaemonInstruments.VipTransitions.Add(1, DaemonInstruments.Tag("vip", vip.Name), DaemonInstruments.Tag("state", word));
            _notifier.Tell(vip, word, _priority.Priority, epoch);
        }
    }
}
