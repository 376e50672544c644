using OverlayNet.Contracts;
using OverlayNet.Daemon.Registry;
using OverlayNet.Daemon.Registry.Store;
using OverlayNet.Daemon.Security;

namespace OverlayNet.Daemon.Managers;

internal sealed partial class ManagerPart
{
    private const string BackupFolder = "backups", BackupExtension = ".backup";
    private static readonly TimeSpan BackupRetry = TimeSpan.FromMinutes(1);

    /// <summary>Writes a backup and tries it out.</summary>
    /// <param name="path">Null: among this manager's own.</param>
    /// <exception cref="RegistryException">Nothing can be read, or the file cannot be written.</exception>
    public async Task<StepsReport> BackupAsync(string? path, CancellationToken cancel)
    {
        var backup = await ExportAsync(cancel).ConfigureAwait(false);
        path ??= OwnBackupPath("registry", backup.Header);
        try
        {
            Directory.CreateDirectory(Path.GetDirectoryName(path)!);
            backup.Save(path);
            var tried = await BackupFile.TryRestoreAsync(path, cancel).ConfigureAwait(false);
            _events.Append("registry", "backup", path, $"incarnation {backup.Header.Incarnation}, {backup.Content.Count} keys", backup.Header.Revision);
            return new StepsReport
            {
                Incarnation = backup.Header.Incarnation,
                Revision = backup.Header.Revision,
                Steps =
                [
                    $"read {backup.Content.Count} keys at revision {backup.Header.Revision} of incarnation {backup.Header.Incarnation}{(backup.Header.Confirmed ? ", confirmed by a majority" : ", as this manager had them: no majority to confirm that they are the newest")}",
                    $"wrote {path} ({new FileInfo(path).Length} bytes, mode 0600: it holds the cluster's CA key)",
                    $"restored it into a store that was thrown away: {tried.Nodes.Count} nodes, {tried.Networks.Count} networks, {tried.Services.Count} services, {tried.Endpoints.Count} endpoints",
                ],
            };
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or InvalidDataException)
        {
            throw Refuse.Unavailable($"the backup could not be made: {e.Message}");
        }
    }

    /// <summary>From one surviving manager to a working cluster of one, which others can join again.</summary>
    /// <exception cref="RegistryException">A majority lives, or it is not said that the others are destroyed.</exception>
    public async Task<StepsReport> RecoverAsync(RecoverRequest request, CancellationToken cancel)
    {
        RefuseExternal();
        if (Store.Record is null)
            throw Refuse.Conflict("embedded", "registry", null, "it is this machine's own and needs no others", "use 'overlaynet restore FILE' if its file is damaged");
        var steps = new List<string>();
        void Step(string text)
        {
            steps.Add(text);
            _events.Append("registry", "recover", _identity.Current.Membership.NodeName, text);
        }
        var snapshot = Snapshot;
        var others = snapshot.Nodes.Values.Where(n => n.Role == NodeRole.Manager && n.Id != NodeId).OrderBy(n => n.Name, StringComparer.Ordinal).ToList();
        foreach (var unknown in request.Destroyed.Where(name => others.All(n => n.Name != name)))
            throw Refuse.Invalid("unknown-manager", "destroyed", unknown, "there is no other manager of this name", $"the others are {string.Join(", ", others.Select(n => n.Name))}");
        await RefuseWhileAMajorityLives(request, others, cancel).ConfigureAwait(false);
        Step($"no majority: of {others.Count + 1} managers this one is left; declared destroyed: {string.Join(", ", request.Destroyed)}");

        var backup = await ExportAsync(cancel).ConfigureAwait(false);
        Step($"read {backup.Content.Count} keys at revision {backup.Header.Revision}, incarnation {backup.Header.Incarnation}, from this manager's own member");
        var path = OwnBackupPath("before-recover", backup.Header);
        backup.Save(path);
        Step($"kept them in {path}");
        var lost = others.Where(n => request.Destroyed.Contains(n.Name)).Select(n => n.Id).ToHashSet();
        var waiting = snapshot.Nodes.Keys.Where(id => !lost.Contains(id)).ToList();
        var identity = new StoreIdentity(backup.Header.ClusterId, StoreIdentity.Next(Math.Max(backup.Header.Incarnation, snapshot.Incarnation), _time.GetUtcNow()));
        return await ReplaceRegistryAsync(identity, backup.Content, waiting, steps, Step, cancel).ConfigureAwait(false);
    }

