using System.Text.Json.Nodes;

namespace OverlayNet.ClusterTests.Harness;

/// <summary>A container as the daemon sees one: a named network namespace, and what runs in it.</summary>
public sealed class Container : IDisposable
{
    private readonly Cluster _cluster;
    private readonly List<BackgroundProcess> _processes = [];

    internal Container(Cluster cluster, string name, ClusterNode node)
    {
        _cluster = cluster;
        Name = name;
        Node = node;
    }

    public string Name { get; }

    public ClusterNode Node { get; }

    public string Netns => _cluster.Prefix + Name;

    public string NetnsPath => $"/run/netns/{Netns}";

    /// <summary>Null without IPv4.</summary>
    public string? Address { get; private set; }

    public string? Address6 { get; private set; }

    public string EndpointId { get; private set; } = "";

    /// <summary>What the HTTP server has printed: its name and the client's address, one line a request.</summary>
    public string ServerLog => _processes.Count > 0 ? _processes[0].Output : "";

    public JsonNode Attach(string network, string? service = null, params string[] more)
    {
        string[] arguments = ["attach", "--network", network, "--netns", NetnsPath, "--name", Name, "--resolv-conf", .. service is null ? [] : (string[])["--service", service], .. more];
        var answer = Node.CliJson(arguments);
        EndpointId = (string)answer["endpoint"]!["id"]!;
        Address = (string?)answer["endpoint"]!["address4"];
        Address6 = (string?)answer["endpoint"]!["address6"];
        return answer;
    }

    /// <summary>Starts an HTTP server on the container's own addresses.</summary>
    public void Serve(int port)
    {
        string[] addresses = [.. new[] { Address, Address6 }.OfType<string>()];
        _processes.Add(BackgroundProcess.In(Netns, Tree.Library("echo_server.py"), [Name, Cluster.Number(port), .. addresses]));
        foreach (var address in addresses)
        {
            var url = address.Contains(':') ? $"http://[{address}]:{Cluster.Number(port)}/" : $"http://{address}:{Cluster.Number(port)}/";
            Wait.Until($"{Name} answers on {address}", () => Exec("curl", "-s", "-m", "2", url).Code == 0, seen: () => _processes[^1].Output);
        }
    }

    /// <summary>SIGKILL to the HTTP server; the namespace stays.</summary>
    public void KillServer() => _processes[0].Kill();

    public CommandResult Exec(string program, params IEnumerable<string> arguments) => Commands.In(Netns, program, arguments);

    public BackgroundProcess Start(string program, params IEnumerable<string> arguments)
    {
        var process = BackgroundProcess.In(Netns, program, arguments);
        _processes.Add(process);
        return process;
    }

    /// <summary>A client that goes on asking a URL; <see cref="SteadyClient.Finish"/> says how it fared.</summary>
    public SteadyClient AskSteadily(string url) => new(Start(Tree.Library("steady_client.py"), url).Says("running"));

    /// <summary>A number of requests, one connection each.</summary>
    /// <returns>The answers, one line each: the backend's name and the address it saw.</returns>
    public IReadOnlyList<string> Ask(string url, int count) =>
        Exec("curl", "-s", "-m", "20", "-H", "Connection: close", $"{url}?[1-{Cluster.Number(count)}]").Succeeded().Lines;

    /// <summary>The container ends as one that is killed does: its processes, then its namespace.</summary>
    public void Remove()
    {
        Dispose();
        Commands.Run("ip", "netns", "del", Netns).Succeeded();
        _cluster.Forget(this);
    }

    public void Dispose()
    {
        foreach (var process in _processes)
            process.Dispose();
        _processes.Clear();
    }
}

/// <summary>How a <c>steady_client.py</c> fared.</summary>
public sealed record Steadiness(int Ok, int Failed, IReadOnlyList<string> Errors, IReadOnlyDictionary<string, int> Backends, double SlowestMs, int HeldExchanges, string? HeldError);

/// <summary>A client that asks and asks.</summary>
public sealed class SteadyClient(BackgroundProcess process)
{
    public Steadiness Finish()
    {
        var last = process.End("TERM").Split('\n', StringSplitOptions.RemoveEmptyEntries)[^1];
        var result = JsonNode.Parse(last)!;
        return new Steadiness(
            (int)result["ok"]!,
            (int)result["failed"]!,
            [.. result["errors"]!.AsArray().Select(error => (string)error!)],
            result["backends"]!.AsObject().ToDictionary(entry => entry.Key, entry => (int)entry.Value!),
            (double)result["slowestMs"]!,
            (int)result["heldExchanges"]!,
            (string?)result["heldError"]);
    }
}
