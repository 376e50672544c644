using System.Globalization;
using System.Net;
using OverlayNet.Contracts;
using OverlayNet.Daemon.Registry;
using OverlayNet.Dns;

namespace OverlayNet.Daemon.Configuration;

/// <summary>One setting: its key in the file (also <c>--section-key</c> and <c>OVERLAYNET_SECTION_KEY</c>), what it means, and how its text is read.</summary>
public sealed record OptionKey(string Key, string Meaning, Action<DaemonOptions, string> Set);

/// <summary>The one table of settings, for the file, the environment, the flags and the documentation.</summary>
public static class OptionKeys
{
    public static IReadOnlyList<OptionKey> All { get; } =
    [
        new("state", "directory of everything that survives a restart", (o, v) => o.State = Absolute(v)),
        new("socket", "path of the API's unix socket", (o, v) => o.Socket = Absolute(v)),
        new("node.name", "this node's name, one DNS label; default: the host's name", (o, v) => o.NodeName = Label(v)),
        new("node.address", "underlay address; default: the one the default route leaves from", (o, v) => o.NodeAddress = Address(v)),
        new("node.dc", "name of the data centre, one DNS label", (o, v) => o.Dc = Label(v)),
        new("cluster.domain", "DNS domain of the cluster, taken at init", (o, v) => o.ClusterDomain = v.TrimEnd('.').ToLowerInvariant()),
        new("listen.port", "TCP port of the API for other nodes", (o, v) => o.ApiPort = Port(v)),
        new("vxlan.port", "UDP port of the VXLAN underlay, the same on every node", (o, v) => o.VxlanPort = Port(v)),
        new("dns.upstreams", "servers for names that are not the cluster's, in order; default: those of dns.resolvConf", (o, v) => o.Upstreams = [.. List(v).Select(EndPoint)]),
        new("dns.resolvConf", "resolv.conf(5) to follow when no upstreams are set", (o, v) => o.ResolvConf = Absolute(v)),
        new("dns.addresses", "where the node's resolver listens on the host and in every network: 169.254.53.53, fd6f:7665:726c:53::53; empty: nowhere", (o, v) => o.ResolverAddresses = [.. List(v).Select(Address)]),
        new("dns.logEvery", "log every n-th query; 0: none", (o, v) => o.DnsLogEvery = Count(v)),
        new("dns.dnstap", "file that answers are written to in dnstap's format, for fstrm_dump, dnstap-ldns and the like; it becomes FILE.1 at 64 MiB; off: none", (o, v) => o.DnstapFile = v == "off" ? null : Absolute(v)),
        new("dns.dnstapEvery", "write every n-th answer to it, from 1", (o, v) => o.DnstapEvery = Math.Max(1, Count(v))),
        new("dns.inKernel", "whether the kernel answers names of the cluster where it can, without the daemon: true or false; never while queries are logged", (o, v) => o.DnsInKernel = bool.TryParse(v, out var on) ? on : throw new FormatException("say true or false")),
        new("dns.domains", "upstreams by domain: corp.example=10.0.0.53, ...", (o, v) => o.DomainUpstreams = Domains(v)),
        new("agent.heartbeat", "seconds between signs of life to the managers", (o, v) => o.HeartbeatInterval = Seconds(v, 0.1)),
        new("agent.resync", "seconds between comparisons of kernel and desired state", (o, v) => o.ResyncInterval = Seconds(v, 0.1)),
        new("manager.unmanagedAfter", "seconds of silence after which a node is shown as unmanaged", (o, v) => o.UnmanagedAfter = Seconds(v, 1)),
        new("manager.etcdClientPort", "TCP port of a manager's etcd for managers, the same on all of them", (o, v) => o.EtcdClientPort = Port(v)),
        new("manager.etcdPeerPort", "TCP port of a manager's etcd for its peers, the same on all managers", (o, v) => o.EtcdPeerPort = Port(v)),
        new("manager.deadAfter", "seconds after which a silent manager loses its place in the store, if a majority is left without it", (o, v) => o.ManagerDeadAfter = Seconds(v, 10)),
        new("store", "where managers keep the registry: etcd://HOST:PORT,HOST:PORT,... for an etcd that somebody else runs, the same on every manager; default: they see to it themselves", (o, v) => o.Store = Members(v)),
        new("etcd.ca", "PEM file of the CAs of that etcd; without it, it is talked to without TLS", (o, v) => o.StoreCa = Absolute(v)),
        new("etcd.cert", "PEM file of this manager's client certificate for that etcd", (o, v) => o.StoreCertificate = Absolute(v)),
        new("etcd.key", "PEM file of the key of etcd.cert", (o, v) => o.StoreKey = Absolute(v)),
        new("manager.certificateLife", "how long the certificates of nodes are valid that this manager signs: 90d, 12h, 30m or 60s; default: 730d", (o, v) => o.CertificateLife = Life(v)),
        new("manager.storeQuota", "bytes that a manager's etcd may grow to, history included, before it is compacted; the same on every manager", (o, v) => o.StoreQuota = long.TryParse(v, NumberStyles.None, CultureInfo.InvariantCulture, out var quota) && quota is >= 16 << 20 and <= 8L << 30 ? quota : throw new FormatException("give a number from 16777216 to 8589934592")),
        new("backup.interval", "seconds between a manager's own backups of the registry; 0: none", (o, v) => o.BackupInterval = v == "0" ? TimeSpan.Zero : Seconds(v, 1)),
        new("backup.keep", "how many of those backups are kept", (o, v) => o.BackupKeep = int.TryParse(v, NumberStyles.None, CultureInfo.InvariantCulture, out var keep) && keep is > 0 and < 10000 ? keep : throw new FormatException("give a number from 1 to 9999")),
        new("vip.balancer", "auto, ipvs, nft or ebpf, for services that do not say", (o, v) => o.Balancer = Word<BalancerKind>(v)),
        new("vip.watchdog", "watchdog device that resets this machine when it holds a fenced VIP and neither renews nor gives up: /dev/watchdog; without it no VIP is held here; off: none", (o, v) => o.WatchdogDevice = v == "off" ? null : Absolute(v)),
        new("docker.plugin", "path of the socket that serves Docker's network and IPAM driver, named after its file; off: not served", (o, v) => o.DockerPluginSocket = v == "off" ? null : PluginPath(v)),
        new("docker.socket", "path of Docker's API socket, followed for container names, labels and networks", (o, v) => o.DockerSocket = Absolute(v)),
        new("metrics.listen", "address:port that serves /metrics and /v1/sd/prometheus over TCP to anybody who reaches it; off: only the unix socket does", (o, v) => o.MetricsListen = Listen(v)),
        new("consul.listen", "address:port that serves Consul's read API and registrations of this node's containers, without a password; off: nowhere", (o, v) => o.ConsulListen = Listen(v)),
        new("otlp.endpoint", "URL of an OpenTelemetry collector (OTLP over HTTP) that traces of changes are sent to; off: nothing is traced", (o, v) => o.OtlpEndpoint = Collector(v)),
        new("log.level", "trace, debug, information, warning, error", (o, v) => o.LogLevel = Word<LogLevel>(v)),
        new("log.json", "log one JSON object a line: true or false", (o, v) => o.LogJson = bool.TryParse(v, out var on) ? on : throw new FormatException("say true or false")),
    ];