    /// <summary>Puts a backup in the place of the registry.</summary>
    /// <exception cref="RegistryException">Not a backup of this cluster, or the registry works and it is not said that it shall go.</exception>
    public async Task<StepsReport> RestoreAsync(RestoreRequest request, CancellationToken cancel)
    {
        RefuseExternal();
        var steps = new List<string>();
        void Step(string text)
        {
            steps.Add(text);
            _events.Append("registry", "restore", _identity.Current.Membership.NodeName, text);
        }
        var backup = LoadBackup(request.File);
        if (backup.Header.ClusterId != _identity.Current.Membership.ClusterId)
            throw Refuse.Conflict("other-cluster", "file", request.File, $"it is of cluster {backup.Header.ClusterId}, and this node belongs to {_identity.Current.Membership.ClusterId}", "restore it on a machine of that cluster, or on one that is a member of none");
        if (!request.Force && Store.Switch is { } store && store.SinceConfirmed < TimeSpan.FromSeconds(4))
            throw Refuse.Conflict("registry-works", "registry", null, "it works, and what was written since the backup would be lost",
                "say --force if that is what you want; 'overlaynet backup' first keeps what there is");
        Step($"{request.File}: {backup.Content.Count} keys at revision {backup.Header.Revision} of incarnation {backup.Header.Incarnation}, taken {backup.Header.TakenAt:u} on {backup.Header.Node}");
        try
        {
            var present = await ExportAsync(cancel).ConfigureAwait(false);
            var path = OwnBackupPath("before-restore", present.Header);
            present.Save(path);
            Step($"kept what was there in {path}");
        }
        catch (RegistryException e)
        {
            Step($"nothing of the present registry could be kept: {e.Message}");
        }
        var nodes = (await BackupFile.TryRestoreAsync(request.File, cancel).ConfigureAwait(false)).Nodes;
        var known = Math.Max(backup.Header.Incarnation, Math.Max(Snapshot.Incarnation, Store.Switch?.Identity.Incarnation ?? 0));
        var identity = new StoreIdentity(backup.Header.ClusterId, StoreIdentity.Next(known, _time.GetUtcNow()));
        var self = Snapshot.Nodes.GetValueOrDefault(NodeId);
        var report = await ReplaceRegistryAsync(identity, backup.Content, nodes.Keys.Append(NodeId).Distinct(), steps, Step, cancel).ConfigureAwait(false);
        if (self is not null && !nodes.ContainsKey(NodeId))
        {
            await Registry!.RegisterNodeAsync(self, "restore", cancel).ConfigureAwait(false);
            Step("this manager had joined after the backup; it is recorded again");
        }
        return report with { Steps = steps };
    }

    /// <exception cref="RegistryException">400: it cannot be read.</exception>
    public static BackupFile LoadBackup(string path)
    {
        try
        {
            return BackupFile.Load(path);
        }
        catch (InvalidDataException e)
        {
            throw Refuse.Invalid("invalid-backup", "file", path, e.Message, "choose a file that 'overlaynet backup' wrote");
        }
    }

    private async Task<StepsReport> ReplaceRegistryAsync(
        StoreIdentity identity, IReadOnlyList<Put> content, IEnumerable<string> waiting, List<string> steps, Action<string> step, CancellationToken cancel)
    {
        try
        {
            await Store.ReplaceAsync(identity, ManagerStore.WithWaiting(content, waiting), step, cancel).ConfigureAwait(false);
        }
        catch (Exception e) when (e is RegistryStoreException or IOException)
        {
            throw Refuse.Unavailable($"{e.Message}; done so far: {string.Join("; ", steps)}");
        }
        await Ready.WaitAsync(cancel).ConfigureAwait(false);
        while (Registry!.Current.Incarnation != identity.Incarnation)
            await Registry.WaitForChangeAsync(Registry.Current.Revision, cancel).ConfigureAwait(false);
        step("no address is given out, and no lease of a floating VIP is granted for its longest time, until every node that may live has said what it has");
        step("destroyed machines: 'overlaynet node rm --force NAME'; new managers: 'overlaynet join' with the manager token");
        return new StepsReport { Steps = steps, Incarnation = identity.Incarnation, Revision = Registry.Current.Revision };
    }

