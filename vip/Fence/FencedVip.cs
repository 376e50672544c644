using System.Collections.Immutable;
using Microsoft.Extensions.Logging;
using OverlayNet.Kernel;
using OverlayNet.Vip.Vrrp;

namespace OverlayNet.Vip.Fence;

/// <summary>
/// One floating VIP set on this node: the fence, its gate and the virtual routers, driven on the routers' thread so that
/// nothing overtakes: the gate is shut before the registry hears of a release, and open before an address is added.
/// </summary>
public sealed partial class FencedVip : IDisposable, IVrrpCompanion
{
    // A stop must not wait for a registry that is gone: the lease runs out by itself.
    private static readonly TimeSpan ReleasePatience = TimeSpan.FromSeconds(2);
    private readonly FenceConfig _config;
    private readonly IFenceGate _gate;
    private readonly ILeaseStore _store;
    private readonly IPromisePeers? _peers;
    private readonly ILogger _logger;
    private readonly CancellationTokenSource _stopped = new();
    private readonly ManualResetEventSlim _released = new();
    private readonly VrrpRunner _runner;
    private readonly IDisposable _watch;
    private readonly Action<FenceOutput>? _told;
    private ImmutableDictionary<(string, long), Action<FenceInput.PromiseAnswered>> _questions = ImmutableDictionary<(string, long), Action<FenceInput.PromiseAnswered>>.Empty;
    private FenceNode _node;
    private int _unanswered;

    /// <summary>Starts fenced: gate shut, stale addresses removed, lease read.</summary>
    /// <param name="gate">Shut already; owned and disposed with this.</param>
    /// <param name="netns">Where the interfaces are; null: the process's. Only used to start.</param>
    /// <param name="observer">Called on the routers' thread with everything the routers ask for, after it was done.</param>
    /// <param name="told">The same for the fence.</param>
    /// <exception cref="KernelException">The kernel refused a socket, or an interface is missing.</exception>
    /// <exception cref="ArgumentException">The configuration is refused; names the field and the remedy.</exception>
    public FencedVip(
        FenceConfig config, int priority, ImmutableArray<VrrpMember> members, IFenceGate gate, ILeaseStore store, ILogger logger,
        IPromisePeers? peers = null, NetworkNamespace? netns = null, Action<int, VrrpOutput>? observer = null, Action<FenceOutput>? told = null)
    {
        (_config, _gate, _store, _peers, _logger, _told) = (config, gate, store, peers, logger, told);
        _node = FenceNode.Create(config, priority);
        _runner = new VrrpRunner([.. members.Select(m => m with { Config = m.Config with { Fenced = true } })], logger, netns, observer, this);
        _runner.Post(() => Step(new FenceInput.Started()));
        _watch = store.Watch(config.VipSet,
            lease => Give(new FenceInput.LeaseObserved(lease.Record, lease.Revision, lease.Incarnation)),
            bid => Give(new FenceInput.BidObserved(bid.Node, bid.Priority, bid.Forced)));
    }

    /// <summary>The fence as of its last step.</summary>
    public FenceNode Node => Volatile.Read(ref _node);

    /// <summary>The virtual routers as of their last step.</summary>
    public ImmutableArray<VrrpRouter> Routers => _runner.Routers;

    public string GateName => _gate.Name;

    /// <summary>Set when the thread ended by an error; the gate shuts by itself at its deadline.</summary>
    public Exception? Failure => _runner.Failure;

    TimeSpan? IVrrpCompanion.NextTimer => _node.StartedAt == TimeSpan.Zero || _node.NextTimer == TimeSpan.MaxValue ? null : _node.NextTimer;

    void IVrrpCompanion.RunTimers() => Step(new FenceInput.TimersDue());

