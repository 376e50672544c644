using System.Diagnostics;
using OverlayNet.ClusterTests.Harness;
using Xunit.Abstractions;

namespace OverlayNet.ClusterTests.Health;

/// <summary>Processes end while their namespaces stay: nothing but the end itself tells of it before the checks do, ten seconds later.</summary>
[Collection(HealthClusterTests.Name)]
public sealed class KilledProcessTests(HealthCluster health, ITestOutputHelper output)
{
    /// <summary>A server of two processes that share one listening socket.</summary>
    private const string Twins = """
        import os, socket, sys
        s = socket.create_server((sys.argv[1], 80))
        child = os.fork()
        if child:
            print(f"child {child}.", flush=True)
        while True:
            c, _ = s.accept()
            c.close()
        """;

    /// <summary>A process outside of the namespace keeps the socket that it was given; the one that made it has ended.</summary>
    private const string Outsider = """
        import ctypes, os, socket, sys
        s = socket.create_server((sys.argv[1], 80))
        if os.fork():
            os._exit(0)
        elsewhere = os.open(sys.argv[2], os.O_RDONLY)
        if ctypes.CDLL(None, use_errno=True).setns(elsewhere, 0x40000000):
            sys.exit(os.strerror(ctypes.get_errno()))
        print(f"outside {os.getpid()}.", flush=True)
        while True:
            c, _ = s.accept()
            c.close()
        """;

    [Fact]
    public void A_killed_process_is_out_at_once_while_its_namespace_lives()
    {
        using var service = health.Service("http:/");
        var backend = service.Backends[1];
        service.AwaitWatched(backend.Name);
        using var late = new Lateness();
        var since = Stopwatch.GetTimestamp();
        backend.KillServer();
        var took = service.AwaitOut(backend, since, TimeSpan.FromSeconds(30));
        output.WriteLine($"out everywhere after {took.TotalMilliseconds:0} ms, machine late by {late.Worst.TotalMilliseconds:0} ms");
        if (took > TimeSpan.FromSeconds(1))
            output.WriteLine($"so late that it is of interest when what was decided: killed at {DateTime.UtcNow - Stopwatch.GetElapsedTime(since):HH:mm:ss.fff}\n{health.Manager.Cli("events", "--since", "30s").Output}");
        // Long before three checks, five seconds apart, could have failed: the end itself was heard. How soon is printed above.
        Assert.InRange(took, TimeSpan.Zero, TimeSpan.FromSeconds(2));
        Assert.Contains("its process has ended", health.Manager.Cli("service", "backends", service.Name).Output, StringComparison.Ordinal);
    }

    [Fact]
    public void A_server_of_two_processes_is_out_with_the_last_of_them()
    {
        using var service = health.Service("tcp");
        var backend = service.Add($"{service.Name}-twins", health.Cluster.Nodes[1], serve: false);
        var parent = backend.Start("python3", "-c", Twins, backend.Address!).Says(".");
        var child = Number(parent.Output, "child ");
        service.AwaitState(backend.Name, "healthy");
        service.AwaitWatched(backend.Name);
        parent.Kill();
        // The end was heard and looked after: what listens is watched again, and nothing has changed.
        service.AwaitWatched(backend.Name);
        Assert.Equal("healthy", health.Apis[1].State(service.Name, backend.Name));
        var since = Stopwatch.GetTimestamp();
        Commands.Run("kill", "-KILL", child).Succeeded();
        Assert.InRange(service.AwaitOut(backend, since, TimeSpan.FromSeconds(30)), TimeSpan.Zero, TimeSpan.FromSeconds(2));
    }

    [Fact]
    public void A_server_that_runs_outside_of_the_namespace_is_watched_too()
    {
        using var service = health.Service("tcp");
        var backend = service.Add($"{service.Name}-out", health.Cluster.Nodes[2], serve: false);
        using var starter = backend.Start("python3", "-c", Outsider, backend.Address!, $"/run/netns/{health.Cluster.Outside}");
        var server = Number(starter.Says(".").Output, "outside ");
        try
        {
            service.AwaitState(backend.Name, "healthy");
            service.AwaitWatched(backend.Name);
        }
        finally
        {
            Commands.Run("kill", "-KILL", server).Succeeded();
        }
        Assert.InRange(service.AwaitOut(backend, Stopwatch.GetTimestamp(), TimeSpan.FromSeconds(30)), TimeSpan.Zero, TimeSpan.FromSeconds(2));
    }

    /// <summary>Often enough that one miss in fifty would be seen. How soon it is on a machine with nothing else to do, <c>bench/run withdrawal</c> measures.</summary>
    [Fact]
    [Trait("Category", "Soak")]
    public void Fifty_killed_processes_are_each_heard()
    {
        using var service = health.Service("http:/");
        var times = new List<double>();
        var misses = new List<string>();
        for (var round = 0; round < 50; round++)
        {
            var backend = service.Add($"{service.Name}-r{Cluster.Number(round)}", health.Cluster.Nodes[round % 3]);
            service.AwaitState(backend.Name, "healthy");
            service.AwaitWatched(backend.Name);
            using var late = new Lateness();
            var since = Stopwatch.GetTimestamp();
            backend.KillServer();
            var took = service.AwaitOut(backend, since, TimeSpan.FromSeconds(30));
            times.Add(took.TotalMilliseconds);
            if (took > TimeSpan.FromSeconds(2))
                misses.Add($"round {round} on {backend.Node.Name}: {took.TotalMilliseconds:0} ms, machine late by {late.Worst.TotalMilliseconds:0} ms");
            service.Remove(backend);
        }
        var first = times[0];
        times.Sort();
        output.WriteLine($"{times.Count} rounds: first {first:0} ms, median {times[times.Count / 2]:0} ms, p90 {times[times.Count * 9 / 10]:0} ms, slowest {times[^1]:0} ms; above 100 ms: {times.Count(time => time > 100)}");
        Assert.Empty(misses);
    }

    private static string Number(string text, string before) => text[(text.IndexOf(before, StringComparison.Ordinal) + before.Length)..].Split('.')[0];
}
