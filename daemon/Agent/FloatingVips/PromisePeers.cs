using System.Net;
using System.Text.Json;
using OverlayNet.Contracts;
using OverlayNet.Daemon.Api;
using OverlayNet.Daemon.Hosting;
using OverlayNet.Daemon.Registry;
using OverlayNet.Daemon.Security;
using OverlayNet.Vip.Fence;

namespace OverlayNet.Daemon.Agent.FloatingVips;

/// <summary>
/// The way from node to node for promises (policy hold-all): mutual TLS with the cluster's certificates on the port after the API's,
/// open only on nodes that take part in such a VIP. It must work while no manager does, so it needs none.
/// </summary>
internal sealed partial class PromisePeers : IPromisePeers, IAsyncDisposable
{
    private const string Path = "/v1/vip-promises";
    private readonly IdentityHolder _identity;
    private readonly SnapshotFollower _follower;
    private readonly ILoggerFactory _loggers;
    private readonly ILogger _logger;
    private readonly HttpClient _http;
    private Func<string, FencedVip?> _vips = _ => null;
    private WebApplication? _listener;

    public PromisePeers(IdentityHolder identity, SnapshotFollower follower, ILoggerFactory loggers)
    {
        (_identity, _follower, _loggers) = (identity, follower, loggers);
        _logger = loggers.CreateLogger<PromisePeers>();
        _http = new HttpClient(ClusterTls.CreatePeerHandler(identity)) { Timeout = Timeout.InfiniteTimeSpan };
    }

    /// <summary>The port of a node's listener.</summary>
    public static int PortOf(int apiPort) => apiPort + 1;

    /// <summary>Listens, once.</summary>
    /// <param name="vips">The fence of a set that runs here; null: none.</param>
    /// <exception cref="IOException">The port is taken.</exception>
    public void Listen(Func<string, FencedVip?> vips)
    {
        if (_listener is not null)
            return;
        _vips = vips;
        var port = PortOf(_identity.Current.Membership.ApiPort);
        var listener = WebHost.Build(_loggers, kestrel => kestrel.Listen(
            _identity.Current.Membership.Address, port, listen => listen.UseHttps(ClusterTls.CreateServer(_identity))));
        listener.MapPost(Path, AnswerAsync);
        listener.StartAsync().GetAwaiter().GetResult();
        _listener = listener;
        Log.Listening(_logger, port);
    }

    public async Task<FenceInput.PromiseAnswered> AskAsync(string peer, string vipSet, FenceInput.PromiseAsked question, CancellationToken cancel)
    {
        if (!_follower.Current.Nodes.TryGetValue(peer, out var node))
            throw Refuse.NodeUnknown(peer);
        using var request = new HttpRequestMessage(HttpMethod.Post, new UriBuilder("https", node.Address.ToString(), PortOf(node.ApiPort), Path).Uri) { Version = HttpVersion.Version11 };
        request.Content = JsonBody.Of(new VipPromiseQuestion
        {
            Set = vipSet,
            Holder = question.Holder,
            Round = question.Round,
            Incarnation = question.Version.Incarnation,
            Epoch = question.Version.Epoch,
            TtlMs = (int)question.Ttl.TotalMilliseconds,
        }, OverlayNetJson.Default.VipPromiseQuestion);
        using var response = await _http.SendAsync(request, cancel).ConfigureAwait(false);
        response.EnsureSuccessStatusCode();
        var answer = JsonSerializer.Deserialize(await response.Content.ReadAsByteArrayAsync(cancel).ConfigureAwait(false), OverlayNetJson.Default.VipPromiseAnswer)!;
        // Who answers is said by its certificate's node, which the address led to; a promise in another's name counts for nobody.
        return answer.Peer == peer
            ? new FenceInput.PromiseAnswered(peer, answer.Round, answer.Granted, new LeaseVersion(answer.Incarnation, answer.Epoch))
            : throw new InvalidDataException($"node {answer.Peer} answers at the address of node {peer}");
    }

    public async ValueTask DisposeAsync()
    {
        if (_listener is not null)
        {
            await _listener.StopAsync(TimeSpan.FromSeconds(1)).ConfigureAwait(false);
            await _listener.DisposeAsync().ConfigureAwait(false);
        }
        _http.Dispose();
    }

    private async Task AnswerAsync(HttpContext context)
    {
        // Only a member asks, and only in its own name.
        if (context.Connection.ClientCertificate is not { } certificate || CertificateSubject.Of(certificate) is not { } subject
            || !_follower.Current.Nodes.ContainsKey(subject.NodeId))
        {
            context.Response.StatusCode = StatusCodes.Status403Forbidden;
            return;
        }
        var question = await JsonSerializer.DeserializeAsync(context.Request.Body, OverlayNetJson.Default.VipPromiseQuestion, context.RequestAborted).ConfigureAwait(false);
        if (question is null || question.Holder != subject.NodeId || question.TtlMs is < 1 or > 60_000)
        {
            context.Response.StatusCode = StatusCodes.Status403Forbidden;
            return;
        }
        if (_vips(question.Set) is not { } fenced)
        {
            context.Response.StatusCode = StatusCodes.Status404NotFound;
            return;
        }
        var answer = await fenced.AnswerAsync(new FenceInput.PromiseAsked(
            question.Holder, question.Round, new LeaseVersion(question.Incarnation, question.Epoch), TimeSpan.FromMilliseconds(question.TtlMs)))
            .WaitAsync(context.RequestAborted).ConfigureAwait(false);
        await ApiCall.WriteAsync(context.Response, new VipPromiseAnswer
        {
            Peer = _identity.Current.Membership.NodeId,
            Round = answer.Round,
            Granted = answer.Granted,
            Incarnation = answer.Known.Incarnation,
            Epoch = answer.Known.Epoch,
        }, OverlayNetJson.Default.VipPromiseAnswer, StatusCodes.Status200OK).ConfigureAwait(false);
    }

    private static partial class Log
    {
        [LoggerMessage(1, LogLevel.Information, "floating VIPs: listens for promises of policy hold-all on port {Port}")]
        public static partial void Listening(ILogger logger, int port);
    }
}
