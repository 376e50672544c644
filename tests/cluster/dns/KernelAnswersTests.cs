using System.Buffers.Binary;
using System.Net;
using System.Net.Sockets;
using System.Text;
using Microsoft.Extensions.Logging.Abstractions;
using Microsoft.Win32.SafeHandles;
using OverlayNet.ClusterTests.Kernel;
using OverlayNet.Dns;
using OverlayNet.Dns.InKernel;
using OverlayNet.Kernel;
using OverlayNet.Kernel.Bpf;
using OverlayNet.Kernel.Netlink;

namespace OverlayNet.ClusterTests.Dns;

/// <summary>
/// Answers that the kernel gives, beside those of the daemon: a network's namespace with a bridge and the gateway's
/// addresses, a container's with a link to it. Needs root and Linux 6.6.
/// </summary>
public sealed class KernelAnswersTests : IDisposable
{
    private const int Port = 53, Seed = 20261127, Patience = 60_000;
    private const string Device = "br0", BridgePort = "p0", Listeners = "test", Attached = "test/bridge", AttachedToPort = "test/port";

    private static readonly IPAddress gateway4 = IPAddress.Parse("10.66.0.1"), gateway6 = IPAddress.Parse("fd66::1"), plain4 = IPAddress.Parse("10.66.0.3");

    private readonly TestNamespaces _namespaces = new();
    private readonly string _network, _container;
    private readonly Dictionary<IPAddress, (SafeFileHandle Udp, SafeFileHandle Tcp)> _sockets = [];
    private KernelAnswers _kernel;
    private DnsServer _server;

    public KernelAnswersTests()
    {
        _network = _namespaces.Create("net");
        _container = _namespaces.Create("client");
        Shell.Run($"ip -n {_network} link add {Device} type bridge");
        foreach (var address in new[] { $"{gateway4}/24", $"{plain4}/24", $"{gateway6}/64 nodad" })
            Shell.Run($"ip -n {_network} address add {address} dev {Device}");
        Shell.Run($"ip -n {_network} link set {Device} up");
        Shell.Run($"ip -n {_network} link add p0 type veth peer name eth0 netns {_container}");
        Shell.Run($"ip -n {_network} link set p0 master {Device} up");
        Shell.Run($"ip -n {_container} address add 10.66.0.2/24 dev eth0");
        Shell.Run($"ip -n {_container} address add fd66::2/64 dev eth0 nodad");
        Shell.Run($"ip -n {_container} link set eth0 up");
        _kernel = new KernelAnswers(queriesPerSecond: 0);
        _server = Start(_kernel, gateway4, gateway6);
        Attach();
    }

    public void Dispose()
    {
        _server.Dispose();
        _kernel.Dispose();
        foreach (var (udp, tcp) in _sockets.Values)
        {
            udp.Dispose();
            tcp.Dispose();
        }

        _namespaces.Dispose();
    }

    private static readonly string[] names =
        ["web", "WeB", "web.front", "web.front.dc1.overlay.internal", "Web.Front.OVERLAY.internal", "lone", "www", "tasks.solo.front"];

    public static TheoryData<string> Names => [.. names];

    [Theory]
    [MemberData(nameof(Names))]
    public void The_second_answer_is_the_kernels_and_the_same(string name)
    {
        foreach (var gateway in new[] { gateway4, gateway6 })
        {
            using var socket = Connect(gateway);
            foreach (var type in new ushort[] { 1, 28 })
            {
                foreach (var (flags1, flags2) in new[] { (1, 0), (0, 0), (1, 0x10), (1, 0x30) })
                {
                    foreach (var opt in new byte[]?[] { null, Opt(1232), Opt(512, dnssecOk: true), Opt(65535) })
                    {
                        // Another name by its letters' case, so that every combination meets the daemon first.
                        var query = Query(name, type, (byte)flags1, (byte)flags2, opt);
                        _kernel.Clear();
                        var first = Exchange(socket, query);
                        Assert.Equal(1, first[7]);
                        var before = _kernel.Counts.Answered;
                        var second = Exchange(socket, query);
                        Assert.Equal(before + 1, _kernel.Counts.Answered);
                        Assert.Equal(Convert.ToHexString(first), Convert.ToHexString(second));
                    }
                }
            }
        }
    }

