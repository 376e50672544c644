using OverlayNet.Contracts;
using OverlayNet.Daemon.Registry;
using OverlayNet.Daemon.Security;

namespace OverlayNet.Daemon.Api;

public enum CallerKind
{
    /// <summary>No certificate: may only join.</summary>
    Anonymous,

    /// <summary>A node: may read, and write what is about itself.</summary>
    Worker,

    Manager,

    /// <summary>Whoever the unix socket's file mode lets in: may do everything.</summary>
    Local,
}

/// <summary>Who makes a request, by the way it came in; nothing a caller writes into the request counts.</summary>
/// <param name="NodeId">Null for callers that are no node.</param>
public sealed record CallerIdentity(CallerKind Kind, string? NodeId)
{
    /// <summary>TLS has checked the certificate against the cluster's CA already; this reads what it says.</summary>
    /// <exception cref="RegistryException">410: the certificate's node is not (or no longer) a member.</exception>
    public static CallerIdentity Of(HttpContext context, Snapshot registry)
    {
        if (context.Features.Get<LocalCallerFeature>() is not null)
            return new CallerIdentity(CallerKind.Local, null);
        if (context.Connection.ClientCertificate is not { } certificate || CertificateSubject.Of(certificate) is not { } subject)
            return new CallerIdentity(CallerKind.Anonymous, null);
        if (subject.ClusterId != registry.ClusterId || !registry.Nodes.TryGetValue(subject.NodeId, out var node))
            throw Refuse.NodeUnknown(subject.NodeId);
        // Both have to say manager: a demotion counts at once, a promotion with the new certificate.
        return subject.Role == NodeRole.Manager && node.Role == NodeRole.Manager
            ? new CallerIdentity(CallerKind.Manager, node.Id)
            : new CallerIdentity(CallerKind.Worker, node.Id);
    }

    /// <summary>For the audit.</summary>
    public string Describe(Snapshot registry) => Kind switch
    {
        CallerKind.Local => "local",
        CallerKind.Anonymous => "anonymous",
        _ => $"node {registry.Nodes.GetValueOrDefault(NodeId!)?.Name ?? NodeId}",
    };
}
