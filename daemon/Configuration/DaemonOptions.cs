using System.Net;
using OverlayNet.Contracts;
using OverlayNet.Dns;

namespace OverlayNet.Daemon.Configuration;

/// <summary>Everything an operator can set. Every value has a key in <see cref="OptionKeys"/>.</summary>
public sealed class DaemonOptions
{
    /// <summary>Directory of everything that survives a restart.</summary>
    public string State { get; set; } = "/var/lib/overlaynet";

    /// <summary>Path of the API's unix socket.</summary>
    public string Socket { get; set; } = "/run/overlaynet/overlaynet.sock";
    public string NodeName { get; set; } = Dns.SafeHostName();

    /// <summary>The underlay address; null: the one the default route leaves from.</summary>
    public IPAddress? NodeAddress { get; set; }
    public string Dc { get; set; } = "dc1";
    public string ClusterDomain { get; set; } = "overlay.internal";

    /// <summary>TCP port for other nodes.</summary>
    public int ApiPort { get; set; } = 7373;

    /// <summary>UDP port of the VXLAN underlay.</summary>
    public int VxlanPort { get; set; } = 4789;
    public IReadOnlyList<IPEndPoint> Upstreams { get; set; } = [];
    public string ResolvConf { get; set; } = "/etc/resolv.conf";
    public IReadOnlyList<DnsDomainUpstreams> DomainUpstreams { get; set; } = [];

    /// <summary>Every n-th DNS query is logged; 0: none.</summary>
    public int DnsLogEvery { get; set; }

    /// <summary>Whether the kernel answers by itself what it can (see docs/dns.md); never while queries are logged or written to dnstap.</summary>
    public bool DnsInKernel { get; set; } = true;

    /// <summary>Watchdog that stands behind the fences of floating VIPs; null: none.</summary>
    public string? WatchdogDevice { get; set; }

    /// <summary>File of dnstap messages; null: none.</summary>
    public string? DnstapFile { get; set; }

    /// <summary>Every n-th answer goes into it.</summary>
    public int DnstapEvery { get; set; } = 1;

    /// <summary>
    /// Where the node's resolver listens for the node itself, and inside every network for runtimes that want one address
    /// for all. Outside every routed range; not 127/8, which a container's packets cannot go to.
    /// </summary>
    public IReadOnlyList<IPAddress> ResolverAddresses { get; set; } = [IPAddress.Parse("169.254.53.53"), IPAddress.Parse("fd6f:7665:726c:53::53")];
    public TimeSpan HeartbeatInterval { get; set; } = TimeSpan.FromSeconds(1);
    public TimeSpan UnmanagedAfter { get; set; } = TimeSpan.FromSeconds(30);


    /// <summary>TCP ports of a manager's etcd, for clients and for its peers; the same on every manager.</summary>
    public int EtcdClientPort { get; set; } = 7379;
    public int EtcdPeerPort { get; set; } = 7380;

    /// <summary>How long a manager may be silent before it loses its place in the store, as far as a majority is left without it.</summary>
    public TimeSpan ManagerDeadAfter { get; set; } = TimeSpan.FromHours(1);

    /// <summary>Members of an etcd that somebody else runs, where the registry is; empty: managers see to the store themselves.</summary>
    public IReadOnlyList<Uri> Store { get; set; } = [];

    /// <summary>PEM files for it: the CAs it is trusted by, and this manager's certificate with its key. Null: no TLS, or none of that kind.</summary>
    public string? StoreCa { get; set; }

    /// <inheritdoc cref="StoreCa"/>
    public string? StoreCertificate { get; set; }

    /// <inheritdoc cref="StoreCa"/>
    public string? StoreKey { get; set; }

    /// <summary>How long the certificates that a manager signs are valid.</summary>
    public TimeSpan CertificateLife { get; set; } = Security.CertificateAuthority.NodeLife;

    /// <summary>How large a manager's store may grow, in bytes, history included; beyond it is compacted and defragmented.</summary>
    public long StoreQuota { get; set; } = 4L << 30;

    /// <summary>How often a manager backs the registry up by itself; zero: never.</summary>
    public TimeSpan BackupInterval { get; set; } = TimeSpan.FromHours(6);

    /// <summary>How many of those backups are kept.</summary>
    public int BackupKeep { get; set; } = 14;

    /// <summary>How often the kernel is compared with the desired state when nothing has happened.</summary>
    public TimeSpan ResyncInterval { get; set; } = TimeSpan.FromSeconds(3);

    /// <summary>auto, ipvs, nft or ebpf, for services that do not say.</summary>
    public BalancerKind Balancer { get; set; }
    /// <summary>Where Docker's plugin requests are served; the file's name is the driver's. Null: Docker is not served.</summary>
    public string? DockerPluginSocket { get; set; } = "/run/docker/plugins/overlaynet.sock";

    /// <summary>Docker's own API, followed for names, labels and networks.</summary>
    public string DockerSocket { get; set; } = "/run/docker.sock";

    /// <summary>Where metrics and service discovery can be read over TCP, by anybody; null: only on the unix socket.</summary>
    public IPEndPoint? MetricsListen { get; set; }

    /// <summary>Where Consul's API is served, for reading and for registering this node's containers; null: nowhere.</summary>
    public IPEndPoint? ConsulListen { get; set; }

    /// <summary>OpenTelemetry collector that traces of changes are sent to by OTLP over HTTP; null: nothing is traced.</summary>
    public Uri? OtlpEndpoint { get; set; }
    public LogLevel LogLevel { get; set; } = LogLevel.Information;
    public bool LogJson { get; set; }

    private static class Dns
    {
        /// <summary>The host's first label in lower case, as a node's name must be one DNS label.</summary>
        public static string SafeHostName() => Environment.MachineName.Split('.')[0].ToLowerInvariant();
    }
}