    [Fact]
    public void What_is_not_plain_is_left_to_the_daemon()
    {
        using var socket = Connect(gateway4);
        Exchange(socket, Query("web", 1));
        var plain = Query("web", 1);
        var cases = new (string What, byte[] Query)[]
        {
            ("cookie", Query("web", 1, opt: [0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 12, 0, 10, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8])),
            ("EDNS version 1", Query("web", 1, opt: [0, 0, 41, 4, 208, 0, 1, 0, 0, 0, 0])),
            ("another record than OPT", Query("web", 1, opt: [0, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0])),
            ("class CH", [.. plain[..^1], 3]),
            ("two questions", [.. plain[..5], 2, .. plain[6..], .. plain[12..]]),
            ("opcode STATUS", [.. plain[..2], 0x11, .. plain[3..]]),
            ("type ANY", Query("web", 255)),
            ("TXT", Query("web-1.web", 16)),
            ("several addresses", Query("db", 1)),
            ("absent", Query("nobody", 1)),
            ("without the type", Query("v4only", 28)),
            ("of another network", Query("store", 1)),
            ("a name that ends sooner than the datagram", [.. plain[..16], .. new byte[4], 0, 0, 1, 0, 1]),
            ("octets behind the question", [.. plain, 0]),
            ("cut off", plain[..^1]),
            ("long", Query(new string('a', 60) + "." + new string('b', 60), 1)),
        };
        foreach (var (what, query) in cases)
        {
            var first = TryExchange(socket, query, 2000);
            var before = _kernel.Counts.Answered;
            var second = TryExchange(socket, query, 2000);
            Assert.True(before == _kernel.Counts.Answered, $"{what}: the kernel answered");
            Assert.Equal(first is null, second is null);
        }
    }

    [Fact]
    public void Mutated_queries_are_answered_as_by_the_daemon_alone() => Mutate(20_000);

    [Fact]
    [Trait("Category", "Soak")]
    public void FuzzSoak_of_mutated_queries_answered_as_by_the_daemon_alone() => Mutate(1_000_000);

    private void Mutate(int count)
    {
        using var alone = Start(null, plain4);
        using var a = Connect(gateway4);
        using var b = Connect(plain4);
        var random = new Random(Seed);
        var seeds = names.SelectMany(name => new[] { Query(name, 1), Query(name, 28, opt: Opt(1232)), Query(name, 1, opt: Opt(4096, dnssecOk: true)) }).ToArray();
        foreach (var seed in seeds)
            Exchange(a, seed);
        for (var i = 0; i < count; i++)
        {
            var query = (byte[])seeds[random.Next(seeds.Length)].Clone();
            for (var changes = random.Next(3); changes > 0; changes--)
                query[random.Next(2, query.Length)] = random.Next(3) == 0 ? (byte)random.Next(256) : (byte)random.Next(3);
            if (random.Next(10) == 0)
                query = query[..random.Next(12, query.Length)];
            BinaryPrimitives.WriteUInt16BigEndian(query, (ushort)i);
            // Responses are dropped by both; everything else of a header's length gets an answer.
            if ((query[2] & 0x80) != 0)
                continue;
            var ours = Exchange(a, query);
            var theirs = Exchange(b, query);
            Assert.True(ours.AsSpan().SequenceEqual(theirs), $"query {i} of seed {Seed}: {Convert.ToHexString(query)}: {Convert.ToHexString(ours)} instead of {Convert.ToHexString(theirs)}");
        }

        Assert.True(_kernel.Counts.Answered > count / 10, $"{_kernel.Counts}");
    }

