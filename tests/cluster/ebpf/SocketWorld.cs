using System.Collections.Concurrent;
using System.Net;
using System.Net.Sockets;
using System.Text;
using OverlayNet.ClusterTests.Kernel;
using OverlayNet.Kernel;
using OverlayNet.Kernel.Bpf;
using OverlayNet.Vip;
using OverlayNet.Vip.Balancers.Ebpf;

namespace OverlayNet.ClusterTests.Ebpf;

/// <summary>
/// A network of containers (namespaces on one bridge, IPv4 and IPv6) with a balancer of its own. Container n has the
/// addresses 10.99.0.n and fd99::n; servers in them answer with the container's name.
/// </summary>
internal sealed class SocketWorld : IDisposable
{
    internal const ushort Port = 8000;
    private const string NodePrefix = "ovt-";
    private static int counter;
    private readonly TestNamespaces namespaces = new();
    private readonly List<string> bridges = [];
    private readonly ConcurrentBag<Socket> sockets = [];
    private readonly Dictionary<(int Network, int Number), string> containers = [];

    static SocketWorld()
    {
        foreach (var left in BpfFileSystem.List(EbpfBalancer.PinRoot).Where(name => name.StartsWith(NodePrefix, StringComparison.Ordinal)))
        {
            if (!Directory.Exists($"/proc/{left.Split('-')[1]}"))
                BpfFileSystem.RemoveDirectory($"{EbpfBalancer.PinRoot}/{left}");
        }
    }

    internal SocketWorld()
    {
        Node = $"{NodePrefix}{Environment.ProcessId}-{Interlocked.Increment(ref counter)}";
        Balancer = new EbpfBalancer(Node);
    }

    internal static IPAddress Vip4 { get; } = IPAddress.Parse("10.99.0.200");
    internal static IPAddress Vip6 { get; } = IPAddress.Parse("fd99::200");
    internal string Node { get; }
    internal string PinDirectory => $"{EbpfBalancer.PinRoot}/{Node}";
    internal EbpfBalancer Balancer { get; set; }

    internal static IPAddress Address4(int number) => IPAddress.Parse($"10.99.0.{number}");

    internal static IPAddress Address6(int number) => IPAddress.Parse($"fd99::{number}");

    /// <summary>Makes a container on a network (from 0) if it is not there.</summary>
    internal NetworkNamespace Container(int network, int number)
    {
        while (bridges.Count <= network)
        {
            var bridge = namespaces.Create($"b{bridges.Count}");
            Shell.Run($"ip -n {bridge} link add name bridge0 type bridge");
            Shell.Run($"ip -n {bridge} link set bridge0 up");
            bridges.Add(bridge);
        }
        if (!containers.TryGetValue((network, number), out var name))
        {
            containers[(network, number)] = name = namespaces.Create($"c{network}.{number}");
            Shell.Run($"ip -n {bridges[network]} link add p{number} type veth peer name eth0 netns {name}");
            Shell.Run($"ip -n {bridges[network]} link set p{number} master bridge0 up");
            Shell.Run($"ip -n {name} address add {Address4(number)}/24 dev eth0");
            Shell.Run($"ip -n {name} address add {Address6(number)}/64 dev eth0 nodad");
            Shell.Run($"ip -n {name} link set eth0 up");
        }
        return NamedNamespaces.OpenPinned(name);
    }

    internal string Path(int network, int number)
    {
        Container(network, number).Dispose();
        return NamedNamespaces.PathOf(containers[(network, number)]);
    }

    internal void End(int network, int number)
    {
        Shell.Run($"ip -n {bridges[network]} link delete p{number}");
        NamedNamespaces.Delete(containers[(network, number)]);
        containers.Remove((network, number));
    }

    /// <summary>A network with all its containers as tasks and these services.</summary>
    internal VipNetwork Network(int network, params VipService[] services) => new()
    {
        Id = $"n{network}",
        Name = $"net{network}",
        Vni = 4096 + network,
        Netns = bridges[network],
        Tasks =
        [
            .. containers.Where(entry => entry.Key.Network == network).OrderBy(entry => entry.Key.Number).Select(entry => new VipTask
            {
                EndpointId = $"e{entry.Key.Number}",
                NetnsPath = NamedNamespaces.PathOf(entry.Value),
                Interface = "eth0",
                BridgePort = $"p{entry.Key.Number}",
                Address4 = Address4(entry.Key.Number),
                Address6 = Address6(entry.Key.Number),
            }),
        ],
        Services = services,
    };

    internal static VipService Service(params (int Number, int Weight)[] real) => new()
    {
        Id = "s1",
        Name = "web",
        Addresses = [Vip4, Vip6],
        Ports = [new VipPort(VipPort.Tcp, 80, Port), new VipPort(VipPort.Udp, 80, Port)],
        RealServers = [.. real.Select(server => Real(server.Number, server.Weight))],
    };

