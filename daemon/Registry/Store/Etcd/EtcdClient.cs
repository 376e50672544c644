using System.Text;
using Google.Protobuf;
using Microsoft.Extensions.Logging.Abstractions;
using OverlayNet.Daemon.Registry.Store.Etcd.Wire;

namespace OverlayNet.Daemon.Registry.Store.Etcd;

public sealed record EtcdClientOptions
{
    /// <summary>Client URLs of the members.</summary>
    public required IReadOnlyList<Uri> Members { get; init; }

    /// <summary>Which of them to work with while it is fit; null: one by the hash of <see cref="ClientId"/>, so that clients spread.</summary>
    public Uri? Preferred { get; init; }
    public string ClientId { get; init; } = Environment.MachineName;

    /// <summary>Makes an HTTP handler with the TLS of this cluster.</summary>
    public Func<SocketsHttpHandler> Handler { get; init; } = () => new SocketsHttpHandler { UseProxy = false };

    /// <summary>Follow the cluster's own list of members.</summary>
    public bool Discover { get; init; }
    public ILogger Logger { get; init; } = NullLogger.Instance;
    public TimeProvider Time { get; init; } = TimeProvider.System;
}

/// <summary>
/// An etcd cluster: works with one member (its home), leaves it when it is unfit, and comes back. A member is fit when a linearizable
/// read through it succeeds: a frozen one, one cut off from the others, one on a hung disk and a learner all fail that.
/// </summary>
internal sealed partial class EtcdClient : IAsyncDisposable
{
    public static readonly TimeSpan AttemptTimeout = TimeSpan.FromSeconds(1.5);

    /// <summary>How long a call goes on trying: longer than an election (etcd.md: 1.2-2.2 s).</summary>
    public static readonly TimeSpan Patience = TimeSpan.FromSeconds(4);
    private static readonly TimeSpan RetryPause = TimeSpan.FromMilliseconds(40);
    private static readonly TimeSpan ProbePeriod = TimeSpan.FromSeconds(1);
    private static readonly TimeSpan FirstReturn = TimeSpan.FromSeconds(3), LastReturn = TimeSpan.FromSeconds(60);
    private readonly EtcdClientOptions _options;
    private readonly Lock _gate = new();
    private readonly Dictionary<Uri, GrpcChannel> _channels = [];
    private readonly CancellationTokenSource _stop = new();
    private Task _probing = Task.CompletedTask;
    private List<Uri> _members;
    private Uri _home;
    private CancellationTokenSource _homeChanges = new();
    private long _leftPreferredAt;
    private TimeSpan _returnAfter = FirstReturn;
    private long _confirmedAt;
    private string _trouble = "";

    public EtcdClient(EtcdClientOptions options)
    {
        if (options.Members.Count == 0)
            throw new ArgumentException("an etcd cluster has at least one member", nameof(options));
        _options = options;
        _members = [.. options.Members.OrderBy(m => m.ToString(), StringComparer.Ordinal)];
        _home = Preferred;
    }

    /// <summary>The member that is worked with.</summary>
    public Uri Home
    {
        get
        {
            lock (_gate)
                return _home;
        }
    }

    public IReadOnlyList<Uri> Members
    {
        get
        {
            lock (_gate)
                return _members;
        }
    }

    /// <summary>Cancelled when the home changes: streams move along.</summary>
    public CancellationToken HomeChanges
    {
        get
        {
            lock (_gate)
                return _homeChanges.Token;
        }
    }

    /// <summary>The last failure, or empty when the last call succeeded.</summary>
    public string Trouble => Volatile.Read(ref _trouble);

    /// <summary>Since the last linearizable answer was asked for.</summary>
    public TimeSpan SinceConfirmed => Volatile.Read(ref _confirmedAt) is var at and not 0 ? _options.Time.GetElapsedTime(at) : TimeSpan.MaxValue;

    private Uri Preferred => _options.Preferred is { } preferred && _members.Contains(preferred)
        ? preferred
        : _members[(int)(Hash(_options.ClientId) % (uint)_members.Count)];

    /// <summary>Begins to look after the home.</summary>
    /// <param name="probe">A key to read.</param>
    public void Start(ByteString probe) => _probing = Task.Run(() => ProbeAsync(probe));