    [Fact]
    public void A_change_is_answered_as_soon_as_it_is_applied()
    {
        using var socket = Connect(gateway4);
        using var end = new CancellationTokenSource();
        var strange = new List<string>();
        // Names that come and go share the kernel's memory with names that stay: none may be given another's address.
        var load = new Thread(() =>
        {
            using var other = Connect(gateway4);
            while (!end.IsCancellationRequested)
            {
                Exchange(other, Query("web.front", 1));
                foreach (var (name, type, address) in new[] { ("lone", 1, "10.66.0.50"), ("v4only.front", 1, "10.66.9.8"), ("web", 28, "fd66::99"), ("lone.front", 28, "fd66::50") })
                {
                    var answer = Exchange(other, Query(name, (ushort)type));
                    var octets = IPAddress.Parse(address).GetAddressBytes();
                    if (!answer.AsSpan(answer.Length - octets.Length).SequenceEqual(octets))
                        strange.Add($"{name}: {Convert.ToHexString(answer)}");
                }
            }
        });
        load.Start();
        for (var i = 0; i < 2000; i++)
        {
            var vip = new IPAddress([10, 66, (byte)(i >> 8), (byte)i]);
            _server.Apply(Config(vip, i + 1));
            Assert.Equal(vip.GetAddressBytes(), Exchange(socket, Query("web.front", 1))[^4..]);
            Assert.Equal(vip.GetAddressBytes(), Exchange(socket, Query("web", 1))[^4..]);
        }

        end.Cancel();
        load.Join();
        Assert.Empty(strange);
        Assert.True(_kernel.Counts.Answered > 0);
        // A name that goes is gone.
        _server.Apply(Config(gateway4, 3000) with { Networks = [Network(gateway4) with { Services = [] }] });
        Assert.Equal(3, Exchange(socket, Query("web", 1))[3] & 15);
    }

    [Fact]
    public void Answers_go_on_without_the_daemon_and_its_successor_takes_over()
    {
        using var socket = Connect(gateway4);
        Exchange(socket, Query("web", 1));
        using var kept = _kernel.LinkOf(Attached);
        var channel = Keep(kept);
        _server.Dispose();
        _kernel.Dispose();
        Assert.Equal(new byte[] { 10, 66, 9, 9 }, Exchange(socket, Query("web", 1))[^4..]);
        // What the kernel has no answer for waits for the successor.
        using var waiting = Connect(gateway4);
        Assert.Null(TryExchange(waiting, Query("db", 1), 300));

        _kernel = new KernelAnswers(queriesPerSecond: 0);
        _server = Start(_kernel, gateway4);
        _server.Apply(Config(IPAddress.Parse("10.66.7.7"), 9));
        waiting.ReceiveTimeout = Patience;
        Assert.NotEqual(0, waiting.Receive(new byte[512]));
        Assert.Equal(new byte[] { 10, 66, 9, 9 }, Exchange(socket, Query("web", 1))[^4..]);
        Assert.False(Attach(BpfLink.Adopt(channel, "kept")));
        Assert.Equal(new byte[] { 10, 66, 7, 7 }, Exchange(socket, Query("web", 1))[^4..]);
        Assert.Equal(new byte[] { 10, 66, 7, 7 }, Exchange(socket, Query("web", 1))[^4..]);
        Assert.Equal(1, _kernel.Counts.Answered);
    }

    [Fact]
    public void A_detached_program_is_attached_again_and_one_that_is_not_wanted_is_gone()
    {
        using var socket = Connect(gateway4);
        Exchange(socket, Query("web", 1));
        Assert.True(_kernel.Holds(Attached));
        Shell.Run($"ip -n {_network} link delete {Device}");
        Assert.False(_kernel.Holds(Attached));
        Shell.Run($"ip -n {_network} link add {Device} type bridge");
        Shell.Run($"ip -n {_network} address add {gateway4}/24 dev {Device}");
        Shell.Run($"ip -n {_network} link set {Device} up");
        Shell.Run($"ip -n {_network} link set p0 master {Device}");
        Assert.True(Attach());
        var before = _kernel.Counts.Answered;
        Exchange(socket, Query("web", 1));
        Assert.Equal(before + 1, _kernel.Counts.Answered);

        Assert.True(_kernel.Detach(Attached));
        Assert.False(_kernel.Holds(Attached));
        Exchange(socket, Query("web", 1));
        Assert.Equal(before + 1, _kernel.Counts.Answered);
        Assert.Equal(0, _kernel.Counts.Devices);
    }

