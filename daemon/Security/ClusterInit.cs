using System.Security.Cryptography;
using System.Text.Json;
using OverlayNet.Contracts;
using OverlayNet.Daemon.Registry;
using OverlayNet.Daemon.Registry.Store;

namespace OverlayNet.Daemon.Security;

/// <summary>The first node's beginnings of a cluster.</summary>
public static class ClusterInit
{
    /// <summary>Makes an empty store a cluster (CA, tokens, this node as its first manager) and writes the node's identity.</summary>
    /// <param name="node">What this node knows of itself; id, name, data centre, role, address and port are set here.</param>
    /// <exception cref="RegistryException">Bad input (400), or the store is a cluster already (409).</exception>
    public static async Task<NodeIdentity> RunAsync(
        IRegistryStore store, string stateDirectory, InitRequest request, string defaultName, Node? node = null,
        TimeProvider? time = null, CancellationToken cancel = default)
    {
        time ??= TimeProvider.System;
        var domain = Domain(request.ClusterDomain ?? ClusterRecord.DefaultDomain);
        var dc = Names.Label("dc", request.Dc ?? ClusterRecord.DefaultDc);
        var first = (node ?? new Node { Id = "", Name = "", Dc = "", Address = request.Address }) with
        {
            Id = RandomNumberGenerator.GetHexString(12, lowercase: true),
            Name = Names.Label("nodeName", request.NodeName ?? defaultName),
            Dc = dc,
            Role = NodeRole.Manager,
            Address = request.Address,
            ApiPort = request.ApiPort,
        };
        using var authority = CertificateAuthority.Create(store.Identity.ClusterId, time);
        using var key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        var subject = new CertificateSubject(first.Id, NodeRole.Manager, store.Identity.ClusterId);
        var certificate = authority.Sign(NodeKeys.CreateRequest(key, first.Name), subject, first.Name, first.Address);
        var cluster = new ClusterRecord
        {
            ClusterDomain = domain,
            Dc = dc,
            CreatedAtUnixMs = time.GetUtcNow().ToUnixTimeMilliseconds(),
        };
        await CreateAsync(store, authority, cluster, cancel).ConfigureAwait(false);
        var registry = await ClusterRegistry.StartAsync(store, new ClusterRegistryOptions { Time = time }, cancel).ConfigureAwait(false);
        await using (registry.ConfigureAwait(false))
            await registry.RegisterNodeAsync(first, cancel: cancel).ConfigureAwait(false);
        return NodeIdentity.Save(
            stateDirectory,
            new Membership
            {
                NodeId = first.Id,
                NodeName = first.Name,
                ClusterId = store.Identity.ClusterId,
                ClusterDomain = domain,
                Dc = dc,
                Role = NodeRole.Manager,
                Address = first.Address,
                ApiPort = first.ApiPort,
                Managers = [HostPort.Format(first.Address, first.ApiPort)],
            },
            certificate, key, authority.CertificatePem);
    }

    private static async Task CreateAsync(
        IRegistryStore store, CertificateAuthority authority, ClusterRecord cluster, CancellationToken cancel)
    {
        try
        {
            var result = await store.CommitAsync(new Transaction
            {
                Guards = [Guard.Absent(Keys.Cluster)],
                Puts =
                [
                    new Put(Keys.Cluster, JsonSerializer.SerializeToUtf8Bytes(cluster, RegistryJson.Default.ClusterRecord)),
                    .. ClusterSecrets.Initial(authority),
                ],
            }, cancel).ConfigureAwait(false);
            if (result.Outcome == CommitOutcome.GuardFailed)
                throw Refuse.Conflict("already-initialised", "registry", store.Identity.ClusterId, "it is a cluster already",
                    "use it as it is, or 'overlaynet leave --force' and begin again");
            if (result.Outcome == CommitOutcome.Unknown)
                throw Refuse.Unavailable("the store did not say whether the cluster was created; look at it and try again");
        }
        catch (RegistryStoreException e)
        {
            throw Refuse.Unavailable(e.Message);
        }
    }

    private static string Domain(string domain)
    {
        foreach (var label in domain.Split('.'))
        {
            if (label.Length == 0 || label == "tasks")
                throw Refuse.Invalid("invalid-domain", "clusterDomain", domain, "it is not a DNS name",
                    "use labels of lower-case letters, digits and hyphens, such as overlay.internal");
            Names.Label("clusterDomain", label);
        }
        return domain;
    }
}