    /// <summary>Tracking's verdict: 0 gives the VIP up.</summary>
    public void SetPriority(int priority, string reason) => _runner.Post(() =>
    {
        // Downwards the fence goes first, while the routers can still say priority 0; upwards they must be ready for a permit.
        if (priority != 0)
            _runner.StepNow(null, new VrrpInput.PriorityChanged(priority, reason));
        Step(new FenceInput.PriorityChanged(priority, reason));
        if (priority == 0)
            _runner.StepNow(null, new VrrpInput.PriorityChanged(priority, reason));
    });

    /// <summary>A peer without the registry asks for a promise.</summary>
    public Task<FenceInput.PromiseAnswered> AnswerAsync(FenceInput.PromiseAsked question)
    {
        var answer = new TaskCompletionSource<FenceInput.PromiseAnswered>(TaskCreationOptions.RunContinuationsAsynchronously);
        _runner.Post(() =>
        {
            _questions = _questions.SetItem((question.Holder, question.Round), answer.SetResult);
            Step(question);
        });
        return answer.Task;
    }

    /// <summary>The link healed: neighbours are told again who owns the addresses.</summary>
    public void Healed(string reason) => _runner.Post(null, new VrrpInput.Healed(reason));

    /// <summary>Hands the VIP over (priority 0, addresses, gate, then the registry) and ends. The gate stays, shut.</summary>
    public void Dispose()
    {
        _watch.Dispose();
        Give(new FenceInput.Withdraw("stopped"));
        _runner.Post(CheckReleased);
        if (_runner.Failure is null)
            _released.Wait(ReleasePatience);
        _stopped.Cancel();
        _runner.Dispose();
        _gate.Dispose();
        _stopped.Dispose();
        _released.Dispose();
    }

    /// <summary>For tests: stops the thread until the event is set, as a frozen process would stop.</summary>
    internal void Block(ManualResetEventSlim until) => _runner.Post(until.Wait);

    private void Give(FenceInput input) => _runner.Post(() => Step(input));

    private void Step(FenceInput input)
    {
        var (node, outputs) = FenceMachine.Step(_node, BootClock.Now, input);
        Volatile.Write(ref _node, node);
        foreach (var output in outputs)
        {
            Do(output);
            _told?.Invoke(output);
        }

        if (node.Withdrawn)
            CheckReleased();
    }

    private void CheckReleased()
    {
        if (_node is { Withdrawn: true, ReleaseWanted: false, Pending: null })
            _released.Set();
    }

    private void Do(FenceOutput output)
    {
        switch (output)
        {
            case FenceOutput.SetGate set:
                _gate.SetDeadline(set.Deadline);
                break;
            case FenceOutput.Permit permit:
                _runner.AddressLifetime = permit.Deadline - BootClock.Now;
                _runner.StepNow(null, new VrrpInput.Permit($"lease {permit.Version}"));
                break;
            case FenceOutput.Prolong prolong:
                _runner.RefreshAddresses(prolong.Deadline - BootClock.Now);
                break;
            case FenceOutput.Revoke revoke:
                _runner.StepNow(null, new VrrpInput.Revoke(revoke.Graceful, revoke.Reason));
                break;
            case FenceOutput.RemoveStale:
                _runner.RemoveStale();
                break;
            case FenceOutput.RunUnfenced run:
                RunUnfenced(run.On);
                break;
            case FenceOutput.Commit commit:
                _ = CommitAsync(commit);
                break;
            case FenceOutput.Read read:
                _ = ReadAsync(read.Id);
                break;
            case FenceOutput.PlaceBid bid:
                _ = TryAsync(cancel => _store.PlaceBidAsync(_config.VipSet, new LeaseBid(_config.Node, bid.Priority, Forced: false), cancel));
                break;
            case FenceOutput.AskPromises ask:
                foreach (var peer in ask.Peers)
                    _ = AskAsync(peer, new FenceInput.PromiseAsked(_config.Node, ask.Round, ask.Version, ask.Ttl));
                break;
            case FenceOutput.AnswerPromise answer:
                if (_questions.TryGetValue((answer.Holder, answer.Round), out var reply))
                    reply(new FenceInput.PromiseAnswered(_config.Node, answer.Round, answer.Granted, answer.Known));
                _questions = _questions.Remove((answer.Holder, answer.Round));
                break;
            case FenceOutput.Transition transition:
                Log.Transition(_logger, _config.VipSet, transition.From, transition.To, transition.Reason);
                break;
            case FenceOutput.Alarm alarm:
                Log.Alarm(_logger, _config.VipSet, alarm.Text);
                break;
        }
    }

