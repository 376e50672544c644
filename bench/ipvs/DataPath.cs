using System.Diagnostics;
using System.Net;
using System.Net.Sockets;
using OverlayNet.GuestTests.Vip;
using OverlayNet.Vip;
using OverlayNet.Vip.Balancers.Ipvs;

namespace OverlayNet.Bench.Ipvs;

/// <summary>
/// One client and one server on two nodes over VXLAN, three ways in turn: to the server's own address, by the writer's direct routing,
/// and by NAT as one makes it with ipvsadm (masquerading to the node's own address, without which answers inside one subnet would go past the director).
/// </summary>
internal static class DataPath
{
    private const int Port = 8080;

    internal static IEnumerable<Summary> Run(int connections, int requests, int rounds)
    {
        using var lab = new Lab(2);
        // Two networks alike: the director's settings differ between direct routing and NAT.
        var direct = Side(lab, 42, 0);
        var nat = Side(lab, 43, 1);
        var service = new VipService { Id = "s", Name = "s", Addresses = [direct.Vip], Ports = [new VipPort(VipPort.Tcp, 80, Port)], RealServers = [direct.Server.Server()] };
        for (var node = 1; node <= 2; node++)
        {
            var report = new IpvsBalancer(TimeProvider.System).Apply(new VipConfig { Networks = [direct.Network.Config(node, service)] });
            if (report.Errors.Count > 0)
                throw new InvalidOperationException(report.Errors[0].ToString());
        }
        var director = nat.Network.Netns(1);
        director.Sysctl("net.bridge.bridge-nf-call-iptables=0", "net.ipv4.vs.conntrack=1", "net.ipv4.conf.all.accept_local=1", "net.ipv4.conf.all.send_redirects=0");
        director.Ip($"addr add {nat.Vip}/32 dev br0");
        director.Exec("ipvsadm", "-A", "-t", $"{nat.Vip}:80", "-s", "wrr");
        director.Exec("ipvsadm", "-a", "-t", $"{nat.Vip}:80", "-r", $"{nat.Server.Address}:{Port}", "-m");
        director.Exec("nft", $"table ip nat {{ chain post {{ type nat hook postrouting priority 100; ip daddr {nat.Server.Address} oifname n0 masquerade; }}; }}");

        (string Name, LabTask Client, IPEndPoint Target)[] paths =
        [
            ("to the server itself", direct.Client, new IPEndPoint(direct.Server.Address, Port)),
            ("direct routing", direct.Client, new IPEndPoint(direct.Vip, 80)),
            ("NAT by ipvsadm", nat.Client, new IPEndPoint(nat.Vip, 80)),
        ];
        using var one = Serve(direct.Server);
        using var two = Serve(nat.Server);
        var connect = paths.Select(path => new Summary($"connection, {path.Name}", "µs")).ToArray();
        var request = paths.Select(path => new Summary($"request, {path.Name}", "µs")).ToArray();
        for (var round = 0; round <= rounds; round++)
        {
            for (var i = 0; i < paths.Length; i++)
            {
                // Each path is first in a third of the rounds.
                var at = (i + round) % paths.Length;
                var connected = Connections(paths[at].Client, paths[at].Target, connections);
                var asked = Requests(paths[at].Client, paths[at].Target, requests);
                if (round == 0)
                    continue;
                connect[at].Add(connected);
                request[at].Add(asked);
            }
        }
        return [.. connect, .. request];
    }

    private static (LabNetwork Network, LabTask Client, LabTask Server, IPAddress Vip) Side(Lab lab, int vni, int third)
    {
        var network = lab.Network(vni, third);
        return (network, network.Task(1, 10), network.Task(2, 12), network.Address(100));
    }

    /// <returns>Microseconds for connect, one octet each way, and close.</returns>
    private static double Connections(LabTask client, IPEndPoint target, int count)
    {
        using var netns = client.Netns.Open();
        return netns.Run(() =>
        {
            var octet = new byte[1];
            var clock = Stopwatch.StartNew();
            for (var i = 0; i < count; i++)
            {
                using var socket = new Socket(target.AddressFamily, SocketType.Stream, ProtocolType.Tcp);
                socket.Connect(target);
                socket.Send(octet);
                if (socket.Receive(octet) != 1)
                    throw new EndOfStreamException();
            }
            return clock.Elapsed.TotalMicroseconds / count;
        });
    }

    /// <returns>Microseconds for one octet each way on an open connection.</returns>
    private static double Requests(LabTask client, IPEndPoint target, int count)
    {
        using var netns = client.Netns.Open();
        return netns.Run(() =>
        {
            var octet = new byte[1];
            using var socket = new Socket(target.AddressFamily, SocketType.Stream, ProtocolType.Tcp) { NoDelay = true };
            socket.Connect(target);
            var clock = Stopwatch.StartNew();
            for (var i = 0; i < count; i++)
            {
                socket.Send(octet);
                if (socket.Receive(octet) != 1)
                    throw new EndOfStreamException();
            }
            return clock.Elapsed.TotalMicroseconds / count;
        });
    }

    /// <summary>Echoes, one connection at a time: the least a server can do.</summary>
    private static Socket Serve(LabTask task)
    {
        using var netns = task.Netns.Open();
        var listener = netns.Run(() =>
        {
            var made = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
            made.Bind(new IPEndPoint(task.Address, Port));
            made.Listen(128);
            return made;
        });
        new Thread(() =>
        {
            var octet = new byte[1];
            try
            {
                while (true)
                {
                    using var client = listener.Accept();
                    client.NoDelay = true;
                    while (client.Receive(octet) == 1)
                        client.Send(octet);
                }
            }
            catch (SocketException)
            {
                // The listener was closed: the benchmark is over.
            }
        })
        { IsBackground = true }.Start();
        return listener;
    }
}
