using OverlayNet.Contracts;
using OverlayNet.Daemon.Registry;
using OverlayNet.Daemon.Registry.Store;
using OverlayNet.Daemon.Registry.Store.Etcd;
using OverlayNet.Daemon.Registry.Store.Etcd.Wire;

namespace OverlayNet.Daemon.Managers;

/// <param name="Status">Null: it does not answer.</param>
internal sealed record MemberState(Member Member, StatusResponse? Status)
{
    public bool Reachable => Status is { Leader: not 0 };

    public bool Votes => !Member.IsLearner;

    public string Peer => Member.PeerURLs.FirstOrDefault() ?? "";
}

internal sealed partial class ManagerStore
{
    private static readonly TimeSpan AddPatience = TimeSpan.FromSeconds(20);
    private static readonly TimeSpan StabilisationTime = TimeSpan.FromSeconds(10);
    private static readonly TimeSpan DutyCall = TimeSpan.FromSeconds(30);
    private readonly Dictionary<ulong, long> _suspectSince = [];

    /// <summary>The members with what each says; asked all at once.</summary>
    /// <exception cref="RegistryStoreException">No member answers.</exception>
    public static async Task<IReadOnlyList<MemberState>> MembersAsync(EtcdStore store, CancellationToken cancel)
    {
        var client = store.Client;
        var list = await client.ReadAsync(EtcdMethods.MemberList, new MemberListRequest(), MemberListResponse.Parser, cancel, needsLeader: false).ConfigureAwait(false);
        return await Task.WhenAll(list.Members.Select(async member =>
        {
            if (member.ClientURLs.Count == 0)
                return new MemberState(member, null);
            try
            {
                return new MemberState(member, await client.StatusAsync(new Uri(member.ClientURLs[0]), cancel).ConfigureAwait(false));
            }
            catch (GrpcException)
            {
                return new MemberState(member, null);
            }
        })).ConfigureAwait(false);
    }

    /// <summary>Whether the voters that answer are still a majority without a member.</summary>
    public static bool IsSafeWithout(IReadOnlyList<MemberState> members, ulong id)
    {
        var left = members.Where(m => m.Votes && m.Member.ID != id).ToList();
        return left.Count > 0 && left.Count(m => m.Reachable) >= (left.Count / 2) + 1;
    }

    /// <summary>Makes room for a manager: converts SQLite, removes what is in the way, adds it as a learner.</summary>
    /// <exception cref="RegistryException">It cannot be added now.</exception>
    public async Task<StoreJoinResponse> AddMemberAsync(StoreJoinRequest request, CancellationToken cancel)
    {
        await _gate.WaitAsync(cancel).ConfigureAwait(false);
        try
        {
            await ConvertAsync(cancel).ConfigureAwait(false);
            var store = Etcd ?? throw new RegistryStoreException("this manager's store is not open");
            var started = _time.GetTimestamp();
            while (true)
            {
                try
                {
                    return await AddLearnerAsync(store, request, cancel).ConfigureAwait(false);
                }
                catch (GrpcException e) when (_time.GetElapsedTime(started) < AddPatience && (e.IsTransient || e.Code == GrpcCode.FailedPrecondition))
                {
                    // One learner at a time, and for some seconds after a promotion "unhealthy cluster".
                    await Task.Delay(Pause * 2, _time, cancel).ConfigureAwait(false);
                }
            }
        }
        catch (RegistryStoreException e)
        {
            throw Refuse.Unavailable(e.Message);
        }
        finally
        {
            _gate.Release();
        }
    }

    private async Task<StoreJoinResponse> AddLearnerAsync(EtcdStore store, StoreJoinRequest request, CancellationToken cancel)
    {
        var members = await MembersAsync(store, cancel).ConfigureAwait(false);
        foreach (var member in members)
        {
            // Who asks for a place has no data: a member at its address is what it was before its disk was lost.
            var isItself = member.Peer == request.PeerUrl;
            if (!isItself && (member.Status is not null || member.Member.Name == Place.Name || !IsSuspectFor(member, StabilisationTime)))
                continue;
            if (!IsSafeWithout(members, member.Member.ID))
                throw Refuse.Conflict("no-quorum", "member", member.Peer,
                    "it has to be removed first, and without it no majority of the store's members would be left",
                    "bring its manager back, or see 'overlaynet recover'");
            await RemoveMemberAsync(store, member, isItself ? "its manager joins with an empty disk" : "it does not answer, and a new manager joins", cancel).ConfigureAwait(false);
        }
        var added = await store.Client.ReadAsync(
            EtcdMethods.MemberAdd, new MemberAddRequest { PeerURLs = { request.PeerUrl }, IsLearner = true }, MemberAddResponse.Parser, cancel, DutyCall).ConfigureAwait(false);
        Log.Step(_logger, $"a member is added as a learner: {request.PeerUrl}");
        return new StoreJoinResponse
        {
            Token = Record!.Token,
            MemberId = added.Member.ID,
            InitialCluster = string.Join(',', added.Members.Select(m => $"{(m.ID == added.Member.ID ? request.NodeId : m.Name)}={m.PeerURLs[0]}")),
            Clients = [.. added.Members.Where(m => m.ClientURLs.Count > 0).Select(m => m.ClientURLs[0])],
        };
    }