    private async Task RefuseWhileAMajorityLives(RecoverRequest request, List<Node> others, CancellationToken cancel)
    {
        var alive = await Task.WhenAll(others.Select(node => AnswersAsync(node, cancel))).ConfigureAwait(false);
        var reachable = others.Where((_, i) => alive[i]).ToList();
        if (reachable.FirstOrDefault(n => request.Destroyed.Contains(n.Name)) is { } living)
            throw Refuse.Conflict("not-destroyed", "destroyed", living.Name, "it answers", "leave it out, or stop it for good first");
        var voters = others.Count + 1;
        if (Store.Switch is { } store && store.SinceConfirmed < TimeSpan.FromSeconds(4))
            throw Refuse.Conflict("majority-lives", "registry", null, "a majority of the managers works", "nothing needs to be recovered; see 'overlaynet node ls'");
        if ((reachable.Count + 1) * 2 > voters)
            throw Refuse.Conflict("majority-lives", "registry", null, $"{reachable.Count + 1} of {voters} managers answer, a majority: they find together by themselves ({string.Join(", ", reachable.Select(n => n.Name))})", "wait a few seconds, and see 'overlaynet node ls'");
        var unsaid = others.Except(reachable).Where(n => !request.Destroyed.Contains(n.Name)).Select(n => n.Name).ToList();
        if (unsaid.Count > 0)
            throw Refuse.Conflict("say-destroyed", "destroyed", string.Join(", ", unsaid),
                "no answer, which does not tell whether they are destroyed or only cut off; if they live, they may still be the registry, and there would be two",
                $"make sure that they are off for good, then: overlaynet recover {string.Join(' ', unsaid.Select(n => $"--destroyed {n}"))}");
    }

    private async Task<bool> AnswersAsync(Node node, CancellationToken cancel)
    {
        if (Peers.Last(node.Id) is { Age: var age } && age < ManagerPeers.Fresh)
            return true;
        using var timeout = CancellationTokenSource.CreateLinkedTokenSource(cancel);
        timeout.CancelAfter(TimeSpan.FromSeconds(2));
        foreach (var port in new[] { node.ApiPort, _options.EtcdClientPort, _options.EtcdPeerPort })
        {
            using var socket = new System.Net.Sockets.Socket(node.Address.AddressFamily, System.Net.Sockets.SocketType.Stream, System.Net.Sockets.ProtocolType.Tcp);
            try
            {
                await socket.ConnectAsync(node.Address, port, timeout.Token).ConfigureAwait(false);
                return true;
            }
            catch (Exception e) when (e is System.Net.Sockets.SocketException or OperationCanceledException)
            {
                // Refused or silent; another port may answer.
            }
        }
        return false;
    }

    private async Task<BackupFile> ExportAsync(CancellationToken cancel)
    {
        try
        {
            return await Store.ExportAsync(_identity.Current.Membership.NodeName, cancel).ConfigureAwait(false);
        }
        catch (RegistryStoreException e)
        {
            throw Refuse.Unavailable(e.Message);
        }
    }

    private string OwnBackupPath(string kind, BackupHeader header)
    {
        var folder = Path.Combine(_options.State, BackupFolder);
        Directory.CreateDirectory(folder, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);
        return Path.Combine(folder, string.Create(System.Globalization.CultureInfo.InvariantCulture, $"{kind}-{header.TakenAt:yyyyMMdd'T'HHmmss'Z'}-i{header.Incarnation}-r{header.Revision}{BackupExtension}"));
    }

    /// <summary>A backup at every interval; the newest are kept. Those made before a recovery or restore are not counted and stay.</summary>
    private async Task BackupsAsync()
    {
        if (_options.BackupInterval == TimeSpan.Zero)
            return;
        var folder = Path.Combine(_options.State, BackupFolder);
        while (!_stop.IsCancellationRequested)
        {
            var wait = BackupRetry;
            try
            {
                var newest = Directory.Exists(folder) ? Directory.EnumerateFiles(folder, $"registry-*{BackupExtension}").Select(File.GetLastWriteTimeUtc).DefaultIfEmpty().Max() : default;
                var due = newest + _options.BackupInterval - _time.GetUtcNow().UtcDateTime;
                if (due > TimeSpan.Zero && newest != default)
                {
                    wait = due;
                }
                else if (Registry is not null)
                {
                    await BackupAsync(null, _stop.Token).ConfigureAwait(false);
                    foreach (var old in Directory.EnumerateFiles(folder, $"registry-*{BackupExtension}").OrderDescending(StringComparer.Ordinal).Skip(_options.BackupKeep))
                        File.Delete(old);
                    wait = _options.BackupInterval;
                }
                else
                {
                    wait = TimeSpan.FromSeconds(1);
                }
            }
            catch (Exception e) when (e is RegistryException or IOException)
            {
                Log.BackupFailed(_loggers.CreateLogger<ManagerPart>(), e.Message);
            }
            catch (OperationCanceledException)
            {
                return;
            }
            await Task.Delay(wait, _time, _stop.Token).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        }
    }

    private static partial class Log
    {
        [LoggerMessage(1, LogLevel.Error, "backup: {Reason}")]
        public static partial void BackupFailed(ILogger logger, string reason);
    }

    private void RefuseExternal()
    {
        if (Store.IsExternal)
            throw Refuse.Conflict("external-store", "registry", null, "it is in an etcd that somebody else runs", "restore that etcd with its own means; then set it as 'store' and start the managers");
    }
}