    private void RunUnfenced(bool on)
    {
        _runner.AddressLifetime = null;
        if (!on)
            _runner.StepNow(null, new VrrpInput.Revoke(Graceful: true, "the registry is back"));
        for (var i = 0; i < _runner.Routers.Length; i++)
            _runner.StepNow(i, new VrrpInput.Reconfigured(_runner.Routers[i].Config with { Fenced = !on }));
    }

    private async Task CommitAsync(FenceOutput.Commit commit)
    {
        var reply = new FenceInput.CommitReplied(commit.Id, CommitOutcome.Unknown);
        await TryAsync(async cancel =>
        {
            var (outcome, revision) = await _store.CommitAsync(_config.VipSet, commit.Record, commit.GuardRevision, commit.GuardIncarnation, cancel);
            reply = new FenceInput.CommitReplied(commit.Id, outcome, revision);
        });
        Give(reply);
    }

    // A failed read is not reported: the fence asks again after its own time-out, so a registry that refuses at once is
    // not hammered.
    private Task ReadAsync(long id) => TryAsync(async cancel =>
    {
        var reading = await _store.ReadAsync(_config.VipSet, cancel);
        Give(new FenceInput.LeaseObserved(reading.Record, reading.Revision, reading.Incarnation, id));
    });

    private async Task AskAsync(string peer, FenceInput.PromiseAsked question)
    {
        if (_peers is not null)
            await TryAsync(async cancel => Give(await _peers.AskAsync(peer, _config.VipSet, question, cancel)), registry: false);
    }

    // Off the routers' thread: what the store does on its caller's thread must not hold adverts up.
    private async Task TryAsync(Func<CancellationToken, Task> call, bool registry = true)
    {
        using var limit = CancellationTokenSource.CreateLinkedTokenSource(_stopped.Token);
        limit.CancelAfter(_config.Timing.CommitTimeout);
        try
        {
            await Task.Run(() => call(limit.Token), limit.Token);
            if (registry && Interlocked.Exchange(ref _unanswered, 0) is var failures and > 0)
                Log.AnsweredAgain(_logger, _config.VipSet, failures);
        }
        catch (Exception e)
        {
            // Once: a registry may be gone for hours, and a fast VIP asks many times a second.
            if (!registry)
                Log.NoPromise(_logger, _config.VipSet, e.Message);
            else if (Interlocked.Increment(ref _unanswered) == 1)
                Log.NoAnswer(_logger, _config.VipSet, e.Message);
        }
    }

    private static partial class Log
    {
        [LoggerMessage(1, LogLevel.Information, "VIP {VipSet}: {From} -> {To}: {Reason}")]
        public static partial void Transition(ILogger logger, string vipSet, FenceState from, FenceState to, string reason);

        [LoggerMessage(2, LogLevel.Error, "VIP {VipSet}: {Text}")]
        public static partial void Alarm(ILogger logger, string vipSet, string text);

        [LoggerMessage(3, LogLevel.Warning, "VIP {VipSet}: no answer from the registry: {Error}")]
        public static partial void NoAnswer(ILogger logger, string vipSet, string error);

        [LoggerMessage(5, LogLevel.Debug, "VIP {VipSet}: no promise from a peer: {Error}")]
        public static partial void NoPromise(ILogger logger, string vipSet, string error);

        [LoggerMessage(4, LogLevel.Information, "VIP {VipSet}: the registry answers again, after {Failures} calls without an answer")]
        public static partial void AnsweredAgain(ILogger logger, string vipSet, int failures);
    }
}
