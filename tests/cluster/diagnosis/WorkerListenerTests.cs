using OverlayNet.ClusterTests.Harness;

namespace OverlayNet.ClusterTests.Diagnosis;

/// <summary>A worker whose port for other nodes another program has.</summary>
public sealed class WorkerListenerTests
{
    [Fact]
    public void A_worker_works_without_its_port_and_listens_once_it_is_free()
    {
        using var cluster = Cluster.Start(2);
        var worker = cluster.Nodes[1];
        worker.Stop();
        using (var other = BackgroundProcess.In(worker.Netns, "socat", $"TCP-LISTEN:7373,fork,bind={worker.Address}", "OPEN:/dev/null"))
        {
            Wait.Until("another program has the port", () => Listener(worker).Contains("socat", StringComparison.Ordinal));
            worker.Start();
            Wait.Until("the log names the port", () => worker.Log.Contains($"other nodes cannot ask this one (captures, probes of the way): {worker.Address} port 7373", StringComparison.Ordinal), seen: () => worker.Log);
            Wait.Until("it follows the registry all the same", () => (bool)worker.CliJson("status")["managersReachable"]!);
        }
        Wait.Until("it listens", () => Listener(worker).Contains("overlaynetd", StringComparison.Ordinal), seen: () => worker.Log);
        Assert.Contains("other nodes can ask this one again", worker.Log, StringComparison.Ordinal);
    }

    private static string Listener(ClusterNode node) => Commands.In(node.Netns, "ss", "-Hltnp", "sport", "=", "7373").Output;
}
