using System.Net;
using OverlayNet.Dns;
using OverlayNet.Dns.Forward;

namespace OverlayNet.UnitTests.Dns;

public sealed class ResolvConfTests
{
    [Fact]
    public void ServersAreReadTrapsAreNot()
    {
        const string text = "# comment\nsearch example\nnameserver 192.0.2.1\n nameserver\t2001:db8::1 # two\nnameserver 127.0.0.53\nnameserver 10.1.0.1\nnameserver nonsense\nnameserverx 192.0.2.9\nnameserver 192.0.2.1\n";
        var servers = ResolvConf.Read("f", [IPAddress.Parse("10.1.0.1")], _ => text);
        Assert.Equal(["192.0.2.1:53", "[2001:db8::1]:53"], servers.Select(s => s.ToString()));
    }

    [Fact]
    public void BehindTheStubAreTheRealServers()
    {
        var servers = ResolvConf.Read("/etc/resolv.conf", [], path => path == "/etc/resolv.conf" ? "nameserver 127.0.0.53\n" : "nameserver 192.0.2.5\n");
        Assert.Equal(["192.0.2.5:53"], servers.Select(s => s.ToString()));
        Assert.Empty(ResolvConf.Read("/etc/resolv.conf", [], _ => null));
    }

    [Fact]
    public void TheFileIsFollowed()
    {
        var path = Path.GetTempFileName();
        try
        {
            var time = new ManualTime();
            using var server = new DnsTestServer(SampleConfig.Config with { Forward = new DnsForwardConfig { ResolvConfPath = path } }, time: time);
            Assert.Empty(server.Server.GetMetrics().Upstreams);
            File.WriteAllText(path, "nameserver 127.0.0.9\n");
            time.Advance(TimeSpan.FromSeconds(1));
            Assert.Equal(["127.0.0.9:53"], server.Server.GetMetrics().Upstreams.Select(u => u.Endpoint));
            File.Delete(path);
            time.Advance(TimeSpan.FromSeconds(1));
            Assert.Empty(server.Server.GetMetrics().Upstreams);
        }
        finally
        {
            File.Delete(path);
        }
    }
}
