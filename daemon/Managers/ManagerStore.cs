using OverlayNet.Contracts;
using OverlayNet.Daemon.Configuration;
using OverlayNet.Daemon.Registry;
using OverlayNet.Daemon.Registry.Store;
using OverlayNet.Daemon.Registry.Store.Etcd;
using OverlayNet.Daemon.Security;

namespace OverlayNet.Daemon.Managers;

/// <summary>How a manager asks another for a place in the store.</summary>
public delegate Task<StoreJoinResponse> StoreJoin(StoreJoinRequest request, CancellationToken cancel);

/// <summary>
/// A manager's store through its life: SQLite on the first manager, a supervised member of etcd from the second on; the changes from
/// one to the other, and from a lost cluster to a new one.
/// </summary>
/// <remarks>Everything that changes which store counts ends with the replacement of one file (<see cref="StoreRecord"/>).</remarks>
internal sealed partial class ManagerStore : IAsyncDisposable
{
    public const string DatabaseFile = "registry.db";
    private static readonly TimeSpan StartPatience = TimeSpan.FromSeconds(20), PromotePatience = TimeSpan.FromSeconds(60);
    private static readonly TimeSpan Pause = TimeSpan.FromMilliseconds(200);
    private readonly DaemonOptions _options;
    private readonly IdentityHolder _identity;
    private readonly StoreJoin _join;
    private readonly TimeProvider _time;
    private readonly ILoggerFactory _loggers;
    private readonly ILogger _logger;
    private readonly SemaphoreSlim _gate = new(1, 1);
    private CancellationTokenSource _attempt = new();
    private volatile bool _recovering;

    public ManagerStore(DaemonOptions options, IdentityHolder identity, StoreJoin join, TimeProvider time, ILoggerFactory loggers)
    {
        _options = options;
        _identity = identity;
        _join = join;
        _time = time;
        _loggers = loggers;
        _logger = loggers.CreateLogger<ManagerStore>();
        var membership = identity.Current.Membership;
        Place = new EtcdPlace(options.State, membership.NodeId, membership.Address, options.EtcdClientPort, options.EtcdPeerPort, options.StoreQuota);
        Process = new EtcdProcess(Place);
        Record = StoreRecord.Load(options.State);
    }

    public EtcdPlace Place { get; }

    public EtcdProcess Process { get; }

    /// <summary>Null: SQLite.</summary>
    public StoreRecord? Record { get; private set; }

    /// <summary>Null until it is open.</summary>
    public StoreSwitch? Switch { get; private set; }

    public EtcdStore? Etcd => Switch?.Current as EtcdStore;

    /// <summary>Whether a manager that works says that the registry has been recovered or restored beyond an incarnation, without this one.</summary>
    public Func<long, bool> IsSuperseded { get; init; } = _ => false;

    /// <summary>What hinders, or empty.</summary>
    public string Trouble { get; private set; } = "";

    private string DatabasePath => Path.Combine(_options.State, DatabaseFile);

    /// <summary>Whether the registry is in this machine's SQLite, which opens at once.</summary>
    public bool IsEmbedded => Record is null && !ExternalStore.IsUsed(_options) && File.Exists(DatabasePath);

    /// <summary>Somebody else runs the etcd.</summary>
    public bool IsExternal => ExternalStore.IsUsed(_options);

    /// <summary>Takes an SQLite store that is open, or opens the one that is there.</summary>
    public async Task OpenEmbeddedAsync(SqliteStore? open)
    {
        // A conversion that was broken off before it counted: SQLite is what it was, and nothing of the other is left.
        await Process.StopAsync().ConfigureAwait(false);
        RemoveData(except: null);
        open ??= SqliteStore.Open(SqliteOptions(DatabasePath));
        await open.SealAsync(false).ConfigureAwait(false);
        Switch = new StoreSwitch(open);
    }

