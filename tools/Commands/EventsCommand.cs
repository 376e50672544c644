using System.CommandLine;
using System.Globalization;
using System.Text.Json;
using System.Text.RegularExpressions;
using OverlayNet.Contracts;
using OverlayNet.Tools.Api;
using OverlayNet.Tools.Cli;

namespace OverlayNet.Tools.Commands;

/// <summary><c>overlaynet events</c>: what happened, kept across restarts of the daemon.</summary>
internal static partial class EventsCommand
{
    public static Command Create(Shell shell)
    {
        var since = Inputs.Text("--since", "Start after this sequence number, or this long ago (30s, 10m, 2h, 1d); default: everything kept", "SEQ|DURATION");
        since.Validators.Add(result =>
        {
            if (result.Tokens is [var token] && !Since().IsMatch(token.Value))
                result.AddError(Inputs.Complaint($"--since '{token.Value}' is neither a sequence number nor a duration", "give a number such as 120, or a duration such as 30s, 10m, 2h or 1d"));
        });
        var follow = new Option<bool>("--follow", "-f") { Description = "Go on as events happen" };
        var cluster = new Option<bool>("--cluster", "-c") { Description = "Also what is recorded at the managers: every write to the registry, in one stream by time" };
        var command = new CliCommand("events", "Show what happened on this node and in the cluster", "events --since 10m", "events --cluster --follow", "events --follow --json") { since, follow, cluster };
        command.Validators.Add(result =>
        {
            if (result.GetValue(cluster) && result.GetValue(since) is { } number && char.IsAsciiDigit(number[^1]))
                result.AddError(Inputs.Complaint($"--since '{number}' is a number of one node's events", "with --cluster give a duration such as 10m"));
        });
        shell.Action(command, async (parsed, api, cancellation) =>
        {
            var output = parsed.InvocationConfiguration.Output;
            var path = "/v1/events" + Text.Query(("since", parsed.GetValue(since)), ("follow", parsed.GetValue(follow) ? "true" : null), ("cluster", parsed.GetValue(cluster) ? "true" : null));
            await foreach (var line in api.Lines(path, cancellation).ConfigureAwait(false))
            {
                // JSON stays one object a line: a stream has no end to wait for.
                output.WriteLine(shell.WantsJson(parsed) ? line : Format(line));
                await output.FlushAsync(cancellation).ConfigureAwait(false);
            }
        });
        return command;
    }

    private static string Format(string line)
    {
        var item = JsonSerializer.Deserialize(line, OverlayNetJson.Default.ClusterEvent)!;
        var message = item.Message.Length > 0 ? $": {item.Message}" : "";
        return string.Create(CultureInfo.InvariantCulture, $"{item.Time.ToLocalTime():yyyy-MM-dd HH:mm:ss.fff} #{item.Sequence} {item.Node} {item.Kind} {item.Action} {item.Object}{message}");
    }

    [GeneratedRegex("^[0-9]+[smhd]?$")]
    private static partial Regex Since();
}
