using System.Security.Cryptography;
using Microsoft.Extensions.Logging.Abstractions;
using OverlayNet.Contracts;
using OverlayNet.Daemon.Registry;

namespace OverlayNet.Daemon.Security;

/// <summary>The manager's side of a join.</summary>
/// <param name="needsEtcd">Each manager runs a member of the store.</param>
/// <param name="acceptManagers">False while the store is embedded: it has room for one manager.</param>
public sealed partial class JoinService(
    ClusterRegistry registry, ClusterSecrets secrets, EventLog? events = null, ILogger? logger = null, bool acceptManagers = false, bool needsEtcd = true)
{
    /// <summary>Silence after which a node of the same name and address may be joined again.</summary>
    private static readonly TimeSpan SilentBefore = TimeSpan.FromSeconds(5);
    private readonly ILogger _logger = logger ?? NullLogger.Instance;

    /// <summary>Makes whoever has a token a member: records the node and signs its key.</summary>
    /// <param name="from">Where the request came from, for the log.</param>
    /// <exception cref="RegistryException">403 for a wrong token, 400 and 409 for what else is wrong.</exception>
    public async Task<JoinResponse> JoinAsync(JoinRequest request, string from, CancellationToken cancel = default)
    {
        if (!Protocol.Understands(request.ProtocolVersion))
            throw ProtocolRefusal.Of(request.ProtocolVersion);
        var verdict = await secrets.JudgeAsync(request.Token, cancel).ConfigureAwait(false);
        if (verdict.Role is not { } role)
            throw Refused(request, from, verdict.Problem);
        if (role == NodeRole.Manager && !acceptManagers)
            throw Refuse.Conflict("one-manager", "token", "manager", "this manager cannot take in another: there is no etcd on its machine",
                "install it there (apt-get install etcd-server), or join as a worker, with the token of 'overlaynet token show worker'");
        if (role == NodeRole.Manager && needsEtcd && !request.HasEtcd)
            throw Refuse.Conflict("no-etcd", "token", "manager", "there is no etcd on the joining machine, and every one of several managers runs a member",
                "install it there: apt-get install etcd-server");
        var node = new Node
        {
            Id = Rebuilt(request)?.Id ?? RandomNumberGenerator.GetHexString(12, lowercase: true),
            Name = request.NodeName,
            Dc = request.Dc ?? registry.Dc,
            Role = role,
            Address = request.Address,
            ApiPort = request.ApiPort,
            UnderlayMtu = request.UnderlayMtu,
            ProtocolVersion = request.ProtocolVersion,
        };
        using var authority = await secrets.AuthorityAsync(cancel).ConfigureAwait(false);
        string certificate;
        try
        {
            certificate = authority.Sign(
                request.Csr, new CertificateSubject(node.Id, role, registry.Current.ClusterId), Names.Label("nodeName", node.Name), node.Address);
        }
        catch (CryptographicException e)
        {
            throw Refuse.Invalid("invalid-csr", "csr", null, $"it cannot be signed: {e.Message}",
                "send a PKCS#10 request (PEM) for an ECDSA P-256 key");
        }
        if (verdict.OnceId is { } once && !await secrets.UseUpAsync(once, node.Name, cancel).ConfigureAwait(false))
            throw Refused(request, from, "it let in one node and is used up");
        try
        {
            await registry.RegisterNodeAsync(node, $"token from {from}", cancel).ConfigureAwait(false);
        }
        catch (RegistryException) when (verdict.OnceId is not null)
        {
            await secrets.GiveBackAsync(verdict.OnceId, CancellationToken.None).ConfigureAwait(false);
            throw;
        }
        Log.Joined(_logger, node.Name, node.Id, role, from);
        var current = registry.Current;
        return new JoinResponse
        {
            NodeId = node.Id,
            ClusterId = current.ClusterId,
            ClusterDomain = current.ClusterDomain,
            Dc = node.Dc,
            Role = role,
            Certificate = certificate,
            Ca = await secrets.TrustPemAsync(cancel).ConfigureAwait(false),
            Managers = [.. current.Nodes.Values.Where(n => n.Role == NodeRole.Manager).Select(n => HostPort.Format(n.Address, n.ApiPort))],
        };
    }

    /// <summary>A member of this name and address that has not been heard of for a while: its machine was rebuilt, and it is the same node again.</summary>
    private Node? Rebuilt(JoinRequest request) => registry.Current.Nodes.Values.FirstOrDefault(node =>
        node.Name == request.NodeName && node.Address.Equals(request.Address) && (node.State != NodeState.Ready || registry.SinceHeard(node.Id) >= SilentBefore));

    private RegistryException Refused(JoinRequest request, string from, string why)
    {
        Log.TokenRefused(_logger, from, request.NodeName, why);
        events?.Append(Kinds.Node, "join-refused", request.NodeName, $"wrong token, from {from}: {why}");
        return new RegistryException(StatusCodes.Status403Forbidden, new ErrorBody
        {
            Code = "token-invalid",
            Message = $"token: this cluster does not accept it; {why}",
            Field = "token",
            Remedy = "ask a manager for the current one with 'overlaynet token show worker', or for a further one with 'overlaynet token create worker'",
        });
    }

    private static partial class Log
    {
        [LoggerMessage(Level = LogLevel.Warning, Message = "Join refused: wrong token from {From}, calling itself {Node}: {Why}")]
        public static partial void TokenRefused(ILogger logger, string from, string node, string why);

        [LoggerMessage(Level = LogLevel.Information, Message = "Node {Node} ({NodeId}) joined as {Role} from {From}")]
        public static partial void Joined(ILogger logger, string node, string nodeId, NodeRole role, string from);
    }
}