    /// <summary>Brings the store up, however long that takes: starts etcd, joins the others' when there is no data, waits for a majority.</summary>
    /// <remarks>Without a majority it ends with a store that can only be read, and stale.</remarks>
    public async Task OpenAsync(CancellationToken cancel)
    {
        while (true)
        {
            cancel.ThrowIfCancellationRequested();
            await _gate.WaitAsync(cancel).ConfigureAwait(false);
            try
            {
                if (Switch is not null)
                    return;
                _attempt = CancellationTokenSource.CreateLinkedTokenSource(cancel);
                if (_recovering)
                    continue;
                if (IsExternal)
                {
                    var external = await EtcdStore.OpenAsync(ExternalStore.ClientOptions(_options, Place.Name, _loggers.CreateLogger<EtcdStore>(), _time), cancel: _attempt.Token).ConfigureAwait(false)
                        ?? throw new RegistryStoreException("the etcd that 'store' names holds no registry");
                    Switch = new StoreSwitch(external);
                    Trouble = "";
                    Log.Open(_logger, external.Identity.ClusterId, external.Identity.Incarnation);
                    return;
                }
                Record ??= await JoinStoreAsync(_attempt.Token).ConfigureAwait(false);
                var store = await StartMemberAsync(Record, _attempt.Token).ConfigureAwait(false);
                Remember(store);
                Switch = new StoreSwitch(store);
                Trouble = "";
                RemoveData(except: Record.DataDirectory);
                Log.Open(_logger, store.Identity.ClusterId, store.Identity.Incarnation);
                return;
            }
            catch (Exception e) when (e is RegistryStoreException or RegistryException or HttpRequestException or IOException)
            {
                if (Trouble != e.Message)
                    Log.NotOpen(_logger, e.Message);
                Trouble = e.Message;
                // Its members are gone for good, or work without it: waiting for them would never end.
                if (Record is { Incarnation: > 0 } record && IsSuperseded(record.Incarnation))
                    await ForgetMemberAsync().ConfigureAwait(false);
            }
            catch (OperationCanceledException) when (!cancel.IsCancellationRequested)
            {
                // A recovery takes over.
            }
            finally
            {
                _gate.Release();
            }
            await Task.Delay(Pause * 2, _time, cancel).ConfigureAwait(false);
        }
    }

    public async ValueTask DisposeAsync()
    {
        // etcd goes on: the daemon's successor adopts it, and the others keep their majority meanwhile.
        if (Switch is not null)
            await Switch.DisposeAsync().ConfigureAwait(false);
    }

    /// <summary>This node is no manager any more: ends its etcd and removes what it held of the registry.</summary>
    public async Task RemoveAsync()
    {
        await DisposeAsync().ConfigureAwait(false);
        await Process.StopAsync().ConfigureAwait(false);
        StoreRecord.Delete(_options.State);
        Record = null;
        RemoveData(except: null);
        foreach (var file in Directory.EnumerateFiles(_options.State, DatabaseFile + "*"))
            File.Delete(file);
    }

    public EtcdClientOptions ClientOptions(IReadOnlyList<Uri>? members = null) => new()
    {
        Members = members ?? [new Uri(Place.ClientUrl)],
        Preferred = new Uri(Place.ClientUrl),
        ClientId = Place.Name,
        Handler = Handler,
        Discover = true,
        Logger = _loggers.CreateLogger<EtcdStore>(),
        Time = _time,
    };

    private SocketsHttpHandler Handler() => ClusterTls.CreateHandler(() => _identity.Current);

    private SqliteStoreOptions SqliteOptions(string path) => new() { Path = path, Time = _time, Logger = _loggers.CreateLogger<SqliteStore>() };

    private static string NewToken() => Guid.NewGuid().ToString();

    private StoreRecord NewCluster(long incarnation)
    {
        var token = NewToken();
        return new StoreRecord
        {
            Token = token,
            DataDirectory = $"etcd-{token[..8]}",
            InitialCluster = $"{Place.Name}={Place.PeerUrl}",
            InitialState = "new",
            Incarnation = incarnation,
        };
    }

    private async Task<StoreRecord> JoinStoreAsync(CancellationToken cancel)
    {
        await Process.StopAsync().ConfigureAwait(false);
        var answer = await _join(new StoreJoinRequest { NodeId = Place.Name, PeerUrl = Place.PeerUrl, ClientUrl = Place.ClientUrl }, cancel).ConfigureAwait(false);
        var record = new StoreRecord
        {
            Token = answer.Token,
            DataDirectory = string.Create(System.Globalization.CultureInfo.InvariantCulture, $"etcd-{answer.MemberId:x}"),
            InitialCluster = answer.InitialCluster,
            InitialState = "existing",
        };
        record.Save(_options.State);
        return record;
    }

    /// <summary>Until this machine's member is a voter that serves.</summary>
    private async Task<EtcdStore> StartMemberAsync(StoreRecord record, CancellationToken cancel)
    {
        Process.Start(record);
        await ServesAsync(record, cancel).ConfigureAwait(false);
        using (var channel = new GrpcChannelOwner(this))
            await PromoteAsync(channel.Client, record, cancel).ConfigureAwait(false);
        try
        {
            if (await EtcdStore.OpenAsync(ClientOptions(), cancel: cancel).ConfigureAwait(false) is { } store)
                return store;
        }
        catch (RegistryStoreException e)
        {
            Log.Stale(_logger, e.Message);
            if (await EtcdStore.OpenAsync(ClientOptions(), stale: true, cancel: cancel).ConfigureAwait(false) is { } store)
                return store;
        }
        throw new RegistryStoreException("etcd holds no registry: an import was broken off, or it is another program's");
    }