    /// <summary>A call that may be made again without harm: tried at one member after the other until the patience ends.</summary>
    /// <exception cref="GrpcException">Refused, or no member could answer.</exception>
    public async Task<TAnswer> ReadAsync<TRequest, TAnswer>(
        string method, TRequest request, MessageParser<TAnswer> parser, CancellationToken cancel, TimeSpan? attempt = null, bool needsLeader = true)
        where TRequest : IMessage
        where TAnswer : IMessage<TAnswer>
    {
        var started = _options.Time.GetTimestamp();
        while (true)
        {
            var home = Home;
            try
            {
                var sent = _options.Time.GetTimestamp();
                var answer = await Channel(home).CallAsync(method, request, parser, attempt ?? AttemptTimeout, cancel, needsLeader: needsLeader).ConfigureAwait(false);
                if (needsLeader)
                    Confirmed(sent);
                return answer;
            }
            catch (GrpcException e) when (e.IsTransient)
            {
                Failed(home, e);
                if (_options.Time.GetElapsedTime(started) > Patience)
                    throw;
                await Task.Delay(RetryPause, _options.Time, cancel).ConfigureAwait(false);
            }
        }
    }

    /// <summary>A call that must not be made twice: tried again only when it certainly has not been carried out.</summary>
    /// <returns>Null: nobody knows whether it was.</returns>
    /// <exception cref="GrpcException">Refused, or no member could be reached: nothing was done.</exception>
    public async Task<TAnswer?> WriteAsync<TRequest, TAnswer>(
        string method, TRequest request, MessageParser<TAnswer> parser, CancellationToken cancel, TimeSpan? attempt = null)
        where TRequest : IMessage
        where TAnswer : class, IMessage<TAnswer>
    {
        var started = _options.Time.GetTimestamp();
        while (true)
        {
            var home = Home;
            try
            {
                var sent = _options.Time.GetTimestamp();
                var answer = await Channel(home).CallAsync(method, request, parser, attempt ?? AttemptTimeout, cancel).ConfigureAwait(false);
                Confirmed(sent);
                return answer;
            }
            catch (GrpcException e) when (e.MayHaveHappened)
            {
                Failed(home, e);
                return null;
            }
            catch (GrpcException e) when (e.IsTransient)
            {
                Failed(home, e);
                if (_options.Time.GetElapsedTime(started) > Patience)
                    throw;
                await Task.Delay(RetryPause, _options.Time, cancel).ConfigureAwait(false);
            }
        }
    }

    /// <summary>The channel to a member, one for all users.</summary>
    public GrpcChannel Channel(Uri member)
    {
        lock (_gate)
        {
            if (!_channels.TryGetValue(member, out var channel))
                _channels[member] = channel = new GrpcChannel(member, _options.Handler);
            return channel;
        }
    }

    /// <summary>What a member says of itself.</summary>
    /// <exception cref="GrpcException">It does not answer.</exception>
    public Task<StatusResponse> StatusAsync(Uri member, CancellationToken cancel) =>
        Channel(member).CallAsync(EtcdMethods.Status, new StatusRequest(), StatusResponse.Parser, AttemptTimeout, cancel, stream: false, needsLeader: false);

    /// <summary>Leaves a member that has failed a call for another.</summary>
    public void Failed(Uri member, GrpcException why)
    {
        Volatile.Write(ref _trouble, why.Message);
        CancellationTokenSource? changed = null;
        lock (_gate)
        {
            if (_home != member || _members.Count < 2)
                return;
            if (member == Preferred)
            {
                _leftPreferredAt = _options.Time.GetTimestamp();
                _returnAfter = TimeSpan.FromTicks(Math.Min(_returnAfter.Ticks * 2, LastReturn.Ticks));
            }
            _home = _members[(_members.IndexOf(member) + 1) % _members.Count];
            Log.Moved(_options.Logger, member.Authority, _home.Authority, why.Text);
            changed = Exchange();
        }
        Cancel(changed);
    }

    public async ValueTask DisposeAsync()
    {
        await _stop.CancelAsync().ConfigureAwait(false);
        await _probing.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        lock (_gate)
        {
            foreach (var channel in _channels.Values)
                channel.Dispose();
            _channels.Clear();
        }
        _stop.Dispose();
        _homeChanges.Dispose();
    }

    private static uint Hash(string text)
    {
        // FNV-1a: the same on every run, unlike string.GetHashCode.
        var hash = 2166136261;
        foreach (var b in Encoding.UTF8.GetBytes(text))
            hash = unchecked((hash ^ b) * 16777619);
        return hash;
    }

    private void Confirmed(long sent)
    {
        Volatile.Write(ref _trouble, "");
        if (sent > Volatile.Read(ref _confirmedAt))
            Volatile.Write(ref _confirmedAt, sent);
    }

    private CancellationTokenSource Exchange()
    {
        var old = _homeChanges;
        _homeChanges = new CancellationTokenSource();
        return old;
    }

    private static void Cancel(CancellationTokenSource? source)
    {
        source?.Cancel();
        source?.Dispose();
    }

