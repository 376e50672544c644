using OverlayNet.Contracts;
using OverlayNet.Tools.Api;
using OverlayNet.Tools.Capture.Live;
using OverlayNet.Tools.Cli;

namespace OverlayNet.Tools.Capture.Nodes;

/// <summary>Opens a capture on each of several nodes: on this one by itself, on others by way of the daemons, which ask each other by mutual TLS.</summary>
internal sealed class CaptureOnNodes(ApiClient api, RegistrySnapshot registry, string self, TextWriter error)
{
    private const string Every = "all";

    /// <summary>What another node sends at most; null: its daemon's own limit.</summary>
    public int? MegabytesOfNode { get; init; }

    /// <param name="names">Names or ids of nodes, or "all".</param>
    /// <exception cref="CommandFailure">There is no such node, or none of them captures.</exception>
    public async Task<int> Run(CaptureSession session, IReadOnlyCollection<string> names, CaptureTarget target, CaptureOptions options, CancellationToken cancellation)
    {
        var nodes = Nodes(names);
        var problems = new List<CommandFailure>();
        IReadOnlyList<CapturePoint> local = [];
        var here = nodes.FirstOrDefault(node => node.Id == self);
        if (here is not null)
        {
            try
            {
                local = [.. new CapturePlan(registry, self, UnderlayInterface.Of(registry, self)).Points(target with { WithoutApi = true }).Select(point => point with { Name = $"{here.Name}:{point.Name}" })];
            }
            catch (CommandFailure failure)
            {
                LeaveOut(here, failure, problems);
            }
        }
        var path = Query(target, options);
        // Opened only to be read later: what a node sends until then waits in its connection.
        using var reading = new CancellationTokenSource();
        var opened = await Task.WhenAll(nodes.Where(node => node.Id != self).Select(node => Open(node, path, problems, reading.Token))).ConfigureAwait(false);
        var streams = opened.OfType<Opened>().ToList();
        if (local.Count == 0 && streams.Count == 0)
            throw problems[0];
        return session.Nodes(
            local,
            (sink, ends) =>
            {
                ends.Register(reading.Cancel);
                return [.. streams.Select((stream, number) => new NodeStream(number, stream.Node.Name, stream.Content, stream.Clock, sink))];
            },
            cancellation);
    }

    private async Task<Opened?> Open(Node node, string query, List<CommandFailure> problems, CancellationToken reading)
    {
        try
        {
            var clock = await api.Get($"/v1/nodes/{Uri.EscapeDataString(node.Id)}/clock", OverlayNetJson.Default.ClockOffset, reading).ConfigureAwait(false);
            return new Opened(node, clock, await api.Open($"/v1/nodes/{Uri.EscapeDataString(node.Id)}/capture{query}", reading).ConfigureAwait(false));
        }
        catch (CommandFailure failure)
        {
            lock (problems)
                LeaveOut(node, failure, problems);
            return null;
        }
    }

    private void LeaveOut(Node node, CommandFailure failure, List<CommandFailure> problems)
    {
        problems.Add(failure);
        error.WriteLine($"{node.Name} is left out: {failure.Message}");
    }

    private List<Node> Nodes(IReadOnlyCollection<string> names)
    {
        if (names.Contains(Every))
            return [.. registry.Nodes.OrderBy(node => node.Name, StringComparer.Ordinal)];
        return [.. names.Select(name => registry.Nodes.FirstOrDefault(node => node.Name == name) ?? registry.Nodes.FirstOrDefault(node => node.Id.StartsWith(name, StringComparison.Ordinal))
            ?? throw new CommandFailure(ExitCodes.BadInput, $"--on '{name}': there is no such node", "see 'overlaynet node ls'")).DistinctBy(node => node.Id)];
    }

    private string Query(CaptureTarget target, CaptureOptions options)
    {
        // Until everyone has begun, the one that began first has captured already.
        const int margin = 10;
        var values = new (string Name, string? Value)[]
        {
            ("service", target.Service), ("endpoint", target.Endpoint), ("network", target.Network), ("node", target.Node), ("vip", target.Vip?.ToString()),
            ("filter", target.Filter.Length > 0 ? target.Filter : null), ("snap", Text.Number(options.SnapLength)),
            ("seconds", options.Duration is { } duration ? Text.Number(Math.Min((int)duration.TotalSeconds + margin, 3600)) : null), ("megabytes", MegabytesOfNode is { } most ? Text.Number(most) : null),
        };
        return "?" + string.Join('&', values.Where(value => value.Value is not null).Select(value => $"{value.Name}={Uri.EscapeDataString(value.Value!)}"));
    }

    private sealed record Opened(Node Node, ClockOffset Clock, Stream Content);
}