    private async Task ServesAsync(StoreRecord record, CancellationToken cancel)
    {
        using var owner = new GrpcChannelOwner(this);
        var started = _time.GetTimestamp();
        while (true)
        {
            try
            {
                await owner.Client.StatusAsync(new Uri(Place.ClientUrl), cancel).ConfigureAwait(false);
                return;
            }
            catch (GrpcException e) when (_time.GetElapsedTime(started) < StartPatience)
            {
                if (Process.Running is null)
                {
                    // A removed member ends with code 0, again and again, until its data is gone: asked for is who is a member.
                    if (await IsRemovedAsync(record, cancel).ConfigureAwait(false))
                        await ForgetMemberAsync().ConfigureAwait(false);
                    throw new RegistryStoreException($"etcd ended: {Process.LastWords()}", e);
                }
                await Task.Delay(Pause, _time, cancel).ConfigureAwait(false);
            }
        }
    }

    private async Task PromoteAsync(EtcdClient client, StoreRecord record, CancellationToken cancel)
    {
        var own = new Uri(Place.ClientUrl);
        var status = await client.StatusAsync(own, cancel).ConfigureAwait(false);
        if (!status.IsLearner)
            return;
        var started = _time.GetTimestamp();
        // A learner does not answer questions about members; those it was started with do.
        var voters = OtherClients(record).ToList();
        if (voters.Count == 0)
            throw new RegistryStoreException("this machine's member is a learner and knows of no other");
        for (var attempt = 0; ; attempt++)
        {
            try
            {
                await client.Channel(voters[attempt % voters.Count]).CallAsync(
                    EtcdMethods.MemberPromote, new Registry.Store.Etcd.Wire.MemberPromoteRequest { ID = status.Header.MemberId },
                    Registry.Store.Etcd.Wire.MemberPromoteResponse.Parser, StartPatience, cancel).ConfigureAwait(false);
                Log.Promoted(_logger);
                return;
            }
            catch (GrpcException e) when (e.Text.Contains("not a learner", StringComparison.Ordinal) || e.Text.Contains("only promote a learner member", StringComparison.Ordinal) && !e.Text.Contains("in sync", StringComparison.Ordinal))
            {
                return;
            }
            catch (GrpcException) when (_time.GetElapsedTime(started) < PromotePatience)
            {
                // Not in sync with the leader yet, or no leader just now.
                await Task.Delay(Pause, _time, cancel).ConfigureAwait(false);
            }
        }
    }

    /// <summary>The incarnation is known from now on also while the store cannot be read.</summary>
    private void Remember(EtcdStore store)
    {
        if (Record!.Incarnation == store.Identity.Incarnation)
            return;
        Record = Record with { Incarnation = store.Identity.Incarnation };
        Record.Save(_options.State);
    }

    /// <summary>The data of an etcd cluster this machine is no member of goes, so that the next attempt asks for a place.</summary>
    private async Task ForgetMemberAsync()
    {
        Log.Removed(_logger);
        await Process.StopAsync().ConfigureAwait(false);
        StoreRecord.Delete(_options.State);
        Record = null;
        RemoveData(except: null);
    }

    private void RemoveData(string? except)
    {
        foreach (var directory in Directory.EnumerateDirectories(_options.State, "etcd-*"))
        {
            if (Path.GetFileName(directory) != except)
                Directory.Delete(directory, recursive: true);
        }
    }

    /// <summary>A client of this machine's own member, for a moment.</summary>
    private sealed class GrpcChannelOwner(ManagerStore store) : IDisposable
    {
        public EtcdClient Client { get; } = new(store.ClientOptions() with { Discover = false });

        public void Dispose() => Client.DisposeAsync().AsTask().GetAwaiter().GetResult();
    }

    private static partial class Log
    {
        [LoggerMessage(1, LogLevel.Information, "store: etcd is open, cluster {ClusterId}, incarnation {Incarnation}")]
        public static partial void Open(ILogger logger, string clusterId, long incarnation);

        [LoggerMessage(2, LogLevel.Warning, "store: not open yet: {Reason}")]
        public static partial void NotOpen(ILogger logger, string reason);

        [LoggerMessage(3, LogLevel.Warning, "store: no majority, reading what this member has: {Reason}")]
        public static partial void Stale(ILogger logger, string reason);

        [LoggerMessage(4, LogLevel.Information, "store: this machine's member votes")]
        public static partial void Promoted(ILogger logger);

        [LoggerMessage(5, LogLevel.Warning, "store: this machine's member has been removed from its cluster; its data goes")]
        public static partial void Removed(ILogger logger);

        [LoggerMessage(6, LogLevel.Information, "store: {Step}")]
        public static partial void Step(ILogger logger, string step);

        [LoggerMessage(7, LogLevel.Warning, "store: etcd has ended ({Words}); starting it again")]
        public static partial void Restarting(ILogger logger, string words);

        [LoggerMessage(8, LogLevel.Warning, "store: {Duty} put off: {Reason}")]
        public static partial void PutOff(ILogger logger, string duty, string reason);

        [LoggerMessage(9, LogLevel.Warning, "store: member {Name} at {Peer} is removed: {Why}")]
        public static partial void MemberRemoved(ILogger logger, string name, string peer, string why);
    }
}
