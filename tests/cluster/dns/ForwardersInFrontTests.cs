using System.Diagnostics;
using System.Net;
using Microsoft.Extensions.Logging.Abstractions;
using OverlayNet.Dns;

namespace OverlayNet.ClusterTests.Dns;

/// <summary>Resolvers that people put in front forward the cluster domain to us: names, empty answers and absence arrive intact.</summary>
public sealed class ForwardersInFrontTests : IDisposable
{
    private readonly string _directory = Directory.CreateTempSubdirectory("overlaynet-front-").FullName;
    private readonly DnsServer _server = new(new DnsServerOptions(), NullLogger.Instance);
    private readonly int _port;
    private readonly int _frontPort;
    private Process? _front;

    public ForwardersInFrontTests()
    {
        _server.Apply(new DnsConfig
        {
            Synced = true,
            Networks =
            [
                new DnsNetwork
                {
                    Id = "n",
                    Name = "front",
                    Services =
                    [
                        new DnsService
                        {
                            Name = "web",
                            VipV4 = IPAddress.Parse("10.1.0.2"),
                            Ports = [new("http", "tcp", 80)],
                            Endpoints = [new DnsEndpoint { Id = "e", Name = "ep", Addresses = [IPAddress.Parse("10.1.0.9")] }],
                        },
                        new DnsService
                        {
                            Name = "many",
                            Mode = DnsServiceMode.RoundRobin,
                            Endpoints = [.. Enumerable.Range(1, 150).Select(i => new DnsEndpoint { Id = "m" + i, Name = "m" + i, Addresses = [new IPAddress([10, 1, 1, (byte)i])] })],
                        },
                    ],
                },
            ],
            FixedAddresses = [IPAddress.Loopback],
        });
        var (udp, tcp) = DnsSockets.Open(new IPEndPoint(IPAddress.Loopback, 0));
        _port = DnsSockets.GetPort(udp);
        _server.AddListener("test", null, udp, tcp, leaveOpen: false);
        var (a, b) = DnsSockets.Open(new IPEndPoint(IPAddress.Loopback, 0));
        using (a)
        using (b)
            _frontPort = DnsSockets.GetPort(a);
    }

    public void Dispose()
    {
        if (_front is { HasExited: false })
            _front.Kill(entireProcessTree: true);
        _front?.WaitForExit();
        _front?.Dispose();
        _server.Dispose();
        Directory.Delete(_directory, recursive: true);
    }

    [Theory]
    [InlineData("dnsmasq")]
    [InlineData("unbound")]
    [InlineData("systemd-resolved")]
    public void NamesArriveIntact(string program)
    {
        Start(program);
        Assert.Equal("10.1.0.2", Dig("+short web.front.overlay.internal A"));
        Assert.Equal("10.1.0.2", Dig("+short web.front.dc1.overlay.internal A"));
        Assert.Contains("0 2048 80 ep.web.front.dc1.overlay.internal.", Dig("+short _http._tcp.web.front.overlay.internal SRV"), StringComparison.Ordinal);
        Assert.Contains("status: NOERROR", Dig("web.front.overlay.internal AAAA"), StringComparison.Ordinal);
        Assert.Equal("", Dig("+short web.front.overlay.internal AAAA"));
        Assert.Contains("status: NXDOMAIN", Dig("absent.front.overlay.internal A"), StringComparison.Ordinal);
        Assert.Equal(150, Dig("+short tasks.many.front.overlay.internal A").Split('\n').Length); // over TCP
        Assert.Equal(150, Dig("+short +tcp tasks.many.front.overlay.internal A").Split('\n').Length);
    }

    private void Start(string program)
    {
        var start = program switch
        {
            "dnsmasq" => Dnsmasq(),
            "unbound" => Unbound(),
            _ => SystemdResolved(),
        };
        start.RedirectStandardError = true;
        try
        {
            _front = Process.Start(start);
        }
        catch (System.ComponentModel.Win32Exception)
        {
            throw new InvalidOperationException($"{program} is missing; install it with: tools/install-packages test");
        }

        Assert.True(
            SpinWait.SpinUntil(() => _front!.HasExited || Dig("+short web.front.overlay.internal A") == "10.1.0.2", 30000) && !_front!.HasExited,
            program + " does not answer");
    }

    private ProcessStartInfo Dnsmasq() => new(
        "/usr/sbin/dnsmasq",
        [
            "--no-daemon", $"--port={_frontPort}", "--listen-address=127.0.0.1", "--bind-interfaces", "--no-resolv", "--no-hosts",
            "--conf-file=/dev/null", "--user=", "--pid-file=", $"--server=/overlay.internal/127.0.0.1#{_port}",
        ]);

    private ProcessStartInfo Unbound()
    {
        var configuration = Path.Combine(_directory, "unbound.conf");
        File.WriteAllText(
            configuration,
            $"""
            server:
              interface: 127.0.0.1
              port: {_frontPort}
              num-threads: 1
              do-daemonize: no
              chroot: ""
              username: ""
              directory: "{_directory}"
              pidfile: ""
              use-syslog: no
              do-not-query-localhost: no
              module-config: "iterator"
              domain-insecure: "overlay.internal."
              local-zone: "internal." nodefault
            remote-control:
              control-enable: no
            forward-zone:
              name: "overlay.internal."
              forward-addr: 127.0.0.1@{_port}

            """);
        return new("/usr/sbin/unbound", ["-d", "-c", configuration]);
    }

    /// <summary>
    /// Without systemd and its bus: a /run of its own, where it reads its configuration, and a user to become. Its package is
    /// not installed (it would take over /etc/resolv.conf) but unpacked aside.
    /// </summary>
    private ProcessStartInfo SystemdResolved()
    {
        const string Program = "/var/cache/overlaynet-test/systemd-resolved/lib/systemd/systemd-resolved";
        if (!File.Exists(Program))
            throw new InvalidOperationException("systemd-resolved is missing; unpack it with: tools/install-packages test");
        File.WriteAllText(
            Path.Combine(_directory, "resolved.conf"),
            $"""
            [Resolve]
            DNS=127.0.0.1:{_port}
            Domains=~overlay.internal
            DNSSEC=no
            LLMNR=no
            MulticastDNS=no
            DNSStubListener=no
            DNSStubListenerExtra=127.0.0.1:{_frontPort}

            """);
        File.WriteAllText(Path.Combine(_directory, "passwd"), File.ReadAllText("/etc/passwd") + "systemd-resolve:x:64999:64999::/:/usr/sbin/nologin\n");
        File.WriteAllText(Path.Combine(_directory, "group"), File.ReadAllText("/etc/group") + "systemd-resolve:x:64999:\n");
        var script =
            $"""
            set -e
            mount --bind {_directory}/passwd /etc/passwd
            mount --bind {_directory}/group /etc/group
            mount -t tmpfs none /run
            mkdir -p /run/systemd/resolved.conf.d
            cp {_directory}/resolved.conf /run/systemd/resolved.conf.d/
            exec {Program}
            """;
        return new("unshare", ["--mount", "--propagation", "private", "sh", "-c", script]);
    }

    private string Dig(string arguments)
    {
        var start = new ProcessStartInfo("dig", $"@127.0.0.1 -p {_frontPort} +tries=1 +time=3 {arguments}") { RedirectStandardOutput = true };
        using var dig = Process.Start(start) ?? throw new InvalidOperationException("dig did not start; install bind9-dnsutils");
        var output = dig.StandardOutput.ReadToEnd();
        dig.WaitForExit();
        return output.Trim();
    }
}
