using OverlayNet.Daemon.Registry;
using OverlayNet.Daemon.Registry.Store;
using OverlayNet.Daemon.Registry.Store.Etcd;

namespace OverlayNet.Daemon.Managers;

internal sealed partial class ManagerStore
{
    /// <summary>
    /// Moves the registry from SQLite to an etcd of one member, under way: etcd is started first; writing ends (sealed), what is
    /// waiting waits; the content is copied under a new incarnation; the record is replaced; everybody reads the whole anew.
    /// </summary>
    /// <exception cref="RegistryStoreException">It could not be done; SQLite goes on as before.</exception>
    public async Task ConvertAsync(CancellationToken cancel)
    {
        if (Switch?.Current is not SqliteStore sqlite)
            return;
        var record = NewCluster(StoreIdentity.Next(sqlite.Identity.Incarnation, _time.GetUtcNow()));
        Log.Step(_logger, "converting to etcd: starting a cluster of one member");
        await Process.StopAsync().ConfigureAwait(false);
        RemoveData(except: null);
        try
        {
            Process.Start(record);
            await ServesAsync(record, cancel).ConfigureAwait(false);
            var last = await sqlite.SealAsync(true, cancel).ConfigureAwait(false);
            Log.Step(_logger, $"converting to etcd: SQLite is sealed at revision {last}, copying");
            var content = await sqlite.RangeAsync("", cancel: cancel).ConfigureAwait(false);
            var etcd = await EtcdStore.CreateAsync(
                ClientOptions(), sqlite.Identity with { Incarnation = record.Incarnation }, content.Items.Select(i => new Put(i.Key, i.Value)), cancel: cancel).ConfigureAwait(false);
            record.Save(_options.State);
            Record = record;
            Switch.Replace(etcd);
            Log.Step(_logger, $"converted to etcd: {content.Items.Count} keys, incarnation {record.Incarnation}");
        }
        catch
        {
            await sqlite.SealAsync(false, CancellationToken.None).ConfigureAwait(false);
            await Process.StopAsync().ConfigureAwait(false);
            RemoveData(except: null);
            throw;
        }
        await sqlite.DisposeAsync().ConfigureAwait(false);
        // The CA's key is in it: it must not lie about for ever, and a backup of today is better.
        foreach (var file in Directory.EnumerateFiles(_options.State, DatabaseFile + "*"))
            File.Delete(file);
    }

    /// <summary>Copies a registry into a new etcd of one member, in the place of whatever this manager had.</summary>
    private async Task<EtcdStore> ReplaceClusterAsync(StoreIdentity identity, IReadOnlyList<Put> content, Action<string> step, CancellationToken cancel)
    {
        var record = NewCluster(identity.Incarnation);
        await Process.StopAsync().ConfigureAwait(false);
        step("this manager's etcd is stopped; its data is kept until the new one serves");
        Process.Start(record);
        await ServesAsync(record, cancel).ConfigureAwait(false);
        step($"a new etcd cluster of one member runs, token {record.Token}: members of the old one are strangers to it");
        var etcd = await EtcdStore.CreateAsync(ClientOptions(), identity, content, cancel: cancel).ConfigureAwait(false);
        step($"{content.Count} keys are in it, incarnation {identity.Incarnation}");
        record.Save(_options.State);
        Record = record;
        if (Switch is null)
            Switch = new StoreSwitch(etcd);
        else
            await Switch.Replace(etcd).DisposeAsync().ConfigureAwait(false);
        RemoveData(except: record.DataDirectory);
        step("it counts from now on; agents read the whole registry anew");
        return etcd;
    }
}