    private async Task RemoveMemberAsync(EtcdStore store, MemberState member, string why, CancellationToken cancel)
    {
        try
        {
            await store.Client.ReadAsync(EtcdMethods.MemberRemove, new MemberRemoveRequest { ID = member.Member.ID }, MemberRemoveResponse.Parser, cancel, DutyCall).ConfigureAwait(false);
            Log.MemberRemoved(_logger, member.Member.Name, member.Peer, why);
        }
        catch (GrpcException e) when (e.Code == GrpcCode.NotFound)
        {
            // By somebody else, or by an attempt whose answer was lost.
        }
    }

    private bool IsSuspectFor(MemberState member, TimeSpan time) =>
        _suspectSince.TryGetValue(member.Member.ID, out var since) && _time.GetElapsedTime(since) >= time;

    /// <summary>
    /// Looks after the store, about once a second: this machine's member runs and belongs; the leader's manager removes members that
    /// are nobody's and mends a full store.
    /// </summary>
    /// <param name="managers">Peer addresses that belong to managers, as the registry says.</param>
    /// <param name="superseded">A manager that works says that the registry has been recovered or restored without this one.</param>
    /// <param name="isTurn">Whether the managers that go first have restarted their members already.</param>
    public async Task SuperviseAsync(IReadOnlyCollection<string> managers, bool superseded, Func<bool> isTurn, CancellationToken cancel)
    {
        if (!await _gate.WaitAsync(TimeSpan.Zero, cancel).ConfigureAwait(false))
            return;
        try
        {
            if (Etcd is not { } store || Record is not { } record)
                return;
            if (Process.Running is null || superseded)
            {
                if (superseded || await IsRemovedAsync(record, cancel).ConfigureAwait(false))
                {
                    await RejoinAsync(cancel).ConfigureAwait(false);
                    return;
                }
                Log.Restarting(_logger, Process.LastWords());
                Process.Start(record);
                return;
            }
            if (Process.Trust != _identity.Current.TrustHash && await MayRestartAsync(store, isTurn(), cancel).ConfigureAwait(false))
            {
                Log.Step(_logger, "other CAs are to be trusted: etcd is started anew");
                await Process.StopAsync().ConfigureAwait(false);
                Process.Start(record);
                await ServesAsync(record, cancel).ConfigureAwait(false);
            }
            var status = await store.Client.StatusAsync(new Uri(Place.ClientUrl), cancel).ConfigureAwait(false);
            if (status.IsLearner)
                await PromoteAsync(store.Client, record, cancel).ConfigureAwait(false);
            if (status.Leader == status.Header.MemberId)
                await LeadAsync(store, managers, cancel).ConfigureAwait(false);
        }
        catch (Exception e) when (e is RegistryStoreException or RegistryException or HttpRequestException or IOException)
        {
            Log.PutOff(_logger, "supervision", e.Message);
        }
        finally
        {
            _gate.Release();
        }
    }

    /// <summary>Members are restarted one by one, and none while another is away.</summary>
    private static async Task<bool> MayRestartAsync(EtcdStore store, bool isTurn, CancellationToken cancel) =>
        isTurn && (await MembersAsync(store, cancel).ConfigureAwait(false)).All(m => m.Reachable);

    private async Task LeadAsync(EtcdStore store, IReadOnlyCollection<string> managers, CancellationToken cancel)
    {
        var members = await MembersAsync(store, cancel).ConfigureAwait(false);
        foreach (var member in members)
        {
            var isNobodys = !managers.Contains(member.Peer);
            if (member.Reachable && !isNobodys)
                _suspectSince.Remove(member.Member.ID);
            else
                _suspectSince.TryAdd(member.Member.ID, _time.GetTimestamp());
        }
        foreach (var gone in _suspectSince.Keys.Except(members.Select(m => m.Member.ID)).ToList())
            _suspectSince.Remove(gone);
        foreach (var member in members)
        {
            var isNobodys = !managers.Contains(member.Peer);
            var isDead = !member.Reachable && IsSuspectFor(member, _options.ManagerDeadAfter);
            if (!(isNobodys && IsSuspectFor(member, isNobodys && member.Status is null ? TimeSpan.FromSeconds(2) : TimeSpan.FromSeconds(1))) && !isDead)
                continue;
            if (!IsSafeWithout(members, member.Member.ID))
            {
                Log.PutOff(_logger, $"removal of member {member.Member.Name}", "no majority would be left without it");
                continue;
            }
            if (member.Member.Name == Place.Name)
            {
                // This manager itself goes: somebody else leads, and removes it.
                if (members.FirstOrDefault(m => m.Reachable && m.Votes && m.Member.ID != member.Member.ID) is { } successor)
                    await store.Client.Channel(new Uri(Place.ClientUrl)).CallAsync(EtcdMethods.MoveLeader, new MoveLeaderRequest { TargetID = successor.Member.ID }, MoveLeaderResponse.Parser, DutyCall, cancel).ConfigureAwait(false);
                return;
            }
            await RemoveMemberAsync(store, member, isNobodys ? "it is no manager's" : $"it has not answered for {_options.ManagerDeadAfter.TotalMinutes:0} minutes", cancel).ConfigureAwait(false);
            return;
        }
        await MendSpaceAsync(store, members, cancel).ConfigureAwait(false);
    }