    private static string Absolute(string value) => Path.IsPathRooted(value) ? value : throw new FormatException("give an absolute path");

    private static string PluginPath(string value) =>
        Path.GetExtension(value) == ".sock" ? Absolute(value) : throw new FormatException("give an absolute path that ends in .sock, or off");

    private static IPAddress Address(string value) =>
        Prefixes.ParseAddress(value) ?? throw new FormatException("give an IPv4 or IPv6 address");

    private static int Port(string value) =>
        int.TryParse(value, NumberStyles.None, CultureInfo.InvariantCulture, out var port) && port is > 0 and < 65536
            ? port
            : throw new FormatException("give a port from 1 to 65535");

    private static int Count(string value) =>
        int.TryParse(value, NumberStyles.None, CultureInfo.InvariantCulture, out var count) ? count : throw new FormatException("give a number from 0");

    private static TimeSpan Seconds(string value, double least) =>
        double.TryParse(value, NumberStyles.Float, CultureInfo.InvariantCulture, out var seconds) && seconds >= least && seconds <= 86400
            ? TimeSpan.FromSeconds(seconds)
            : throw new FormatException(string.Create(CultureInfo.InvariantCulture, $"give seconds from {least} to 86400"));

    private static List<Uri> Members(string value)
    {
        const string Scheme = "etcd://";
        if (!value.StartsWith(Scheme, StringComparison.Ordinal))
            throw new FormatException("give etcd://HOST:PORT,HOST:PORT,...");
        return [.. List(value[Scheme.Length..]).Select(member => Uri.TryCreate($"http://{member}", UriKind.Absolute, out var uri) && uri.Port != 80 && uri.AbsolutePath == "/"
            ? uri
            : throw new FormatException($"'{member}' is not HOST:PORT"))];
    }