    [Fact]
    public void Datagrams_with_whole_checksums_are_answered_right()
    {
        Shell.Run($"ip netns exec {_container} ethtool -K eth0 tx off");
        foreach (var (gateway, byKernel) in new[] { (gateway4, 1), (gateway6, 0) })
        {
            using var socket = Connect(gateway);
            Exchange(socket, Query("web", 1));
            var before = _kernel.Counts.Answered;
            Exchange(socket, Query("web", 1));
            Assert.Equal(before + byKernel, _kernel.Counts.Answered);
        }

        // And where the answer's checksum has to be made on the way to the container.
        Shell.Run($"ip netns exec {_container} ethtool -K eth0 tx on");
        Shell.Run($"ip netns exec {_network} ethtool -K p0 tx off");
        foreach (var gateway in new[] { gateway4, gateway6 })
        {
            using var socket = Connect(gateway);
            var before = _kernel.Counts.Answered;
            Exchange(socket, Query("web", 1));
            Assert.Equal(before + 1, _kernel.Counts.Answered);
        }
    }

    [Fact]
    public void What_goes_to_the_gateway_by_another_containers_hands_is_left_alone()
    {
        using var socket = Connect(gateway4);
        Exchange(socket, Query("web", 1));
        Assert.True(Attach(device: BridgePort));
        var before = _kernel.Counts;
        // A frame for somebody else's address: the bridge floods it, the gateway does not take it.
        Shell.Run($"ip -n {_container} neighbour replace {gateway4} lladdr 02:00:00:00:00:99 dev eth0");
        Assert.Null(TryExchange(socket, Query("web", 1), 300));
        Assert.Equal(before.Answered, _kernel.Counts.Answered);
    }

    [Fact]
    public void A_client_beyond_its_share_meets_the_daemons_limit()
    {
        _server.Dispose();
        _kernel.Dispose();
        _kernel = new KernelAnswers(queriesPerSecond: 50);
        _server = Start(_kernel, gateway4);
        Attach();
        using var socket = Connect(gateway4);
        for (var i = 0; i < 200; i++)
            Exchange(socket, Query("web", 1));
        var counts = _kernel.Counts;
        Assert.True(counts.Limited >= 1 && counts.Passed > counts.Limited, $"{counts}");
        Assert.Equal(200, counts.Answered + counts.Passed);
    }

    [Fact]
    public void Dig_and_nslookup_accept_what_the_kernel_answers()
    {
        for (var i = 0; i < 2; i++)
        {
            var before = _kernel.Counts.Answered;
            Assert.Contains("10.66.9.9", Shell.Run($"ip netns exec {_container} dig +nocookie +time=5 +tries=1 @{gateway4} web.front.dc1.overlay.internal A"));
            Assert.Contains("fd66::99", Shell.Run($"ip netns exec {_container} dig +nocookie +dnssec +time=5 +tries=1 @{gateway6} web AAAA"));
            Assert.Contains("10.66.9.9", Shell.Run($"ip netns exec {_container} nslookup -type=a web {gateway4}"));
            Assert.Equal(before + (i == 0 ? 0 : 3), _kernel.Counts.Answered);
        }
    }

    [Fact]
    public void More_names_than_there_is_room_for_are_answered_all_the_same()
    {
        var services = Enumerable.Range(0, AnswerMaps.MostAnswers + 500).Select(i => new DnsService { Name = "s" + i, VipV4 = new IPAddress([10, (byte)(i >> 16), (byte)(i >> 8), (byte)i]) }).ToArray();
        _server.Apply(Config(gateway4, 1) with { Networks = [Network(gateway4) with { Services = services }] });
        using var socket = Connect(gateway4);
        for (var i = 0; i < services.Length; i++)
            Assert.Equal(services[i].VipV4!.GetAddressBytes(), Exchange(socket, Query("s" + i, 1))[^4..]);
        Assert.InRange(_kernel.Counts.Names, 1, AnswerMaps.MostAnswers);
    }

