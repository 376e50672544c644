using System.Security.Cryptography;
using System.Text.Json;
using OverlayNet.Contracts;
using OverlayNet.Daemon.Registry;
using OverlayNet.Daemon.Registry.Store;

namespace OverlayNet.Daemon.Security;

/// <summary>The first node's beginnings of a cluster.</summary>
public static class ClusterInit
{
    /// <summary>
    /// Makes an empty store a cluster (CA, tokens, this node as its first manager) and writes the node's identity. The identity comes
    /// last: without it the node is no member, and the same again goes on where a crash ended the first try.
    /// </summary>
    /// <param name="node">What this node knows of itself; id, name, data centre, role, address and port are set here.</param>
    /// <param name="certificateLife">Of this node's certificate; null: the usual.</param>
    /// <exception cref="RegistryException">Bad input (400), or the store is a cluster already (409).</exception>
    public static async Task<NodeIdentity> RunAsync(
        IRegistryStore store, string stateDirectory, InitRequest request, string defaultName, Node? node = null,
        TimeProvider? time = null, CancellationToken cancel = default, TimeSpan? certificateLife = null)
    {
        time ??= TimeProvider.System;
        if (NodeIdentity.Exists(stateDirectory))
            throw AlreadyInitialised(store);
        var domain = Domain(request.ClusterDomain ?? ClusterRecord.DefaultDomain);
        var dc = Names.Label("dc", request.Dc ?? ClusterRecord.DefaultDc);
        var address = request.Address ?? throw Refuse.Invalid("missing-field", "address", null,
            "this node has no default route to take its address from", "say which address other nodes reach this one at: --address ADDRESS");
        var first = (node ?? new Node { Id = "", Name = "", Dc = "", Address = address }) with
        {
            Id = RandomNumberGenerator.GetHexString(12, lowercase: true),
            Name = Names.Label("nodeName", request.NodeName ?? defaultName),
            Dc = dc,
            Role = NodeRole.Manager,
            Address = address,
            ApiPort = request.ApiPort,
        };
        var cluster = new ClusterRecord
        {
            ClusterDomain = domain,
            Dc = dc,
            CreatedAtUnixMs = time.GetUtcNow().ToUnixTimeMilliseconds(),
        };
        await CreateAsync(store, cluster, time, cancel).ConfigureAwait(false);
        using var authority = await new ClusterSecrets(store, time, certificateLife).AuthorityAsync(cancel).ConfigureAwait(false);
        var registry = await ClusterRegistry.StartAsync(store, new ClusterRegistryOptions { Time = time }, cancel).ConfigureAwait(false);
        await using (registry.ConfigureAwait(false))
        {
            var nodes = registry.Current.Nodes.Values.ToList();
            if (nodes.Any(known => known.Name != first.Name || !known.Address.Equals(first.Address)))
                throw AlreadyInitialised(store);
            first = first with { Id = nodes.FirstOrDefault()?.Id ?? first.Id };
            await registry.RegisterNodeAsync(first, cancel: cancel).ConfigureAwait(false);
        }
        using var key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        var subject = new CertificateSubject(first.Id, NodeRole.Manager, store.Identity.ClusterId);
        var certificate = authority.Sign(NodeKeys.CreateRequest(key, first.Name), subject, first.Name, first.Address);
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

    /// <summary>One transaction; nothing when a try before this one got as far.</summary>
    private static async Task CreateAsync(IRegistryStore store, ClusterRecord cluster, TimeProvider time, CancellationToken cancel)
    {
        try
        {
            using var authority = CertificateAuthority.Create(store.Identity.ClusterId, time);
            var result = await store.CommitAsync(new Transaction
            {
                Guards = [Guard.Absent(Keys.Cluster)],
                Puts =
                [
                    new Put(Keys.Cluster, JsonSerializer.SerializeToUtf8Bytes(cluster, RegistryJson.Default.ClusterRecord)),
                    .. ClusterSecrets.Initial(authority),
                ],
            }, cancel).ConfigureAwait(false);
            if (result.Outcome == CommitOutcome.Unknown)
                throw Refuse.Unavailable("the store did not say whether the cluster was created; try again");
            if (result.Outcome != CommitOutcome.GuardFailed)
                return;
            var page = await store.RangeAsync(Keys.Cluster, limit: 1, cancel: cancel).ConfigureAwait(false);
            var known = JsonSerializer.Deserialize(page.Items[0].Value.Span, RegistryJson.Default.ClusterRecord)!;
            if (known.ClusterDomain != cluster.ClusterDomain || known.Dc != cluster.Dc)
                throw AlreadyInitialised(store);
        }
        catch (RegistryStoreException e)
        {
            throw Refuse.Unavailable(e.Message);
        }
    }

    private static RegistryException AlreadyInitialised(IRegistryStore store) => Refuse.Conflict(
        "already-initialised", "registry", store.Identity.ClusterId, "it is a cluster already", "use it as it is, or 'overlaynet leave --force' and begin again");

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
