using System.Net;
using System.Security.Cryptography;
using OverlayNet.Contracts;
using OverlayNet.Daemon.Configuration;
using OverlayNet.Daemon.Registry;
using OverlayNet.Daemon.Registry.Store;
using OverlayNet.Daemon.Security;

namespace OverlayNet.Daemon.Managers;

/// <summary>A backup restored on a machine that is a member of nothing: it becomes the cluster's first manager.</summary>
internal static class FirstRestore
{
    public sealed record Result(NodeIdentity Identity, SqliteStore Store, Node Node, IReadOnlyList<string> Steps);

    /// <exception cref="RegistryException">Not a backup, or no address to be reached at.</exception>
    public static async Task<Result> RunAsync(
        DaemonOptions options, RestoreRequest request, SqliteStoreOptions store, TimeProvider time, CancellationToken cancel)
    {
        var backup = ManagerPart.LoadBackup(request.File);
        var before = await BackupFile.TryRestoreAsync(request.File, cancel).ConfigureAwait(false);
        var name = Names.Label("nodeName", request.NodeName ?? options.NodeName);
        var address = request.Address ?? options.NodeAddress ?? before.FindNode(name).Value?.Address
            ?? throw Refuse.Invalid("invalid-address", "address", null, "it is not known which address other nodes reach this one at", "give it with --address");
        var known = before.Nodes.Values.FirstOrDefault(node => node.Name == name);
        if (before.Nodes.Values.FirstOrDefault(node => node.Address.Equals(address) && node.Name != name) is { } other)
            throw Refuse.Conflict("address-taken", "address", address.ToString(), $"node '{other.Name}' of the backup has it", $"restore as that node (--name {other.Name}), or give another address");
        var node = (known ?? new Node { Id = RandomNumberGenerator.GetHexString(12, lowercase: true), Name = name, Dc = options.Dc, Address = address }) with
        {
            Role = NodeRole.Manager,
            Address = address,
            ApiPort = options.ApiPort,
        };
        var identity = new StoreIdentity(backup.Header.ClusterId, StoreIdentity.Next(backup.Header.Incarnation, time.GetUtcNow()));
        foreach (var file in Directory.EnumerateFiles(options.State, ManagerStore.DatabaseFile + "*"))
            File.Delete(file);
        var restored = await SqliteStore.CreateAsync(store, identity, ManagerStore.WithWaiting(backup.Content, before.Nodes.Keys.Append(node.Id).Distinct()), cancel).ConfigureAwait(false);
        var secrets = new ClusterSecrets(restored, time);
        using var authority = await secrets.AuthorityAsync(cancel).ConfigureAwait(false);
        using var key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        var certificate = authority.Sign(NodeKeys.CreateRequest(key, name), new CertificateSubject(node.Id, NodeRole.Manager, identity.ClusterId), name, address);
        var saved = NodeIdentity.Save(options.State, new Membership
        {
            NodeId = node.Id,
            NodeName = name,
            ClusterId = identity.ClusterId,
            ClusterDomain = before.ClusterDomain,
            Dc = node.Dc,
            Role = NodeRole.Manager,
            Address = address,
            ApiPort = options.ApiPort,
            Managers = [HostPort.Format(address, options.ApiPort)],
        }, certificate, key, await secrets.TrustPemAsync(cancel).ConfigureAwait(false));
        return new Result(saved, restored, node,
        [
            $"{request.File}: {backup.Content.Count} keys at revision {backup.Header.Revision} of incarnation {backup.Header.Incarnation}, taken {backup.Header.TakenAt:u} on {backup.Header.Node}",
            $"this machine is node {name} ({node.Id}){(known is null ? ", a new one" : ", as in the backup")}, and the manager of cluster {identity.ClusterId}",
            $"the registry is in SQLite, incarnation {identity.Incarnation}; nodes that reach {address} find it by themselves",
            "no address is given out, and no lease of a floating VIP is granted for its longest time, until every node has said what it has; declare lost ones so: overlaynet node rm --force NAME",
        ]);
    }
}
