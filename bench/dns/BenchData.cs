using System.Globalization;
using System.Net;
using System.Text;
using OverlayNet.Dns;

namespace OverlayNet.Bench.Dns;

/// <summary>The same names for every server: 10,000 addresses and 500 SRV records, and names "outside" for cache hits.</summary>
internal static class BenchData
{
    public const int Names = 10_000;
    public const int SrvNames = 500;
    public const int OutsideNames = 1_000;
    public const string Zone = "bench.dc1.overlay.internal";
    public const string Outside = "outside.example";
    private const int Ttl = 5;

    public static IPAddress Address(int i) => new([10, 9, (byte)(i >> 8), (byte)i]);

    public static string Service(int i) => "svc" + i.ToString("D5", CultureInfo.InvariantCulture);

    public static DnsConfig Config(int services = Names, int srv = SrvNames, IReadOnlyList<IPEndPoint>? upstreams = null) => new()
    {
        Synced = true,
        Revision = 1,
        Networks =
        [
            new DnsNetwork
            {
                Id = "bench",
                Name = "bench",
                Subnets = [IPNetwork.Parse("10.9.0.0/16")],
                Services = [.. Enumerable.Range(0, services).Select(i => MakeService(i, i < srv))],
            },
        ],
        Forward = new DnsForwardConfig { Upstreams = upstreams ?? [] },
    };

    public static DnsService MakeService(int i, bool srv) => new()
    {
        Name = Service(i),
        VipV4 = Address(i),
        Ports = srv ? [new DnsPort("http", "tcp", 8080)] : [],
        Endpoints = srv ? [new DnsEndpoint { Id = "e" + i, Name = "ep" + i, Addresses = [new IPAddress([10, 8, (byte)(i >> 8), (byte)i])] }] : [],
    };

    /// <summary>Query files for dnsperf, and configuration for the other servers, below <paramref name="directory"/>.</summary>
    public static void Write(string directory, IReadOnlyDictionary<string, int> ports)
    {
        var random = new Random(1);
        var queries = new List<string>();
        for (var i = 0; i < Names; i++)
            queries.Add($"{Service(i)}.{Zone} A");
        for (var i = 0; i < SrvNames; i++)
            queries.Add($"_http._tcp.{Service(i)}.{Zone} SRV");
        var shuffled = queries.ToArray();
        random.Shuffle(shuffled);
        File.WriteAllLines(Path.Combine(directory, "queries"), shuffled);
        File.WriteAllLines(Path.Combine(directory, "outside-queries"), Enumerable.Range(0, OutsideNames).Select(i => $"n{i}.{Outside} A"));

        File.WriteAllText(Path.Combine(directory, "bench.zone"), ZoneFile());
        File.WriteAllText(Path.Combine(directory, "outside.zone"), OutsideFile());
        File.WriteAllText(Path.Combine(directory, "nsd.conf"), Nsd(directory, ports["nsd"]));
        File.WriteAllText(Path.Combine(directory, "knot.conf"), Knot(directory, ports["knot"]));
        File.WriteAllText(Path.Combine(directory, "unbound.conf"), Unbound(directory, ports["unbound"], ports["nsd"]));
        File.WriteAllText(Path.Combine(directory, "dnsmasq.conf"), Dnsmasq(ports["dnsmasq"]));
    }

    private static string Soa(string zone) =>
        $"$ORIGIN {zone}.\n$TTL {Ttl}\n@ SOA ns.{zone}. root.{zone}. 1 3600 600 86400 1\n@ NS ns.{zone}.\nns A 127.0.0.1\n";

    private static string ZoneFile()
    {
        var zone = new StringBuilder(Soa(Zone));
        for (var i = 0; i < Names; i++)
            zone.Append(Service(i)).Append(" A ").Append(Address(i)).Append('\n');
        for (var i = 0; i < SrvNames; i++)
        {
            zone.Append(CultureInfo.InvariantCulture, $"_http._tcp.{Service(i)} SRV 0 2048 8080 ep{i}.{Service(i)}\n");
            zone.Append(CultureInfo.InvariantCulture, $"ep{i}.{Service(i)} A 10.8.{i >> 8}.{i & 255}\n");
        }

        return zone.ToString();
    }

    private static string OutsideFile()
    {
        // A day, so that no answer expires while it is measured.
        var zone = new StringBuilder(Soa(Outside)).Append("$TTL 86400\n");
        for (var i = 0; i < OutsideNames; i++)
            zone.Append(CultureInfo.InvariantCulture, $"n{i} A 192.0.2.{i & 255}\n");
        return zone.ToString();
    }

    private static string Nsd(string directory, int port) =>
        $"""
        server:
          ip-address: 127.0.0.1@{port}
          server-count: 1
          username: ""
          zonesdir: "{directory}"
          database: ""
          zonelistfile: "{directory}/nsd.list"
          pidfile: "{directory}/nsd.pid"
          xfrdfile: "{directory}/xfrd.state"
          rrl-ratelimit: 0
          minimal-responses: no
        remote-control:
          control-enable: no
        zone:
          name: {Zone}
          zonefile: bench.zone
        zone:
          name: {Outside}
          zonefile: outside.zone

        """;

    private static string Knot(string directory, int port) =>
        $"""
        server:
          listen: 127.0.0.1@{port}
          udp-workers: 1
          tcp-workers: 1
          background-workers: 1
          rundir: {directory}/knot-run
          pidfile: {directory}/knot.pid
        database:
          storage: {directory}/knot-db
        control:
          listen: {directory}/knot.sock
        log:
          - target: stderr
            any: error
        zone:
          - domain: {Zone}
            file: {directory}/bench.zone
            zonefile-sync: -1
            journal-content: none

        """;

    private static string Unbound(string directory, int port, int upstream)
    {
        var conf = new StringBuilder(
            $"""
            server:
              interface: 127.0.0.1
              port: {port}
              num-threads: 1
              do-daemonize: no
              chroot: ""
              username: ""
              directory: "{directory}"
              pidfile: "{directory}/unbound.pid"
              use-syslog: no
              do-not-query-localhost: no
              module-config: "iterator"
              local-zone: "{Zone}." static
            remote-control:
              control-enable: no
            forward-zone:
              name: "{Outside}."
              forward-addr: 127.0.0.1@{upstream}
            server:

            """);
        for (var i = 0; i < Names; i++)
            conf.Append(CultureInfo.InvariantCulture, $"  local-data: \"{Service(i)}.{Zone}. {Ttl} A {Address(i)}\"\n");
        for (var i = 0; i < SrvNames; i++)
            conf.Append(CultureInfo.InvariantCulture, $"  local-data: \"_http._tcp.{Service(i)}.{Zone}. {Ttl} SRV 0 2048 8080 ep{i}.{Service(i)}.{Zone}.\"\n");
        return conf.ToString();
    }

    private static string Dnsmasq(int port)
    {
        var conf = new StringBuilder($"port={port}\nlisten-address=127.0.0.1\nbind-interfaces\nno-resolv\nno-hosts\nno-daemon\nlocal-ttl={Ttl}\ncache-size=20000\nuser=root\npid-file\n");
        for (var i = 0; i < Names; i++)
            conf.Append(CultureInfo.InvariantCulture, $"host-record={Service(i)}.{Zone},{Address(i)}\n");
        for (var i = 0; i < SrvNames; i++)
            conf.Append(CultureInfo.InvariantCulture, $"srv-host=_http._tcp.{Service(i)}.{Zone},ep{i}.{Service(i)}.{Zone},8080,0,2048\n");
        return conf.ToString();
    }
}