    internal static RealServer Real(int number, int weight = 1) => new()
    {
        EndpointId = $"e{number}",
        Address4 = Address4(number),
        Address6 = Address6(number),
        Weight = weight,
    };

    internal VipConfig Config(params VipNetwork[] networks) => new() { Revision = 1, Networks = networks };

    internal void Apply(params VipNetwork[] networks)
    {
        var report = Balancer.Apply(Config(networks));
        Assert.Empty(report.Errors);
    }

    /// <summary>Servers in a container, TCP and UDP on the port, that answer every message with "name of the container, address of the client".</summary>
    internal void Serve(int network, int number, ushort port = Port)
    {
        using var netns = Container(network, number);
        netns.Run(() =>
        {
            var tcp = Open(SocketType.Stream);
            tcp.Bind(new IPEndPoint(IPAddress.IPv6Any, port));
            tcp.Listen(4096);
            Start(() =>
            {
                while (true)
                {
                    var connection = tcp.Accept();
                    sockets.Add(connection);
                    Start(() =>
                    {
                        var buffer = new byte[512];
                        while (connection.Receive(buffer) > 0)
                            connection.Send(Answer(connection.RemoteEndPoint!));
                    });
                }
            });
            var udp = Open(SocketType.Dgram);
            udp.Bind(new IPEndPoint(IPAddress.IPv6Any, port));
            Start(() =>
            {
                var buffer = new byte[512];
                while (true)
                {
                    EndPoint from = new IPEndPoint(IPAddress.IPv6Any, 0);
                    udp.ReceiveFrom(buffer, ref from);
                    udp.SendTo(Answer(from), from);
                }
            });
        });

        byte[] Answer(EndPoint client)
        {
            var address = ((IPEndPoint)client).Address;
            return Encoding.ASCII.GetBytes($"{network}.{number} {(address.IsIPv4MappedToIPv6 ? address.MapToIPv4() : address)}");
        }
    }

    /// <summary>A socket of a container.</summary>
    internal Socket Client(int network, int number, SocketType type, AddressFamily family = AddressFamily.InterNetwork)
    {
        using var netns = Container(network, number);
        return netns.Run(() => Open(type, family));
    }

    /// <summary>Connects a container's new socket.</summary>
    internal Socket Connect(int network, int number, SocketType type, IPAddress address, ushort port = 80)
    {
        var socket = Client(network, number, type, address.AddressFamily);
        socket.Connect(new IPEndPoint(address, port));
        return socket;
    }

    /// <summary>Sends a message on a connected socket and gives the answer: "network.number client".</summary>
    internal static string Ask(Socket socket)
    {
        socket.Send("hello"u8);
        var buffer = new byte[512];
        var length = socket.Receive(buffer);
        return Encoding.ASCII.GetString(buffer, 0, length);
    }

    /// <summary>Sends a datagram to an address and gives the answer and where it came from.</summary>
    internal static (string Answer, EndPoint From) AskFrom(Socket socket, IPAddress address, ushort port = 80)
    {
        socket.SendTo("hello"u8, new IPEndPoint(address, port));
        EndPoint from = new IPEndPoint(address.AddressFamily == AddressFamily.InterNetworkV6 ? IPAddress.IPv6Any : IPAddress.Any, 0);
        var buffer = new byte[512];
        var length = socket.ReceiveFrom(buffer, ref from);
        return (Encoding.ASCII.GetString(buffer, 0, length), from);
    }

    public void Dispose()
    {
        foreach (var socket in sockets)
            socket.Dispose();
        Balancer.Dispose();
        using (var last = new EbpfBalancer(Node))
            last.Apply(VipConfig.Empty);
        // Also when Apply left something for a drain's deadline.
        BpfFileSystem.RemoveDirectory(PinDirectory);
        namespaces.Dispose();
    }

    private Socket Open(SocketType type, AddressFamily family = AddressFamily.InterNetworkV6)
    {
        var socket = new Socket(family, type, type == SocketType.Stream ? ProtocolType.Tcp : ProtocolType.Udp) { ReceiveTimeout = 5000, SendTimeout = 5000 };
        if (family == AddressFamily.InterNetworkV6)
            socket.DualMode = true;
        sockets.Add(socket);
        return socket;
    }

    private static void Start(Action action) => new Thread(() =>
    {
        try
        {
            action();
        }
        catch (Exception e) when (e is SocketException or ObjectDisposedException)
        {
            // The world ends, or the client went.
        }
    }, 128 * 1024)
    { IsBackground = true }.Start();
}