    private async Task ProbeAsync(ByteString key)
    {
        while (!_stop.IsCancellationRequested)
        {
            // Jitter: many clients must not come back to a member at the same moment.
            await Task.Delay(ProbePeriod * (0.75 + (Random.Shared.NextDouble() / 2)), _options.Time, _stop.Token).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            if (_stop.IsCancellationRequested)
                return;
            var home = Home;
            await IsFitAsync(home, key, leaveOnFailure: true).ConfigureAwait(false);
            await ReturnAsync(key).ConfigureAwait(false);
            if (_options.Discover)
                await DiscoverAsync().ConfigureAwait(false);
        }
    }

    private async Task<bool> IsFitAsync(Uri member, ByteString key, bool leaveOnFailure)
    {
        try
        {
            var sent = _options.Time.GetTimestamp();
            await Channel(member).CallAsync(EtcdMethods.Range, new RangeRequest { Key = key, KeysOnly = true }, RangeResponse.Parser, AttemptTimeout, _stop.Token).ConfigureAwait(false);
            Confirmed(sent);
            return true;
        }
        catch (GrpcException e)
        {
            if (leaveOnFailure)
                Failed(member, e);
            return false;
        }
        catch (OperationCanceledException)
        {
            return false;
        }
    }

    private async Task ReturnAsync(ByteString key)
    {
        Uri preferred;
        lock (_gate)
        {
            preferred = Preferred;
            if (_home == preferred || _options.Time.GetElapsedTime(_leftPreferredAt) < _returnAfter)
                return;
        }
        if (!await IsFitAsync(preferred, key, leaveOnFailure: false).ConfigureAwait(false))
            return;
        CancellationTokenSource? changed;
        lock (_gate)
        {
            Log.Returned(_options.Logger, preferred.Authority);
            _home = preferred;
            _returnAfter = FirstReturn;
            changed = Exchange();
        }
        Cancel(changed);
    }

    private async Task DiscoverAsync()
    {
        List<Uri> found;
        try
        {
            var list = await Channel(Home).CallAsync(EtcdMethods.MemberList, new MemberListRequest(), MemberListResponse.Parser, AttemptTimeout, _stop.Token).ConfigureAwait(false);
            found = [.. list.Members.Where(m => !m.IsLearner && m.ClientURLs.Count > 0).Select(m => new Uri(m.ClientURLs[0])).OrderBy(m => m.ToString(), StringComparer.Ordinal)];
        }
        catch (Exception e) when (e is GrpcException or OperationCanceledException or UriFormatException)
        {
            return;
        }
        CancellationTokenSource? changed = null;
        lock (_gate)
        {
            if (found.Count == 0 || found.SequenceEqual(_members))
                return;
            _members = found;
            if (!_members.Contains(_home))
            {
                _home = Preferred;
                changed = Exchange();
            }
        }
        Cancel(changed);
    }

    private static partial class Log
    {
        [LoggerMessage(1, LogLevel.Warning, "etcd: leaving member {From} for {To}: {Reason}")]
        public static partial void Moved(ILogger logger, string from, string to, string reason);

        [LoggerMessage(2, LogLevel.Information, "etcd: back at member {Member}")]
        public static partial void Returned(ILogger logger, string member);
    }
}

/// <summary>Paths of the calls, as gRPC makes them of package, service and method.</summary>
internal static class EtcdMethods
{
    public const string Range = "/etcdserverpb.KV/Range";
    public const string Txn = "/etcdserverpb.KV/Txn";
    public const string DeleteRange = "/etcdserverpb.KV/DeleteRange";
    public const string Compact = "/etcdserverpb.KV/Compact";
    public const string Watch = "/etcdserverpb.Watch/Watch";
    public const string LeaseGrant = "/etcdserverpb.Lease/LeaseGrant";
    public const string LeaseRevoke = "/etcdserverpb.Lease/LeaseRevoke";
    public const string LeaseKeepAlive = "/etcdserverpb.Lease/LeaseKeepAlive";
    public const string MemberAdd = "/etcdserverpb.Cluster/MemberAdd";
    public const string MemberRemove = "/etcdserverpb.Cluster/MemberRemove";
    public const string MemberList = "/etcdserverpb.Cluster/MemberList";
    public const string MemberPromote = "/etcdserverpb.Cluster/MemberPromote";
    public const string Alarm = "/etcdserverpb.Maintenance/Alarm";
    public const string Status = "/etcdserverpb.Maintenance/Status";
    public const string Defragment = "/etcdserverpb.Maintenance/Defragment";
    public const string MoveLeader = "/etcdserverpb.Maintenance/MoveLeader";
    public const string Snapshot = "/etcdserverpb.Maintenance/Snapshot";
}