    private static TimeSpan Life(string value)
    {
        var unit = value.Length > 1 ? value[^1] : ' ';
        var seconds = unit switch { 's' => 1, 'm' => 60, 'h' => 3600, 'd' => 86400, _ => 0 };
        return seconds > 0 && int.TryParse(value[..^1], NumberStyles.None, CultureInfo.InvariantCulture, out var count) && count > 0 && (long)count * seconds is >= 15 and <= 20L * 365 * 86400
            ? TimeSpan.FromSeconds((double)count * seconds)
            : throw new FormatException("give a duration from 15s to 7300d");
    }

    private static string Label(string value)
    {
        var name = value.ToLowerInvariant();
        return name.Length is > 0 and <= 63 && name[0] != '-' && name[^1] != '-' && name.All(c => char.IsAsciiLetterOrDigit(c) || c == '-')
            ? name
            : throw new FormatException("give one DNS label: letters, digits and hyphens, at most 63");
    }

    private static T Word<T>(string value) where T : struct, Enum =>
        Enum.TryParse<T>(value, ignoreCase: true, out var word) && !int.TryParse(value, out _)
            ? word
            : throw new FormatException($"say one of {string.Join(", ", Enum.GetNames<T>()).ToLowerInvariant()}");

    private static IPEndPoint EndPoint(string value)
    {
        if (Prefixes.ParseAddress(value) is { } address)
            return new IPEndPoint(address, 53);
        return IPEndPoint.TryParse(value, out var endPoint) && endPoint.Port != 0
            ? endPoint
            : throw new FormatException($"'{value}' is not an address or address:port");
    }

    private static Uri? Collector(string value) => value == "off" ? null
        : Uri.TryCreate(value, UriKind.Absolute, out var url) && url.Scheme is "http" or "https"
            ? url
            : throw new FormatException("give a URL, such as http://192.0.2.9:4318, or off");

    private static IPEndPoint? Listen(string value) => value == "off" ? null
        : IPEndPoint.TryParse(value, out var endPoint) && endPoint.Port != 0
            ? endPoint
            : throw new FormatException("give address:port, such as 127.0.0.1:7374 or [::1]:7374, or off");

    private static List<DnsDomainUpstreams> Domains(string value)
    {
        var domains = new Dictionary<string, List<IPEndPoint>>();
        foreach (var entry in List(value))
        {
            var parts = entry.Split('=', 2);
            if (parts.Length != 2)
                throw new FormatException($"'{entry}' is not DOMAIN=SERVER");
            var domain = parts[0].Trim().TrimEnd('.').ToLowerInvariant();
            if (!domains.TryGetValue(domain, out var servers))
                domains[domain] = servers = [];
            servers.Add(EndPoint(parts[1].Trim()));
        }
        return [.. domains.Select(entry => new DnsDomainUpstreams(entry.Key, entry.Value))];
    }

    private static string[] List(string value) => value.Split(',', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries);
}
