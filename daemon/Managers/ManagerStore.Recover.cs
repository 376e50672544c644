using System.Net;
using System.Net.Sockets;
using System.Text.Json;
using OverlayNet.Daemon.Registry;
using OverlayNet.Daemon.Registry.Store;
using OverlayNet.Daemon.Registry.Store.Etcd;

namespace OverlayNet.Daemon.Managers;

internal sealed partial class ManagerStore
{
    /// <summary>Everything the store has: confirmed by a majority when there is one, else what this machine's member has, running or not.</summary>
    /// <exception cref="RegistryStoreException">Nothing can be read.</exception>
    public async Task<BackupFile> ExportAsync(string node, CancellationToken cancel)
    {
        if (Switch is { } store)
        {
            try
            {
                if (!(store.SinceConfirmed > TimeSpan.FromSeconds(10)))
                    return BackupFile.Of(store.Identity, await store.RangeAsync("", cancel: cancel).ConfigureAwait(false), node, confirmed: true, _time.GetUtcNow());
            }
            catch (RegistryStoreException e)
            {
                Log.Stale(_logger, e.Message);
            }
            try
            {
                // This machine's own member: the others are gone, or it would have been confirmed.
                await using var own = await EtcdStore.OpenAsync(ClientOptions() with { Discover = false }, stale: true, cancel: cancel).ConfigureAwait(false);
                if (own is not null)
                    return BackupFile.Of(own.Identity, await own.RangeAsync("", stale: true, cancel: cancel).ConfigureAwait(false), node, confirmed: false, _time.GetUtcNow());
            }
            catch (RegistryStoreException e)
            {
                Log.Stale(_logger, e.Message);
            }
        }
        if (Record is not { } record || !Directory.Exists(Process.DataPath(record)))
            throw new RegistryStoreException("this manager has no data of the registry");
        return await ExportFromDiskAsync(record, node, cancel).ConfigureAwait(false);
    }

    /// <summary>Takes the store's place in a new cluster of one member.</summary>
    /// <param name="content">What it shall hold.</param>
    public async Task ReplaceAsync(StoreIdentity identity, IReadOnlyList<Put> content, Action<string> step, CancellationToken cancel)
    {
        await WithGateAsync(async () =>
        {
            if (Record is not null)
                await ReplaceClusterAsync(identity, content, step, cancel).ConfigureAwait(false);
            else
                await ReplaceDatabaseAsync(identity, content, step, cancel).ConfigureAwait(false);
        }, cancel).ConfigureAwait(false);
    }

    /// <summary>The content of a restored or recovered registry: nodes that may still live are waited for before addresses are given out.</summary>
    public static IReadOnlyList<Put> WithWaiting(IReadOnlyList<Put> content, IEnumerable<string> nodeIds)
    {
        var waiting = JsonSerializer.SerializeToUtf8Bytes(new RecoveryRecord { Waiting = [.. nodeIds.Order(StringComparer.Ordinal)] }, RegistryJson.Default.RecoveryRecord);
        return [.. content.Where(put => put.Key != Keys.Recovery), new Put(Keys.Recovery, waiting)];
    }

    private async Task ReplaceDatabaseAsync(StoreIdentity identity, IReadOnlyList<Put> content, Action<string> step, CancellationToken cancel)
    {
        var next = DatabasePath + ".restored";
        File.Delete(next);
        var made = await SqliteStore.CreateAsync(SqliteOptions(next), identity, content, cancel).ConfigureAwait(false);
        await made.DisposeAsync().ConfigureAwait(false);
        step($"a new database has {content.Count} keys, incarnation {identity.Incarnation}");
        if (Switch?.Current is SqliteStore old)
        {
            await old.SealAsync(true, cancel).ConfigureAwait(false);
            await old.DisposeAsync().ConfigureAwait(false);
        }
        foreach (var file in new[] { DatabasePath + "-wal", DatabasePath + "-shm" })
            File.Delete(file);
        File.Move(next, DatabasePath, overwrite: true);
        var store = SqliteStore.Open(SqliteOptions(DatabasePath));
        if (Switch is null)
            Switch = new StoreSwitch(store);
        else
            Switch.Replace(store);
        step("it has taken the old one's place; agents read the whole registry anew");
    }

