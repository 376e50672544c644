using OverlayNet.ClusterTests.Harness;

namespace OverlayNet.RuntimeTests.Docker;

/// <summary>Whether registry, kernel and DNS have exactly what the Dockers have: nothing leaked, doubled or stale.</summary>
public static class Ledger
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(90);

    /// <summary>Waits until everything agrees.</summary>
    public static void Balances(DockerCluster cluster, string network)
    {
        var difference = "";
        Wait.Until($"network {network} has what the Dockers have", () => (difference = Difference(cluster, network)).Length == 0, Patience, () => difference);
    }

    private static string Difference(DockerCluster cluster, string network)
    {
        var problems = new List<string>();
        var containers = cluster.Hosts.SelectMany(host => Running(host, network)).Order(StringComparer.Ordinal).ToList();
        var endpoints = cluster.Endpoints(network).Select(endpoint => $"{endpoint.Name} {endpoint.Address} {endpoint.State}").Order(StringComparer.Ordinal).ToList();
        if (!containers.Select(container => $"{container} healthy").SequenceEqual(endpoints))
            problems.Add($"Docker: {string.Join(", ", containers)}; registry: {string.Join(", ", endpoints)}");
        foreach (var host in cluster.Hosts)
        {
            var netns = host.Node.NetworkNamespace(network);
            var ports = File.Exists($"/run/netns/{netns}") ? Commands.In(netns, "ip", "-br", "link").Lines.Count(line => line.StartsWith("ve", StringComparison.Ordinal)) : 0;
            var local = Running(host, network).Count;
            if (ports != local)
                problems.Add($"{host.Node.Name}: {ports} ports on the bridge for {local} containers");
            var left = Commands.In(host.Node.Netns, "ip", "-br", "link").Lines.Where(line => line.StartsWith("od", StringComparison.Ordinal)).ToList();
            if (left.Count > 0)
                problems.Add($"{host.Node.Name}: links that no container took: {string.Join(", ", left)}");
            // Docker sees its own containers only; names of the others are ours.
            if (local == 0)
                continue;
            var table = host.Node.Cli("dns", "table", "--network", network).Output;
            foreach (var container in containers)
            {
                if (!table.Contains(container.Split(' ')[1], StringComparison.Ordinal))
                    problems.Add($"{host.Node.Name}: DNS does not know {container}");
            }
        }
        return string.Join('\n', problems);
    }

    /// <summary>Name and address of each running container.</summary>
    private static List<string> Running(DockerHost host, string network)
    {
        var ids = host.TryRun("ps", "-q", "--filter", $"network={network}").Lines;
        if (ids.Count == 0)
            return [];
        var format = "{{.Name}} {{(index .NetworkSettings.Networks \"" + network + "\").IPAddress}}";
        return [.. host.TryRun(["inspect", "-f", format, .. ids]).Lines.Select(line => line.TrimStart('/'))];
    }
}