    [Fact]
    public void At_the_askers_port_answers_go_back_by_it()
    {
        // Beside the one at the bridge, as in the daemon: what the port's leaves alone the bridge's does not look at again.
        Assert.True(Attach(device: BridgePort));
        using (var socket = Connect(gateway4))
        {
            var passed = _kernel.Counts.Passed;
            Exchange(socket, Query("db", 1));
            Assert.Equal(passed + 1, _kernel.Counts.Passed);
        }

        foreach (var gateway in new[] { gateway4, gateway6 })
        {
            using var socket = Connect(gateway);
            foreach (var query in new[] { Query("web", 1), Query("web.front", 28, opt: Opt(1232)) })
            {
                _kernel.Clear();
                var first = Exchange(socket, query);
                var before = _kernel.Counts.Answered;
                var second = Exchange(socket, query);
                Assert.Equal(before + 1, _kernel.Counts.Answered);
                Assert.Equal(Convert.ToHexString(first), Convert.ToHexString(second));
            }
        }

        // A capture at the port, where ours look, shows both ways.
        using (var capture = Shell.Start("ip", "netns", "exec", _network, "tcpdump", "-n", "-l", "-c", "2", "-i", BridgePort, "udp port 53"))
        {
            while (capture.StandardError.ReadLine() is { } line && !line.Contains("listening", StringComparison.Ordinal))
            {
            }

            using var socket = Connect(gateway4);
            Exchange(socket, Query("web.front", 28));
            var output = capture.StandardOutput.ReadToEnd();
            Assert.Contains("AAAA? web.front.", output, StringComparison.Ordinal);
            Assert.Contains("AAAA fd66::99", output, StringComparison.Ordinal);
        }

        Shell.Run($"ip netns exec {_network} ethtool -K {BridgePort} tx off");
        Shell.Run($"ip netns exec {_container} ethtool -K eth0 tx off");
        using var whole = Connect(gateway4);
        Exchange(whole, Query("web", 1));
        var counted = _kernel.Counts.Answered;
        Exchange(whole, Query("web", 1));
        Assert.Equal(counted + 1, _kernel.Counts.Answered);
    }

    private DnsServer Start(KernelAnswers? kernel, params IPAddress[] addresses)
    {
        var server = new DnsServer(new DnsServerOptions { ClientQueriesPerSecond = 0 }, NullLogger.Instance, kernel: kernel);
        server.Apply(Config(IPAddress.Parse("10.66.9.9"), 1));
        using var netns = NamedNamespaces.OpenPinned(_network);
        foreach (var address in addresses)
        {
            // They outlive the server, as in the daemon.
            if (!_sockets.TryGetValue(address, out var sockets))
                _sockets[address] = sockets = netns.Run(() => DnsSockets.Open(new IPEndPoint(address, Port), freeBind: true));
            server.AddListener(address.ToString(), "n1", sockets.Udp, sockets.Tcp, leaveOpen: true);
        }

        return server;
    }

    private bool Attach(BpfLink? inherited = null, string device = Device)
    {
        using var netns = NamedNamespaces.OpenPinned(_network);
        return netns.Run(() =>
        {
            using var route = NetlinkSocket.Open(NetlinkProtocol.Route);
            var links = new RouteLinks(route);
            _kernel.Listen(Listeners, "n1", [gateway4, gateway6], links.Get(Device)!.Mac!.Value, Port);
            return _kernel.Attach(Listeners, device == Device ? Attached : AttachedToPort, links.Get(device)!.Index, inherited);
        });
    }

