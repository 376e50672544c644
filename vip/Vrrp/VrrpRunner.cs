using System.Collections.Concurrent;
using System.Collections.Immutable;
using Microsoft.Extensions.Logging;
using OverlayNet.Kernel;

namespace OverlayNet.Vip.Vrrp;

/// <summary>One member of a runner: a virtual router and the interface it runs on.</summary>
/// <param name="AddressInterface">A macvlan with the virtual router's MAC address that the addresses live on, down while they are elsewhere; null: the interface itself.</param>
public sealed record VrrpMember(string Interface, VrrpConfig Config, string? AddressInterface = null);

/// <summary>What runs on a runner's thread beside its routers, before them at every turn.</summary>
public interface IVrrpCompanion
{
    /// <summary>When <see cref="RunTimers"/> is wanted, on the boot-time clock; null: never.</summary>
    TimeSpan? NextTimer { get; }

    void RunTimers();
}

/// <summary>
/// Drives virtual routers that move together (one, or a sync group) on a dedicated thread in real time, with the boot-time
/// clock. All state is the thread's own; others send inputs and read snapshots.
/// </summary>
public sealed partial class VrrpRunner : IDisposable
{
    private static readonly TimeSpan AddressRetry = TimeSpan.FromSeconds(1);
    private readonly ImmutableArray<VrrpMember> _config;
    private readonly ILogger _logger;
    private readonly Action<int, VrrpOutput>? _observer;
    private readonly IVrrpCompanion? _companion;
    private readonly ConcurrentQueue<(int? Member, VrrpInput? Input, Action? Work)> _inbox = new();
    private readonly PollSet _poll = new();
    private readonly Thread _thread;
    private VrrpInterface[] _interfaces = [];
    private ImmutableArray<VrrpRouter> _routers = [];
    private Exception? _failure;
    private volatile bool _stopping;
    private bool _stoppingRequested;
    private TimeSpan _nextAddressLook;

    /// <summary>Starts the thread and gives every member its Startup event once its interface has an address.</summary>
    /// <param name="netns">Where the interfaces are; null: the namespace the process started in. Only held open to start.</param>
    /// <param name="observer">Called on the thread with everything the routers ask for, after it was done.</param>
    /// <exception cref="KernelException">The kernel refused a socket, or an interface is missing.</exception>
    /// <exception cref="ArgumentException">The configuration is refused; names the field and the remedy.</exception>
    public VrrpRunner(ImmutableArray<VrrpMember> members, ILogger logger, NetworkNamespace? netns = null, Action<int, VrrpOutput>? observer = null,
        IVrrpCompanion? companion = null)
    {
        (_config, _logger, _observer, _companion) = (members, logger, observer, companion);
        foreach (var member in members)
            member.Config.Validate();
        _thread = new Thread(Run) { IsBackground = true, Name = $"vrrp-{members[0].Config.VirtualRouterId}" };
        // A thread starts in the namespace of the thread that starts it.
        if (netns is null)
            OpenAndStart();
        else
            netns.Run(OpenAndStart);
    }

    /// <summary>The routers as of the thread's last step.</summary>
    public ImmutableArray<VrrpRouter> Routers => _routers;

    /// <summary>Set when the thread ended by an error.</summary>
    public Exception? Failure => _failure;

    /// <summary>With fenced members: how long their addresses are to live in the kernel without a refresh; null: for ever.</summary>
    public TimeSpan? AddressLifetime { get; set; }

    /// <summary>Hands an input to one member (all when null). Safe from any thread.</summary>
    public void Post(int? member, VrrpInput input)
    {
        _inbox.Enqueue((member, input, null));
        _poll.Wake();
    }

    /// <summary>Runs work on the thread, in order with the inputs: gate and registry calls that must not overtake them.</summary>
    public void Post(Action work)
    {
        _inbox.Enqueue((null, null, work));
        _poll.Wake();
    }

