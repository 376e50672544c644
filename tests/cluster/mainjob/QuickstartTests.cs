using OverlayNet.ClusterTests.Harness;

namespace OverlayNet.ClusterTests.MainJob;

/// <summary>The README's first command: as often as one likes, and nothing is left of it.</summary>
public sealed class QuickstartTests
{
    [Fact]
    public void It_runs_twice_in_a_row_and_down_leaves_nothing()
    {
        var prefix = $"q{Cluster.Number(Environment.ProcessId)}-";
        var directory = $"/run/overlaynet-clusters/{prefix}quickstart";
        CommandResult Quickstart(params string[] arguments) => Commands.Run(
            TimeSpan.FromMinutes(5), "env", [$"OVERLAYNET_OUT={Tree.Out}", $"OVERLAYNET_QUICKSTART_DIR={directory}", $"OVERLAYNET_QUICKSTART_PREFIX={prefix}", Path.Combine(Tree.Root, "tools", "quickstart"), .. arguments]);
        Directory.CreateDirectory("/run/overlaynet-clusters");
        try
        {
            for (var run = 0; run < 2; run++)
            {
                var shown = Quickstart().Succeeded().Output;
                Assert.Equal(3, shown.Split('\n').Count(line => line.StartsWith("held connection: ", StringComparison.Ordinal) || line.StartsWith("node1: names ", StringComparison.Ordinal)));
                Assert.DoesNotContain("NOT within", shown, StringComparison.Ordinal);
            }
            Assert.Contains($"CLIENT={prefix}client", Quickstart("--env").Succeeded().Output, StringComparison.Ordinal);
        }
        finally
        {
            Quickstart("--down");
        }
        Assert.DoesNotContain(Directory.EnumerateFiles("/run/netns"), file => Path.GetFileName(file).StartsWith(prefix, StringComparison.Ordinal));
        Assert.False(Directory.Exists(directory));
        Assert.DoesNotContain(directory, File.ReadAllText("/proc/mounts"), StringComparison.Ordinal);
    }
}
