using System.Net;
using System.Net.Security;
using System.Net.Sockets;
using System.Security.Cryptography.X509Certificates;
using OverlayNet.ClusterTests.Harness;
using OverlayNet.Daemon.Agent;
using OverlayNet.Daemon.Registry;
using OverlayNet.Kernel;

namespace OverlayNet.ClusterTests.Managers;

/// <summary>Agents' own client and selector, three hundred times, against three real managers that are restarted one after the other.</summary>
public sealed class HomingTests(Xunit.Abstractions.ITestOutputHelper output)
{
    private const int Agents = 300;

    [Fact]
    [Trait("Category", "Soak")]
    public async Task After_a_rolling_restart_agents_are_spread_over_managers_within_ten_percent()
    {
        using var world = new ManagersCluster(workers: 1);
        var (nodes, worker) = (world.Nodes, world.Nodes[3]);
        ManagersCluster.UntilVoters(nodes[0], 3);
        using var ns = NetworkNamespace.Open($"/run/netns/{worker.Netns}");
        using var certificate = X509Certificate2.CreateFromPemFile($"{worker.State}/identity/node.pem", $"{worker.State}/identity/node.pem");
        using var connections = Connections(ns, certificate);
        var id = (string)worker.CliJson("status")["nodeId"]!;
        var managers = nodes.Take(3).Select(n => new Uri($"https://{n.Address}:7373")).ToArray();
        using var stop = new CancellationTokenSource();
        // Ids that do not change from run to run: how evenly the hash spreads them is known, and what is tested is that they come home.
        var agents = Enumerable.Range(0, Agents).Select(i => new Follower($"{i * 7919:x12}", id, managers, connections)).ToList();
        var running = agents.ConvertAll(a => Task.Run(() => a.RunAsync(stop.Token)));
        UntilSpread("at first");
        foreach (var node in nodes.Take(3))
        {
            node.Stop();
            Wait.Until($"{node.Name}'s agents are elsewhere", () => agents.All(a => a.Manager is { } m && m.Host != node.Address), TimeSpan.FromSeconds(60), Shares);
            node.Start();
            ManagersCluster.UntilVoters(node, 3);
        }
        var took = UntilSpread("after the rolling restart");
        output.WriteLine($"after a rolling restart, {took.TotalSeconds:0.0} s after the last manager was back: {Shares()}");
        await stop.CancelAsync();
        foreach (var task in running)
            await task.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing | ConfigureAwaitOptions.ContinueOnCapturedContext);

        string Shares() => string.Join(", ", managers.Select(m => $"{m.Host} {agents.Count(a => a.Manager == m)}"));
        TimeSpan UntilSpread(string when) => Wait.Until($"agents are spread {when}",
            () => managers.All(m => Math.Abs(agents.Count(a => a.Manager == m) - (Agents / 3.0)) <= Agents / 3.0 * 0.10), TimeSpan.FromSeconds(90), Shares);
    }

    private static SocketsHttpHandler Connections(NetworkNamespace ns, X509Certificate2 certificate) => new()
    {
        ConnectCallback = async (context, cancel) =>
        {
            var socket = ns.Run(() => new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp) { NoDelay = true });
            try
            {
                await socket.ConnectAsync(IPAddress.Parse(context.DnsEndPoint.Host), context.DnsEndPoint.Port, cancel);
                return new NetworkStream(socket, ownsSocket: true);
            }
            catch
            {
                socket.Dispose();
                throw;
            }
        },
        SslOptions = new SslClientAuthenticationOptions
        {
            RemoteCertificateValidationCallback = (_, _, _, _) => true,
            LocalCertificateSelectionCallback = (_, _, _, _, _) => certificate,
        },
    };

    /// <summary>Follows the registry as an agent does, through whichever manager its selector says. All show one node's certificate, and ask after that node.</summary>
    private sealed class Follower
    {
        private readonly Asker _asker;
        private readonly RegistryClient _client;
        private volatile Uri? _manager;

        public Follower(string clientId, string nodeId, IReadOnlyList<Uri> managers, HttpMessageHandler connections)
        {
            _asker = new Asker(clientId, nodeId, connections);
            _client = new RegistryClient(
                new HttpClient(_asker, disposeHandler: false) { Timeout = Timeout.InfiniteTimeSpan },
                new ManagerSelector(() => managers, clientId, () => null, TimeProvider.System), TimeProvider.System);
        }

        /// <summary>The manager that speaks to it; null: none at present.</summary>
        public Uri? Manager => _manager;

        public async Task RunAsync(CancellationToken cancel)
        {
            var (revision, incarnation) = (-1L, 0L);
            while (!cancel.IsCancellationRequested)
            {
                try
                {
                    using var watchdog = CancellationTokenSource.CreateLinkedTokenSource(cancel);
                    watchdog.CancelAfter(TimeSpan.FromSeconds(5));
                    await foreach (var message in _client.Watch(revision, incarnation, watchdog.Token))
                    {
                        watchdog.CancelAfter(TimeSpan.FromSeconds(5));
                        (revision, incarnation) = (message.Revision, message.Incarnation);
                        _manager = _asker.Last;
                    }
                }
                catch (Exception e) when (e is RegistryException or HttpRequestException or IOException or OperationCanceledException)
                {
                    // The manager is going or gone; the next in its order is asked.
                }
                _manager = null;
                await Task.Delay(Random.Shared.Next(25, 75), CancellationToken.None);
            }
        }
    }

    private sealed class Asker(string clientId, string nodeId, HttpMessageHandler connections) : DelegatingHandler(connections)
    {
        /// <summary>Who was asked for the stream that is being read.</summary>
        public Uri? Last { get; private set; }

        protected override Task<HttpResponseMessage> SendAsync(HttpRequestMessage request, CancellationToken cancellationToken)
        {
            if (request.RequestUri!.AbsolutePath == "/v1/watch")
                Last = new Uri(request.RequestUri, "/");
            else
                request.RequestUri = new Uri(request.RequestUri.ToString().Replace(clientId, nodeId, StringComparison.Ordinal));
            return base.SendAsync(request, cancellationToken);
        }
    }
}
