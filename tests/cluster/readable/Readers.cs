using System.Text.Json.Nodes;
using OverlayNet.ClusterTests.Harness;

namespace OverlayNet.ClusterTests.Readable;

/// <summary>VictoriaMetrics' agent, which discovers by Consul in its own way.</summary>
internal sealed class VmAgent : IDisposable
{
    private readonly Container _place;
    private readonly BackgroundProcess _process;
    private readonly string _directory = Directory.CreateTempSubdirectory("overlaynet-vmagent-").FullName;

    public VmAgent(Container place, string configuration)
    {
        _place = place;
        File.WriteAllText($"{_directory}/scrape.yml", configuration);
        _process = place.Start(
            "vmagent", $"-promscrape.config={_directory}/scrape.yml", "-httpListenAddr=127.0.0.1:8429", "-remoteWrite.url=http://127.0.0.1:1/", $"-remoteWrite.tmpDataPath={_directory}/data",
            "-promscrape.consulSDCheckInterval=1s");
        Wait.Until("vmagent answers", () => place.Exec("curl", "-s", "-f", "http://127.0.0.1:8429/health").Code == 0, seen: () => _process.Output);
    }

    public string Log => _process.Output;

    /// <summary>Addresses of the targets whose last scrape was well.</summary>
    public IReadOnlyList<string> Up() =>
        [.. JsonNode.Parse(_place.Exec("curl", "-s", "-m", "10", "http://127.0.0.1:8429/api/v1/targets?state=active").Succeeded().Output)!["data"]!["activeTargets"]!.AsArray()
            .Where(target => (string?)target!["health"] == "up").Select(target => (string)target!["discoveredLabels"]!["__address__"]!).Order(StringComparer.Ordinal)];

    public void Dispose()
    {
        _process.Dispose();
        Directory.Delete(_directory, recursive: true);
    }
}

/// <summary>HAProxy with servers from SRV records.</summary>
internal sealed class HaProxy : IDisposable
{
    private readonly Container _place;
    private readonly BackgroundProcess _process;
    private readonly string _directory = Directory.CreateTempSubdirectory("overlaynet-haproxy-").FullName;

    public HaProxy(Container place, string resolver, string service)
    {
        _place = place;
        File.WriteAllText($"{_directory}/haproxy.cfg", $"""
            global
                stats socket {_directory}/stats.sock
            defaults
                mode http
                timeout connect 2s
                timeout client 5s
                timeout server 5s
            resolvers overlay
                nameserver gateway {resolver}:53
                hold valid 1s
                accepted_payload_size 1232
            frontend front
                bind 127.0.0.1:8080
                default_backend web
            backend web
                server-template web 4 {service} resolvers overlay resolve-prefer ipv4 init-addr none check

            """);
        _process = place.Start("haproxy", "-db", "-f", $"{_directory}/haproxy.cfg");
    }

    public string Log => _process.Output;

    /// <summary>Addresses of the servers that are in use.</summary>
    public IReadOnlyList<string> Servers() =>
        [.. _place.Exec("sh", "-c", $"echo 'show servers state web' | socat - UNIX-CONNECT:{_directory}/stats.sock").Output.Split('\n')
            .Select(line => line.Split(' ')).Where(words => words.Length > 6 && words[1] == "web" && words[5] == "2").Select(words => words[4]).Order(StringComparer.Ordinal)];

    public void Dispose()
    {
        _process.Dispose();
        Directory.Delete(_directory, recursive: true);
    }
}