    /// <summary>Gives a member an input at once; on the runner's own thread only.</summary>
    public void StepNow(int? member, VrrpInput input)
    {
        if (member is { } one)
            Step(one, input);
        else
            for (var i = 0; i < _routers.Length; i++)
                Step(i, input);
    }

    /// <summary>Sets the lifetime and rewrites it on the addresses owned; on the runner's own thread only.</summary>
    public void RefreshAddresses(TimeSpan lifetime)
    {
        AddressLifetime = lifetime;
        for (var i = 0; i < _routers.Length; i++)
            if (_routers[i].State == VrrpState.Active)
                _interfaces[i].Add(_routers[i].Config.Addresses, lifetime);
    }

    /// <summary>Removes the members' addresses whatever the routers' state; on the runner's own thread only.</summary>
    public void RemoveStale()
    {
        for (var i = 0; i < _routers.Length; i++)
            if (_routers[i].State != VrrpState.Active)
                _interfaces[i].Remove(_config[i].Config.Addresses);
    }

    /// <summary>Hands over (priority 0, addresses removed) and ends the thread.</summary>
    public void Dispose()
    {
        if (_stopping)
            return;
        Post(null, new VrrpInput.Shutdown("stopped"));
        Post(() => _stopping = true);
        _thread.Join();
        foreach (var edge in _interfaces)
            edge.Dispose();
        _poll.Dispose();
    }

    private void OpenAndStart()
    {
        Open();
        _thread.Start();
    }

    private void Open()
    {
        var opened = new List<VrrpInterface>();
        try
        {
            foreach (var member in _config)
                opened.Add(new VrrpInterface(member.Config, member.Interface, member.AddressInterface));
            for (var i = 0; i < opened.Count; i++)
            {
                // What an earlier process left is not ours yet.
                opened[i].Remove(_config[i].Config.IsOwner ? [] : _config[i].Config.Addresses);
                _config[i].Config.ValidateAgainst(opened[i].AllAddresses());
            }
        }
        catch
        {
            opened.ForEach(o => o.Dispose());
            throw;
        }

        _interfaces = [.. opened];
        _routers = [.. _config.Select((m, i) => VrrpRouter.Create(m.Config, opened[i].PrimaryAddress(m.Config.Addresses) ?? System.Net.IPAddress.Any))];
    }

    private void Run()
    {
        try
        {
            if (!PollSet.TryRealTime())
                Log.NoRealTime(_logger);
            var descriptors = _interfaces.Select(i => i.Socket.Fd).ToArray();
            while (!_stopping)
            {
                TakeAddresses();
                while (_inbox.TryDequeue(out var item))
                {
                    if (item.Work is not null)
                        item.Work();
                    else
                        StepNow(item.Member, item.Input!);
                }

                for (var i = 0; i < _interfaces.Length; i++)
                    while (_interfaces[i].Socket.TryReceive() is { } advertisement)
                        Step(i, new VrrpInput.Received(advertisement));
                RunTimers();
                if (!_stopping && _inbox.IsEmpty)
                    _poll.Wait(descriptors, Remaining());
            }
        }
        catch (Exception e)
        {
            _failure = e;
            _stopping = true;
            Log.Failed(_logger, e, _config[0].Config.VirtualRouterId);
        }
    }

    private void RunTimers()
    {
        if (_companion?.NextTimer <= BootClock.Now)
            _companion.RunTimers();
        for (var i = 0; i < _routers.Length; i++)
            if (_routers[i].NextTimer <= BootClock.Now)
                Step(i, new VrrpInput.TimersDue());
    }

    private TimeSpan? Remaining()
    {
        var next = _routers.Select(r => r.NextTimer).Append(_companion?.NextTimer).Min();
        if (_routers.Any(r => !r.Started) && (next is null || next > _nextAddressLook))
            next = _nextAddressLook;
        return next is { } at ? at - BootClock.Now : null;
    }

