using OverlayNet.ClusterTests.Vip;
using OverlayNet.Vip.Balancers.Ipvs;
using OverlayNet.Vip.Balancers.Nft;

namespace OverlayNet.GuestTests.Vip;

/// <summary>The one suite for all writers.</summary>
public sealed class IpvsConformanceTests() : BalancerConformance(new IpvsBalancer(TimeProvider.System))
{
    /// <summary>
    /// IPVS counts the time-out from when it forgets a client's last connection (two minutes after a proper end, ten seconds after
    /// a reset), and looks only once a minute. So here connections are reset, and one family does the waiting for both.
    /// </summary>
    public override void Affinity_binds_a_client_to_a_server_until_the_time_is_over_or_the_server_goes(bool v6)
    {
        var (client, servers) = Start(3, v6);
        var service = Net.Service(servers, TcpPort()) with { AffinitySeconds = 2 };
        Apply(service);
        var bound = Ask();
        for (var i = 0; i < 20; i++)
            Assert.Equal(bound, Ask());
        Apply(service with { RealServers = [.. servers.Where(server => server.Name != bound).Select(server => server.AsServer(8))] });
        var other = Ask();
        Assert.NotEqual(bound, other);
        for (var i = 0; i < 20; i++)
            Assert.Equal(other, Ask());
        if (!v6)
        {
            Thread.Sleep(TimeSpan.FromSeconds(75));
            Assert.NotEqual(other, Ask());
        }

        string Ask()
        {
            using var connection = VipTraffic.Connect(client.Namespace, Vip(v6), 80);
            connection.Socket.LingerState = new System.Net.Sockets.LingerOption(true, 0);
            return connection.Server;
        }
    }
}

/// <inheritdoc cref="IpvsConformanceTests"/>
public sealed class NftConformanceTests() : BalancerConformance(new NftBalancer());