    /// <summary>A full store takes no writes: what is superseded is dropped, each member's file shrunk (the leader's last), the alarm taken back.</summary>
    private async Task MendSpaceAsync(EtcdStore store, IReadOnlyList<MemberState> members, CancellationToken cancel)
    {
        var alarms = await store.Client.ReadAsync(EtcdMethods.Alarm, new AlarmRequest(), AlarmResponse.Parser, cancel).ConfigureAwait(false);
        if (alarms.Alarms.All(a => a.Alarm != AlarmType.Nospace))
            return;
        var revision = await store.RevisionAsync(cancel).ConfigureAwait(false);
        Log.Step(_logger, $"no space: compacting to revision {revision}, defragmenting");
        try
        {
            await store.Client.ReadAsync(EtcdMethods.Compact, new CompactionRequest { Revision = revision, Physical = true }, CompactionResponse.Parser, cancel, DutyCall).ConfigureAwait(false);
        }
        catch (GrpcException e) when (e.Code == GrpcCode.OutOfRange)
        {
            // Compacted already.
        }
        foreach (var member in members.Where(m => m.Status is not null).OrderBy(m => m.Member.ID == m.Status!.Leader))
            await store.Client.Channel(new Uri(member.Member.ClientURLs[0])).CallAsync(EtcdMethods.Defragment, new DefragmentRequest(), DefragmentResponse.Parser, DutyCall, cancel, needsLeader: false).ConfigureAwait(false);
        foreach (var alarm in alarms.Alarms.Where(a => a.Alarm == AlarmType.Nospace))
        {
            await store.Client.ReadAsync(
                EtcdMethods.Alarm, new AlarmRequest { Action = AlarmRequest.Types.AlarmAction.Deactivate, MemberID = alarm.MemberID, Alarm = AlarmType.Nospace },
                AlarmResponse.Parser, cancel).ConfigureAwait(false);
        }
        Log.Step(_logger, "no space: mended, the alarm is off");
    }

    /// <summary>Whether the other members say that this machine's is none of them (any more).</summary>
    private async Task<bool> IsRemovedAsync(StoreRecord record, CancellationToken cancel)
    {
        var others = Etcd?.Client.Members.Where(m => m != new Uri(Place.ClientUrl)).ToList() ?? [];
        if (others.Count == 0)
            others = [.. OtherClients(record)];
        if (others.Count == 0)
            return false;
        var client = new EtcdClient(ClientOptions(others) with { Discover = false });
        await using (client.ConfigureAwait(false))
        {
            foreach (var other in others)
            {
                try
                {
                    // Only what a majority confirms counts: a member that was removed itself may know less.
                    await client.Channel(other).CallAsync(EtcdMethods.Range, new RangeRequest { Key = Google.Protobuf.ByteString.CopyFrom(0), KeysOnly = true, Limit = 1 }, RangeResponse.Parser, EtcdClient.AttemptTimeout, cancel).ConfigureAwait(false);
                    var list = await client.Channel(other).CallAsync(EtcdMethods.MemberList, new MemberListRequest(), MemberListResponse.Parser, EtcdClient.AttemptTimeout, cancel).ConfigureAwait(false);
                    return list.Members.All(m => m.PeerURLs.All(peer => peer != Place.PeerUrl))
                        || list.Members.Any(m => m.PeerURLs.Contains(Place.PeerUrl) && record.InitialState == "existing" && record.DataDirectory != $"etcd-{m.ID:x}");
                }
                catch (GrpcException)
                {
                    // The next one may know.
                }
            }
        }
        return false;
    }

    /// <summary>Client addresses of the others, from their peer addresses: all managers use the same pair of ports.</summary>
    private IEnumerable<Uri> OtherClients(StoreRecord record) => record.InitialCluster.Split(',')
        .Select(entry => entry[(entry.IndexOf('=', StringComparison.Ordinal) + 1)..])
        .Where(peer => peer != Place.PeerUrl)
        .Select(peer => new UriBuilder(peer) { Port = _options.EtcdClientPort }.Uri);

    private async Task RejoinAsync(CancellationToken cancel)
    {
        Log.Removed(_logger);
        await Process.StopAsync().ConfigureAwait(false);
        Record = await JoinStoreAsync(cancel).ConfigureAwait(false);
        RemoveData(except: Record.DataDirectory);
        var store = await StartMemberAsync(Record, cancel).ConfigureAwait(false);
        Remember(store);
        await Switch!.Replace(store).DisposeAsync().ConfigureAwait(false);
        Log.Open(_logger, store.Identity.ClusterId, store.Identity.Incarnation);
    }
}