    /// <summary>A copy of a descriptor, as another process would hold it.</summary>
    private static SafeFileHandle Keep(SafeFileHandle descriptor)
    {
        var path = Path.Combine(Path.GetTempPath(), $"ovt-{Environment.ProcessId}-{Guid.NewGuid():N}.sock");
        using var listener = DescriptorChannel.Listen(path);
        try
        {
            using var sender = DescriptorChannel.TryConnect(path)!;
            using var receiver = listener.Accept();
            sender.Send("link", descriptor);
            return receiver.Receive()!.Value.Descriptor!;
        }
        finally
        {
            File.Delete(path);
        }
    }

    private static DnsConfig Config(IPAddress vip, long revision) => new()
    {
        Synced = true,
        Revision = revision,
        Networks = [Network(vip), new DnsNetwork { Id = "n2", Name = "back", Services = [new DnsService { Name = "store", VipV4 = gateway4 }] }],
    };

    private static DnsNetwork Network(IPAddress vip) => new()
    {
        Id = "n1",
        Name = "front",
        ListenerAddresses = [gateway4, gateway6],
        Services =
        [
            new DnsService
            {
                Name = "web", Aliases = ["www"], VipV4 = vip, VipV6 = IPAddress.Parse("fd66::99"),
                Endpoints = [new DnsEndpoint { Id = "e1", Name = "web-1", Addresses = [IPAddress.Parse("10.66.0.11"), IPAddress.Parse("fd66::11")] }],
            },
            new DnsService { Name = "solo", Endpoints = [new DnsEndpoint { Id = "e2", Name = "solo-1", Addresses = [IPAddress.Parse("10.66.0.12"), IPAddress.Parse("fd66::12")] }] },
            new DnsService { Name = "v4only", VipV4 = IPAddress.Parse("10.66.9.8") },
            new DnsService
            {
                Name = "db", Mode = DnsServiceMode.RoundRobin,
                Endpoints = [new DnsEndpoint { Id = "d1", Name = "db-1", Addresses = [IPAddress.Parse("10.66.0.21")] }, new DnsEndpoint { Id = "d2", Name = "db-2", Addresses = [IPAddress.Parse("10.66.0.22")] }],
            },
        ],
        Endpoints = [new DnsEndpoint { Id = "l1", Name = "lone", Addresses = [IPAddress.Parse("10.66.0.50"), IPAddress.Parse("fd66::50")] }],
    };

    private Socket Connect(IPAddress address)
    {
        using var netns = NamedNamespaces.OpenPinned(_container);
        return netns.Run(() =>
        {
            var socket = new Socket(address.AddressFamily, SocketType.Dgram, ProtocolType.Udp);
            socket.Connect(address, Port);
            return socket;
        });
    }

    private static byte[] Exchange(Socket socket, byte[] query) =>
        TryExchange(socket, query, Patience) ?? throw new TimeoutException($"no answer to {Convert.ToHexString(query)}");

    private static byte[]? TryExchange(Socket socket, byte[] query, int milliseconds)
    {
        socket.Send(query);
        var buffer = new byte[4096];
        try
        {
            socket.ReceiveTimeout = milliseconds;
            return buffer[..socket.Receive(buffer)];
        }
        catch (SocketException e) when (e.SocketErrorCode == SocketError.TimedOut)
        {
            return null;
        }
    }

    private static byte[] Opt(int size, bool dnssecOk = false) => [0, 0, 41, (byte)(size >> 8), (byte)size, 0, 0, dnssecOk ? (byte)0x80 : (byte)0, 0, 0, 0];

    private static byte[] Query(string name, ushort type, byte flags1 = 1, byte flags2 = 0, byte[]? opt = null) =>
    [
        0x12, 0x34, flags1, flags2, 0, 1, 0, 0, 0, 0, 0, (byte)(opt is null ? 0 : 1),
        .. name.Split('.').SelectMany(label => (byte[])[(byte)label.Length, .. Encoding.ASCII.GetBytes(label)]), 0,
        (byte)(type >> 8), (byte)type, 0, 1, .. opt ?? [],
    ];
}
