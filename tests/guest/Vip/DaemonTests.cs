using System.Diagnostics;
using System.Globalization;
using System.Net;
using System.Net.Sockets;
using System.Text;
using System.Text.Json.Nodes;
using OverlayNet.ClusterTests.Harness;
using OverlayNet.ClusterTests.Vip;
using OverlayNet.Vip;
using Xunit.Abstractions;

namespace OverlayNet.GuestTests.Vip;

/// <summary>The ipvs path through the daemon: what <c>ipvsadm</c> reads back is what the registry says.</summary>
public sealed class DaemonTests(ITestOutputHelper output)
{
    private const string Network = "app";
    private static readonly TimeSpan MendedWithin = TimeSpan.FromSeconds(5);
    private static readonly string[] Schedulers = ["rr", "wrr", "lc", "wlc", "sh", "mh", "sed", "nq"];

    [Fact]
    public void No_connection_fails_when_every_daemon_is_killed_once() =>
        KillUnderLoad.Run("ipvs", TimeSpan.FromSeconds(8), TimeSpan.FromSeconds(1), output);

    [Fact]
    [Trait("Category", "Soak")]
    public void No_connection_fails_in_a_minute_of_kills() =>
        KillUnderLoad.Run("ipvs", TimeSpan.FromMinutes(1), TimeSpan.FromSeconds(1), output);

    [Fact]
    public void After_200_changes_and_kills_ipvsadm_reads_back_the_registry_and_damage_is_mended_in_5_seconds()
    {
        using var cluster = Cluster.Start(1);
        var node = cluster.Nodes[0];
        node.Cli("network", "create", "--subnet", "10.10.0.0/24", "--subnet6", "fd00:10::/64", Network);
        using var api = new Api(node.Socket);
        var random = new Random(2026);
        // Services that stay, with endpoints; those without come and go. Long drains, so that a drained endpoint stays in the table.
        List<string> fixedServices = ["web0", "web1"], passing = [], endpoints = [];
        foreach (var name in fixedServices)
        {
            api.Send("POST", "/v1/services", new JsonObject { ["name"] = name, ["network"] = Network, ["ports"] = new JsonArray("80", "53/udp"), ["drainSeconds"] = 86400 });
            endpoints.AddRange(Enumerable.Range(0, 2).Select(i => cluster.Attach($"{name}-{i}", node, Network, name).Name));
        }
        var client = cluster.AddContainer("client", node);
        client.Attach(Network);
        for (var change = 0; change < 200; change++)
        {
            Change(change);
            // Amid changes: what the daemon had not yet applied, its successor does.
            if (change is not (99 or 199))
                continue;
            node.Kill();
            node.Start();
            WaitUntilEqual(TimeSpan.FromSeconds(60));
        }

        Traffic();
        foreach (var damage in (string[][])[["ipvsadm", "-C"], ["ip", "addr", "flush", "dev", "br0"]])
        {
            var clock = Stopwatch.StartNew();
            In(damage[0], damage[1..]);
            WaitUntilEqual(TimeSpan.FromSeconds(60));
            output.WriteLine($"{string.Join(' ', damage)}: mended after {clock.Elapsed.TotalSeconds:0.0} s");
            Assert.True(clock.Elapsed <= MendedWithin, $"{string.Join(' ', damage)} was mended after {clock.Elapsed.TotalSeconds:0.0} s");
        }

        void Change(int number)
        {
            switch (random.Next(6))
            {
                case 0 when passing.Count < 12:
                case 1 when passing.Count < 6:
                    var name = string.Create(CultureInfo.InvariantCulture, $"svc{number}");
                    passing.Add(name);
                    api.Send("POST", "/v1/services", new JsonObject
                    {
                        ["name"] = name,
                        ["network"] = Network,
                        ["ports"] = Ports(),
                        ["scheduler"] = Schedulers[random.Next(8)],
                        ["affinitySeconds"] = random.Next(3) == 0 ? random.Next(1, 600) : 0,
                    });
                    break;
                case 0 or 1:
                    api.Send("DELETE", $"/v1/services/{passing[0]}");
                    passing.RemoveAt(0);
                    break;
                case 2:
                    var changed = passing.Concat(fixedServices).ElementAt(random.Next(passing.Count + 2));
                    api.Send("PATCH", $"/v1/services/{changed}", new JsonObject { ["scheduler"] = Schedulers[random.Next(8)], ["affinitySeconds"] = random.Next(2) * random.Next(1, 300) });
                    break;
                case 3 when passing.Count > 0:
                    api.Send("PATCH", $"/v1/services/{passing[random.Next(passing.Count)]}", new JsonObject { ["ports"] = Ports() });
                    break;
                default:
                    var state = random.Next(3) == 0 ? "draining" : "healthy";
                    api.Send("PATCH", $"/v1/endpoints/{endpoints[random.Next(endpoints.Count)]}", new JsonObject { ["weight"] = random.Next(1, 9000), ["state"] = state });
                    break;
            }
        }

        JsonArray Ports() => new([.. Enumerable.Range(0, random.Next(4)).Select(port => JsonValue.Create($"{80 + port}/{(random.Next(3) == 0 ? "udp" : "tcp")}"))]);

        void WaitUntilEqual(TimeSpan patience)
        {
            List<string> wanted = [], there = [];
            Wait.Until("ipvsadm reads back the registry", () =>
            {
                wanted = IpvsadmWords.Expected(api.Services());
                there = IpvsadmWords.Saved(In("ipvsadm", "-Sn"));
                return wanted.SequenceEqual(there);
            }, patience, () => $"registry only:\n{string.Join('\n', wanted.Except(there))}\nkernel only:\n{string.Join('\n', there.Except(wanted))}");
            Assert.Contains(wanted, line => line.StartsWith("-a ", StringComparison.Ordinal));
        }

        // --stats shows the registry's services and servers too, and counts what goes through them.
        void Traffic()
        {
            api.Send("PATCH", $"/v1/endpoints/{endpoints[0]}", new JsonObject { ["weight"] = 1, ["state"] = "healthy" });
            WaitUntilEqual(TimeSpan.FromSeconds(60));
            var vip = api.Services().Single(service => service.Name == fixedServices[0]).Addresses[0];
            using var servers = new Servers(cluster.Containers.Where(container => container.Name.StartsWith(fixedServices[0], StringComparison.Ordinal)));
            for (var i = 0; i < 10; i++)
                client.Exec("busybox", "nc", "-w", "5", vip.ToString(), "80");
            Wait.Until("--stats counts the connections", () => In("ipvsadm", "-Ln", "--stats").Split('\n')
                .Any(line => line.StartsWith($"TCP  {vip}:80 ", StringComparison.Ordinal) && long.Parse(line.Split(' ', StringSplitOptions.RemoveEmptyEntries)[2], CultureInfo.InvariantCulture) >= 10));
            var wanted = IpvsadmWords.Expected(api.Services()).Count(line => line.StartsWith("-a ", StringComparison.Ordinal));
            Assert.Equal(wanted, In("ipvsadm", "-Ln", "--stats").Split('\n').Count(line => line.StartsWith("  -> ", StringComparison.Ordinal)) - 1);
        }

        string In(string program, params string[] arguments) => Commands.In(node.NetworkNamespace(Network), program, arguments).Succeeded().Output;
    }

