using System.Diagnostics;
using OverlayNet.Contracts;
using OverlayNet.Daemon.Tracing;
using OverlayNet.UnitTests.Daemon.Registry;

namespace OverlayNet.UnitTests.Daemon.Tracing;

/// <summary>The trace of a change travels with its revision.</summary>
public sealed class TraceStoreTests
{
    [Fact]
    public async Task A_traced_change_names_its_span_to_watchers_and_others_name_none()
    {
        using var listener = new ActivityListener { ShouldListenTo = source => source.Name == Traces.SourceName, Sample = (ref ActivityCreationOptions<ActivityContext> _) => ActivitySamplingResult.AllDataAndRecorded };
        ActivitySource.AddActivityListener(listener);
        await using var fixture = await RegistryFixture.StartAsync();
        var from = fixture.Registry.Current.Revision;
        string trace;
        using (var span = Traces.Source.StartActivity("change")!)
        {
            trace = span.TraceId.ToString();
            await fixture.NetworkAsync("traced");
        }
        await fixture.NetworkAsync("untraced");

        var messages = new List<WatchMessage>();
        using var enough = new CancellationTokenSource(TimeSpan.FromSeconds(30));
        await foreach (var line in fixture.Registry.Feed.ReadAsync(from, fixture.Registry.Current.Incarnation, TimeProvider.System, enough.Token))
        {
            messages.Add(System.Text.Json.JsonSerializer.Deserialize(line.Span, OverlayNetJson.Default.WatchMessage)!);
            if (messages.Count(message => message.Changes?.Count > 0) == 2)
                break;
        }

        var traced = messages.Single(message => message.Changes?.Any(change => change.Network?.Name == "traced") == true);
        Assert.True(ActivityContext.TryParse(traced.TraceParent, null, out var context));
        Assert.Equal(trace, context.TraceId.ToString());
        Assert.Null(messages.Single(message => message.Changes?.Any(change => change.Network?.Name == "untraced") == true).TraceParent);
    }
}
