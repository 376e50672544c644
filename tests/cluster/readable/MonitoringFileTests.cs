using System.Text.Json.Nodes;
using System.Text.RegularExpressions;
using OverlayNet.ClusterTests.Harness;

namespace OverlayNet.ClusterTests.Readable;

/// <summary>Alerts, dashboard and documentation speak of what there is.</summary>
[Collection(ReadableClusterTests.Name)]
public sealed partial class MonitoringFileTests(ReadableCluster readable)
{
    private static readonly string _monitoring = Path.Combine(Tree.Root, "tools", "monitoring");

    [Fact]
    public void Promtool_takes_the_rules()
    {
        var check = Commands.Run("promtool", "check", "rules", Path.Combine(_monitoring, "overlaynet.rules.yaml"));

        Assert.True(check.Code == 0 && check.Output.Contains("SUCCESS", StringComparison.Ordinal), check.ToString());
    }

    [Fact]
    public void Every_alert_has_a_runbook_that_begins_with_a_command()
    {
        var rules = File.ReadAllText(Path.Combine(_monitoring, "overlaynet.rules.yaml"));
        var alerts = Regex.Count(rules, @"^ +- alert: ", RegexOptions.Multiline);
        var runbooks = Regex.Matches(rules, @"^ +runbook_url: (\S+)$", RegexOptions.Multiline).Select(match => match.Groups[1].Value).ToList();

        Assert.True(alerts > 15);
        Assert.Equal(alerts, runbooks.Count);
        foreach (var runbook in runbooks)
        {
            var first = File.ReadLines(Path.Combine(Tree.Root, runbook)).First();
            Assert.Matches("^    (overlaynet|systemctl) ", first);
            foreach (Match command in Regex.Matches(first, @"overlaynet ([a-z]+)"))
                Assert.Equal(0, Commands.Run(Path.Combine(Tree.Out, "overlaynet"), command.Groups[1].Value, "--help").Code);
        }
    }

    [Fact]
    public void Every_metric_that_is_named_is_exposed()
    {
        var exposed = readable.Ask(readable.Manager, "/metrics").Lines.Where(line => line.StartsWith("# TYPE ", StringComparison.Ordinal))
            .Select(line => line.Split(' ')).SelectMany(words => words[3] == "histogram" ? new[] { words[2], words[2] + "_bucket", words[2] + "_sum", words[2] + "_count" } : [words[2]]).ToHashSet();
        var dashboard = JsonNode.Parse(File.ReadAllText(Path.Combine(_monitoring, "overlaynet.dashboard.json")))!;
        var texts = dashboard["panels"]!.AsArray().SelectMany(panel => panel!["targets"]!.AsArray()).Select(target => (string)target!["expr"]!)
            .Append((string)dashboard["templating"]!["list"]![1]!["query"]!)
            .Append(string.Join('\n', File.ReadLines(Path.Combine(_monitoring, "overlaynet.rules.yaml")).Where(line => line.Contains(" expr: ", StringComparison.Ordinal))))
            .Append(string.Join('\n', File.ReadLines(Path.Combine(Tree.Root, "docs", "metrics.md")).Where(line => line.StartsWith('|'))));

        var named = texts.SelectMany(text => Metric().Matches(text).Select(match => match.Value)).Distinct().Order(StringComparer.Ordinal).ToList();

        Assert.True(named.Count > 50);
        Assert.Empty(named.Except(exposed).Except(["overlaynet_dns"]));
    }

    [GeneratedRegex("overlaynet_[a-z_]+[a-z]|process_[a-z_]+")]
    private static partial Regex Metric();
}