    /// <summary>Which instance a connection went to, the balancer's hop of a trace, and the doctor's finding, where IPVS carries the VIP.</summary>
    [Fact]
    public void Connections_trace_and_doctor_know_what_ipvs_has()
    {
        using var cluster = Cluster.Start(1);
        var node = cluster.Nodes[0];
        node.Cli("network", "create", "--subnet", "10.10.0.0/24", Network);
        node.Cli("service", "create", "--network", Network, "--port", "8080", "--balancer", "ipvs", "web");
        var server = cluster.Attach("web1", node, Network, "web");
        server.Serve(8080);
        var client = cluster.Attach("client", node, Network);
        var vip = (string)node.CliJson("service", "inspect", "web")[0]!["vip4"]!;
        Wait.Until("the VIP answers", () => client.Exec("curl", "-s", "-f", "-m", "5", $"http://{vip}:8080/").Code == 0, TimeSpan.FromSeconds(60), () => Commands.In(node.NetworkNamespace(Network), "ipvsadm", "-Ln").ToString() + Commands.In(server.Netns, "nft", "list", "ruleset"));
        using var held = client.Start("python3", "-c", $"import socket, time\nheld = socket.create_connection(('{vip}', 8080))\nprint('held', held.getsockname()[1], flush=True)\ntime.sleep(300)").Says("held");
        var port = int.Parse(held.Output.Split(' ')[1], CultureInfo.InvariantCulture);

        var connection = Assert.Single(node.CliJson("endpoint", "connections", "client").AsArray(), one => (int)one!["sourcePort"]! == port)!;
        Assert.Equal(
            ("web", "web1", "node1", server.Address, 8080, vip, 8080, client.Address, true),
            ((string?)connection["service"], (string?)connection["endpoint"], (string?)connection["node"], (string?)connection["server"], (int)connection["serverPort"]!,
                (string?)connection["vip"], (int)connection["vipPort"]!, (string?)connection["source"], (bool)connection["live"]!));

        var balancer = Balancer();
        Assert.True((bool)balancer["ok"]!, balancer.ToJsonString());
        Assert.Contains($"ipvs tcp {vip}:8080: {server.Address} (", (string)balancer["message"]!, StringComparison.Ordinal);
        Assert.DoesNotContain("balancer.", Doctor(), StringComparison.Ordinal);

        // Asked for while the daemon can answer; nothing mends it now.
        var network = node.NetworkNamespace(Network);
        Commands.Run("kill", "-STOP", node.Pid.ToString(CultureInfo.InvariantCulture)).Succeeded();
        try
        {
            Commands.In(network, "ipvsadm", "-C").Succeeded();
            balancer = Balancer();
            Assert.False((bool)balancer["ok"]!, balancer.ToJsonString());
        }
        finally
        {
            Commands.Run("kill", "-CONT", node.Pid.ToString(CultureInfo.InvariantCulture));
        }

        JsonNode Balancer()
        {
            var trace = Program("trace", "--json", "--state", node.State, "--no-probe", "-4", "client", vip);
            return JsonNode.Parse(trace.Output)!["paths"]![0]!["hops"]!.AsArray().Single(hop => (string)hop!["hop"]! == "balancer")!;
        }

        string Doctor() => Program("doctor", "--json", "--state", node.State).Output;

        // A busy host makes the guest slow.
        CommandResult Program(params string[] arguments) =>
            Commands.Run(TimeSpan.FromMinutes(4), "ip", ["netns", "exec", node.Netns, Path.Combine(Tree.Out, "overlaynet"), "--socket", node.Socket, .. arguments]);
    }

