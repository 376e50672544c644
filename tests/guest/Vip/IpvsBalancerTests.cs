using System.Net;
using System.Net.Sockets;
using OverlayNet.Vip;
using OverlayNet.Vip.Balancers;
using OverlayNet.Vip.Balancers.Ipvs;

namespace OverlayNet.GuestTests.Vip;

/// <summary>The ipvs writer with traffic: two nodes, clients and tasks on both.</summary>
public sealed class IpvsBalancerTests : IDisposable
{
    private readonly Lab lab = new(2);
    private readonly LabNetwork network;
    private readonly IpvsBalancer[] balancers = [new(TimeProvider.System), new(TimeProvider.System)];
    private readonly List<IDisposable> servers = [];
    private readonly LabTask client, local, remote;

    public IpvsBalancerTests()
    {
        network = lab.Network(42);
        client = network.Task(1, 10);
        local = network.Task(1, 11);
        remote = network.Task(2, 12);
    }

    private IPAddress Vip => network.Address(100);
    private IPAddress Vip6 => network.Address6(100);

    public void Dispose()
    {
        servers.ForEach(server => server.Dispose());
        lab.Dispose();
    }

    [Fact]
    public void Tcp_reaches_servers_bound_to_their_own_address_on_both_nodes_at_another_port()
    {
        foreach (var task in (LabTask[])[local, remote])
        {
            servers.Add(Traffic.TcpServer(task, task.Address, 8080));
            servers.Add(Traffic.TcpServer(task, task.Address6, 8080));
        }
        Apply(Web(local.Server(), remote.Server()));
        foreach (var (vip, source) in ((IPAddress, IPAddress)[])[(Vip, client.Address), (Vip6, client.Address6)])
        {
            var answers = Enumerable.Range(0, 10).Select(_ => Traffic.Ask(client, vip, 80)).ToList();
            Assert.Equal(5, answers.Count(answer => answer == $"{local.Id} {source}"));
            Assert.Equal(5, answers.Count(answer => answer == $"{remote.Id} {source}"));
        }
    }

    [Fact]
    public void A_task_may_call_the_service_it_is_part_of()
    {
        foreach (var task in (LabTask[])[local, remote])
        {
            servers.Add(Traffic.TcpServer(task, task.Address, 8080));
            servers.Add(Traffic.TcpServer(task, task.Address6, 8080));
        }
        Apply(Web(local.Server(), remote.Server()));
        foreach (var vip in (IPAddress[])[Vip, Vip6])
        {
            var answers = Enumerable.Range(0, 10).Select(_ => Traffic.Ask(local, vip, 80).Split(' ')[0]).ToList();
            Assert.Equal(5, answers.Count(answer => answer == local.Id));
            Assert.Equal(5, answers.Count(answer => answer == remote.Id));
        }
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void Udp_servers_on_the_wildcard_answer_from_the_vip(bool connected)
    {
        foreach (var task in (LabTask[])[local, remote])
        {
            servers.Add(Traffic.UdpServer(task, IPAddress.Any, 5353));
            servers.Add(Traffic.UdpServer(task, IPAddress.IPv6Any, 5353));
        }
        Apply(Dns(local.Server(), remote.Server()));
        foreach (var from in (LabTask[])[client, local])
        {
            foreach (var vip in (IPAddress[])[Vip, Vip6])
            {
                var answers = Enumerable.Range(0, 6).Select(_ => Traffic.AskUdp(from, vip, 53, connected)).ToList();
                Assert.All(answers, answer => Assert.Equal(new IPEndPoint(vip, 53), answer.From));
                Assert.Equal([local.Id, remote.Id], answers.Select(answer => answer.Answer.Split(' ')[0]).Distinct().Order());
            }
        }
    }

    [Fact]
    public void Datagrams_larger_than_the_mtu_arrive_whole()
    {
        servers.Add(Traffic.UdpServer(remote, IPAddress.Any, 5353));
        servers.Add(Traffic.UdpServer(remote, IPAddress.IPv6Any, 5353));
        Apply(Dns(remote.Server()));
        foreach (var vip in (IPAddress[])[Vip, Vip6])
            Assert.EndsWith(" 8000", Traffic.AskUdp(client, vip, 53, connected: true, octets: 8000).Answer);
    }

    [Fact]
    public void A_service_without_ports_takes_every_port()
    {
        servers.Add(Traffic.TcpServer(local, local.Address, 7001));
        servers.Add(Traffic.TcpServer(remote, remote.Address, 7001));
        servers.Add(Traffic.UdpServer(remote, IPAddress.IPv6Any, 7002));
        servers.Add(Traffic.UdpServer(local, IPAddress.IPv6Any, 7002));
        Apply(new VipService { Id = "all", Name = "all", Addresses = [Vip, Vip6], RealServers = [local.Server(), remote.Server()] });
        foreach (var from in (LabTask[])[client, local])
        {
            Assert.Equal([local.Id, remote.Id], Enumerable.Range(0, 4).Select(_ => Traffic.Ask(from, Vip, 7001).Split(' ')[0]).Distinct().Order());
            Assert.Equal([local.Id, remote.Id], Enumerable.Range(0, 4).Select(_ => Traffic.AskUdp(from, Vip6, 7002, true).Answer.Split(' ')[0]).Distinct().Order());
        }
    }

    [Fact]
    public void The_vip_answers_ping_and_refuses_at_once_what_it_does_not_serve()
    {
        Apply(Web());
        foreach (var vip in (IPAddress[])[Vip, Vip6])
        {
            client.Netns.Exec("busybox", vip.AddressFamily == AddressFamily.InterNetwork ? "ping" : "ping6", "-c", "1", "-W", "5", vip.ToString());
            Assert.Equal(SocketError.ConnectionRefused, Assert.ThrowsAny<SocketException>(() => Traffic.Ask(client, vip, 80)).SocketErrorCode);
            Assert.Equal(SocketError.ConnectionRefused, Assert.ThrowsAny<SocketException>(() => Traffic.Ask(client, vip, 81)).SocketErrorCode);
        }
    }

    private static VipService Named(string id, IReadOnlyList<IPAddress> addresses, VipPort port, RealServer[] servers) =>
        new() { Id = id, Name = id, Addresses = addresses, Ports = [port], RealServers = servers };

    private VipService Web(params RealServer[] servers) => Named("web", [Vip, Vip6], new VipPort(VipPort.Tcp, 80, 8080), servers);

    private VipService Dns(params RealServer[] servers) => Named("dns", [Vip, Vip6], new VipPort(VipPort.Udp, 53, 5353), servers);

    private void Apply(params VipService[] services)
    {
        for (var node = 1; node <= balancers.Length; node++)
        {
            var report = balancers[node - 1].Apply(new VipConfig { Networks = [network.Config(node, services)] });
            Assert.Empty(report.Errors);
        }
    }
}