    // A member starts when its interface has a primary address, which may come long after the daemon (bonds at boot).
    private void TakeAddresses()
    {
        var now = BootClock.Now;
        if (now < _nextAddressLook || _routers.All(r => r.Started) || _stoppingRequested)
            return;
        _nextAddressLook = now + AddressRetry;
        for (var i = 0; i < _routers.Length; i++)
        {
            if (_routers[i].Started || _interfaces[i].PrimaryAddress(_config[i].Config.Addresses) is not { } address)
                continue;
            Step(i, new VrrpInput.LocalAddressChanged(address));
            Step(i, new VrrpInput.Startup());
        }
    }

    private void Step(int member, VrrpInput input)
    {
        _stoppingRequested |= input is VrrpInput.Shutdown;
        (var routers, var outputs) = VrrpSyncGroup.Step(_routers, member, BootClock.Now, input);
        _routers = routers;
        foreach (var (who, output) in outputs)
        {
            try
            {
                Do(who, output);
            }
            catch (KernelException e)
            {
                // The interface may be on its way out; the state must go on, and its tracking will say so.
                Log.Refused(_logger, _config[who].Config.VirtualRouterId, e.Message);
            }

            _observer?.Invoke(who, output);
        }
    }

    private void Do(int member, VrrpOutput output)
    {
        var router = _routers[member];
        var edge = _interfaces[member];
        switch (output)
        {
            case VrrpOutput.SendAdvertisement send:
                var sent = edge.Socket.TrySend(new VrrpAdvertisement
                {
                    Version = router.Config.Version,
                    VirtualRouterId = router.Config.VirtualRouterId,
                    Priority = send.Priority,
                    IntervalCs = router.Config.AdvertisementIntervalCs,
                    Source = router.LocalAddress,
                    Addresses = [.. router.Config.Addresses.Select(a => a.Address)],
                });
                if (!sent)
                    Log.NotSent(_logger, router.Config.VirtualRouterId);
                break;
            case VrrpOutput.AddAddresses add:
                edge.Add(add.Addresses, AddressLifetime);
                break;
            case VrrpOutput.RemoveAddresses remove:
                edge.Remove(remove.Addresses);
                break;
            case VrrpOutput.Announce announce:
                edge.Announce(router.Config.Addresses, announce.Count);
                break;
            case VrrpOutput.Transition transition:
                Log.Transition(_logger, router.Config.VirtualRouterId, transition.From, transition.To, transition.Reason);
                break;
            case VrrpOutput.Alarm alarm:
                Log.Alarm(_logger, router.Config.VirtualRouterId, alarm.Kind, alarm.Peer.ToString(), alarm.Detail);
                break;
        }
    }

    private static partial class Log
    {
        [LoggerMessage(1, LogLevel.Information, "VRID {Vrid}: {From} -> {To}: {Reason}")]
        public static partial void Transition(ILogger logger, byte vrid, VrrpState from, VrrpState to, string reason);

        [LoggerMessage(2, LogLevel.Warning, "VRID {Vrid}: {Kind} from {Peer}: {Detail}")]
        public static partial void Alarm(ILogger logger, byte vrid, VrrpAlarm kind, string peer, string detail);

        [LoggerMessage(3, LogLevel.Debug, "VRID {Vrid}: an advertisement could not be sent")]
        public static partial void NotSent(ILogger logger, byte vrid);

        [LoggerMessage(4, LogLevel.Information, "VRRP runs without real-time priority (no CAP_SYS_NICE, or no real-time bandwidth)")]
        public static partial void NoRealTime(ILogger logger);

        [LoggerMessage(6, LogLevel.Warning, "VRID {Vrid}: {Error}")]
        public static partial void Refused(ILogger logger, byte vrid, string error);

        [LoggerMessage(5, LogLevel.Error, "VRID {Vrid}: the virtual router stopped")]
        public static partial void Failed(ILogger logger, Exception exception, byte vrid);
    }
}