    private sealed class Servers(IEnumerable<Container> containers) : IDisposable
    {
        private readonly List<OctetServer> _servers = [.. containers.Select(container => new OctetServer(container.Netns, IPAddress.Parse(container.Address!), 80))];

        public void Dispose() => _servers.ForEach(server => server.Dispose());
    }

    /// <summary>The daemon's own API: two hundred runs of the command line would take the guest minutes.</summary>
    private sealed class Api(string socket) : IDisposable
    {
        private readonly HttpClient _client = new(new SocketsHttpHandler
        {
            ConnectCallback = async (_, cancel) =>
            {
                var connection = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
                await connection.ConnectAsync(new UnixDomainSocketEndPoint(socket), cancel);
                return new NetworkStream(connection, ownsSocket: true);
            },
            PooledConnectionIdleTimeout = TimeSpan.Zero,
        })
        {
            BaseAddress = new Uri("http://localhost"),
        };

        public void Dispose() => _client.Dispose();

        internal string Send(string method, string path, JsonObject? body = null)
        {
            using var request = new HttpRequestMessage(new HttpMethod(method), path);
            if (body is not null)
                request.Content = new StringContent(body.ToJsonString(), Encoding.UTF8, "application/json");
            using var response = _client.Send(request);
            using var reader = new StreamReader(response.Content.ReadAsStream());
            var answer = reader.ReadToEnd();
            Assert.True(response.IsSuccessStatusCode, $"{method} {path} {body?.ToJsonString()}: {(int)response.StatusCode} {answer}");
            return answer;
        }

        /// <summary>What the registry says, as a balancer should have it: a healthy endpoint's weight counts eightfold.</summary>
        internal List<VipService> Services()
        {
            var endpoints = JsonNode.Parse(Send("GET", "/v1/endpoints"))!.AsArray();
            return
            [
                .. JsonNode.Parse(Send("GET", "/v1/services"))!.AsArray().Select(service => new VipService
                {
                    Id = (string)service!["id"]!,
                    Name = (string)service["name"]!,
                    Addresses = [IPAddress.Parse((string)service["vip4"]!), IPAddress.Parse((string)service["vip6"]!)],
                    Ports = [.. service["ports"]!.AsArray().Select(port => new VipPort((string?)port!["protocol"] == "udp" ? VipPort.Udp : VipPort.Tcp, (ushort)(int)port["port"]!, (ushort)(int)port["target"]!))],
                    Scheduler = (string)service["scheduler"]!,
                    AffinitySeconds = (int?)service["affinitySeconds"] ?? 0,
                    RealServers =
                    [
                        .. endpoints.Where(endpoint => (string?)endpoint!["serviceId"] == (string)service["id"]!).Select(endpoint => new RealServer
                        {
                            EndpointId = (string)endpoint!["id"]!,
                            Address4 = IPAddress.Parse((string)endpoint["address4"]!),
                            Address6 = IPAddress.Parse((string)endpoint["address6"]!),
                            Weight = (string)endpoint["state"]! == "healthy" ? Math.Min(8 * (int)endpoint["weight"]!, 65535) : 0,
                        }),
                    ],
                }),
            ];
        }
    }
}