    private async Task WithGateAsync(Func<Task> action, CancellationToken cancel)
    {
        // An attempt to bring up a store that cannot come up holds the gate for long.
        _recovering = true;
        await _attempt.CancelAsync().ConfigureAwait(false);
        await _gate.WaitAsync(cancel).ConfigureAwait(false);
        try
        {
            await action().ConfigureAwait(false);
        }
        finally
        {
            _recovering = false;
            _gate.Release();
        }
    }

    /// <summary>
    /// A member that has been started without a majority serves nobody. A copy of its data can be opened alone: it forgets the others
    /// (--force-new-cluster), listens on loopback only, and is thrown away when it has been read.
    /// </summary>
    private async Task<BackupFile> ExportFromDiskAsync(StoreRecord record, string node, CancellationToken cancel)
    {
        BackupFile? backup = null;
        await WithGateAsync(async () =>
        {
            await Process.StopAsync().ConfigureAwait(false);
            var name = $"etcd-export-{Environment.ProcessId}";
            var copy = Path.Combine(_options.State, name);
            if (Directory.Exists(copy))
                Directory.Delete(copy, recursive: true);
            CopyDirectory(Process.DataPath(record), copy);
            var (client, peer) = ($"http://127.0.0.1:{FreePort()}", $"http://127.0.0.1:{FreePort()}");
            var alone = new System.Diagnostics.ProcessStartInfo(EtcdProcess.Find() ?? throw new RegistryStoreException("there is no etcd on this machine")) { UseShellExecute = false, RedirectStandardError = true, RedirectStandardOutput = true };
            foreach (var argument in (string[])["--name", Place.Name, "--data-dir", copy, "--listen-client-urls", client, "--advertise-client-urls", client,
                "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", $"{Place.Name}={peer}", "--force-new-cluster", "--logger", "zap", "--log-level", "error"])
                alone.ArgumentList.Add(argument);
            alone.Environment["ETCD_UNSUPPORTED_ARCH"] = "arm64";
            using var process = System.Diagnostics.Process.Start(alone)!;
            process.BeginErrorReadLine();
            process.BeginOutputReadLine();
            try
            {
                backup = await ReadAloneAsync(new Uri(client), node, cancel).ConfigureAwait(false);
            }
            finally
            {
                process.Kill();
                await process.WaitForExitAsync(CancellationToken.None).ConfigureAwait(false);
                Directory.Delete(copy, recursive: true);
            }
        }, cancel).ConfigureAwait(false);
        return backup!;
    }

    private async Task<BackupFile> ReadAloneAsync(Uri client, string node, CancellationToken cancel)
    {
        var started = _time.GetTimestamp();
        while (true)
        {
            try
            {
                await using var store = await EtcdStore.OpenAsync(new EtcdClientOptions { Members = [client], Time = _time }, cancel: cancel).ConfigureAwait(false)
                    ?? throw new RegistryStoreException("the data of this manager's etcd holds no registry");
                return BackupFile.Of(store.Identity, await store.RangeAsync("", cancel: cancel).ConfigureAwait(false), node, confirmed: false, _time.GetUtcNow());
            }
            catch (GrpcException) when (_time.GetElapsedTime(started) < StartPatience)
            {
                await Task.Delay(Pause, _time, cancel).ConfigureAwait(false);
            }
        }
    }

    private static void CopyDirectory(string from, string to)
    {
        Directory.CreateDirectory(to, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);
        foreach (var directory in Directory.EnumerateDirectories(from, "*", SearchOption.AllDirectories))
            Directory.CreateDirectory(Path.Combine(to, Path.GetRelativePath(from, directory)), UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);
        foreach (var file in Directory.EnumerateFiles(from, "*", SearchOption.AllDirectories))
            File.Copy(file, Path.Combine(to, Path.GetRelativePath(from, file)));
    }

    private static int FreePort()
    {
        using var socket = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        socket.Bind(new IPEndPoint(IPAddress.Loopback, 0));
        return ((IPEndPoint)socket.LocalEndPoint!).Port;
    }
}
