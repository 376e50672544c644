using System.Text.Json.Nodes;
using OverlayNet.ClusterTests.Harness;

namespace OverlayNet.ClusterTests.Managers;

/// <summary>The registry in an etcd that somebody else runs, outside the cluster, over mutual TLS.</summary>
public sealed class ExternalStoreTests
{
    [Fact]
    public void Managers_share_an_etcd_that_somebody_else_runs()
    {
        using var cluster = Cluster.Lay(2);
        var nodes = cluster.Nodes;
        var pki = $"{cluster.Directory}/pki";
        Directory.CreateDirectory(pki);
        Certificates(pki);
        StartEtcd(cluster, pki);
        foreach (var node in nodes)
        {
            File.AppendAllText($"{node.Directory}/config.yaml", $"store: etcd://{Cluster.OutsideAddress}:2379\netcd.ca: {pki}/ca.pem\netcd.cert: {pki}/client.pem\netcd.key: {pki}/client.key\n");
            node.Start();
        }
        nodes[0].Cli("init", "--address", nodes[0].Address, "--name", "node1");
        nodes[1].Cli("join", "--token", nodes[0].Cli("token", "show", "--quiet", "manager").Text, "--address", nodes[1].Address, "--name", "node2", nodes[0].Address);
        Assert.Equal("etcd", (string)ManagersCluster.Managers(nodes[1])["store"]!);
        Assert.False(File.Exists($"{nodes[0].State}/registry.db"));
        Assert.False(File.Exists($"{nodes[0].State}/etcd.pid"));
        nodes[0].Cli("network", "create", "--subnet", "10.10.0.0/24", "app");
        nodes[1].Cli("service", "create", "--network", "app", "--port", "80", "web");
        cluster.AddBackend("web2", nodes[1], "app", "web");
        var client = cluster.Attach("client1", nodes[0], "app");
        Assert.Equal(20, client.Ask("http://web/", 20).Count);

        // Two managers tolerate the loss of one: the majority is etcd's own affair.
        nodes[0].Kill();
        nodes[1].Cli("network", "create", "--subnet", "10.11.0.0/24", "alone");
        nodes[0].Start();
        Wait.Until("the manager is back", () => nodes[0].TryCli("network", "ls").Output.Contains("alone", StringComparison.Ordinal));

        // etcd away: refused and stale, names and VIPs go on; back: as before.
        Cluster.Script("reap", cluster.Directory, "etcd");
        Assert.Equal(1, nodes[0].TryCli("network", "create", "--subnet", "10.12.0.0/24", "refused").Code);
        Assert.Equal(20, client.Ask("http://web/", 20).Count);
        StartEtcd(cluster, pki);
        Wait.Until("writes pass again", () => nodes[0].TryCli("network", "create", "--subnet", "10.13.0.0/24", "again").Code == 0);
        nodes[0].Cli("backup", "--output", $"{cluster.Directory}/backup");
        Assert.Contains("somebody else runs", nodes[0].TryCli("recover").Error, StringComparison.Ordinal);
        // Without the client certificate nobody gets in.
        Assert.NotEqual(0, Commands.In(nodes[0].Netns, "curl", "-s", "--max-time", "5", "--cacert", $"{pki}/ca.pem", $"https://{Cluster.OutsideAddress}:2379/health").Code);
    }

    private static void StartEtcd(Cluster cluster, string pki) => Cluster.Script("spawn", cluster.Directory, "etcd", cluster.Outside, "env", "ETCD_UNSUPPORTED_ARCH=arm64", "etcd",
        "--name", "theirs", "--data-dir", $"{cluster.Directory}/their-etcd", "--max-txn-ops", "1024", "--logger", "zap", "--log-level", "error",
        "--listen-client-urls", $"https://{Cluster.OutsideAddress}:2379", "--advertise-client-urls", $"https://{Cluster.OutsideAddress}:2379",
        "--listen-peer-urls", "http://127.0.0.1:2380", "--initial-advertise-peer-urls", "http://127.0.0.1:2380", "--initial-cluster", "theirs=http://127.0.0.1:2380",
        "--client-cert-auth", "--trusted-ca-file", $"{pki}/ca.pem", "--cert-file", $"{pki}/server.pem", "--key-file", $"{pki}/server.key");

    private static void Certificates(string pki)
    {
        Commands.Run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", "/CN=their CA", "-keyout", $"{pki}/ca.key", "-out", $"{pki}/ca.pem").Succeeded();
        foreach (var (name, extensions) in new[] { ("server", $"subjectAltName=IP:{Cluster.OutsideAddress}"), ("client", "extendedKeyUsage=clientAuth") })
        {
            Commands.Run("openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", $"/CN={name}", "-keyout", $"{pki}/{name}.key", "-out", $"{pki}/{name}.csr").Succeeded();
            File.WriteAllText($"{pki}/{name}.ext", extensions + "\n");
            Commands.Run("openssl", "x509", "-req", "-days", "2", "-in", $"{pki}/{name}.csr", "-CA", $"{pki}/ca.pem", "-CAkey", $"{pki}/ca.key", "-CAcreateserial", "-extfile", $"{pki}/{name}.ext", "-out", $"{pki}/{name}.pem").Succeeded();
        }
    }
}
