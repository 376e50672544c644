using System.Diagnostics;
using System.Net;
using System.Net.Sockets;
using OverlayNet.ClusterTests.Harness;
using OverlayNet.Daemon.Registry.Store.Etcd;

namespace OverlayNet.ClusterTests.Managers;

/// <summary>Real etcd members on loopback, without TLS: for the store alone. They end with the test.</summary>
public sealed class EtcdProcesses : IDisposable
{
    private readonly string _directory = Path.Combine(Path.GetTempPath(), $"overlaynet-etcd-{Environment.ProcessId}-{Guid.NewGuid():N}"[..48]);
    private readonly Process?[] _processes;
    private readonly (int Client, int Peer)[] _ports;

    public EtcdProcesses(int count)
    {
        _processes = new Process?[count];
        _ports = [.. Enumerable.Range(0, count).Select(_ => (FreePort(), FreePort()))];
        Directory.CreateDirectory(_directory);
        try
        {
            for (var i = 0; i < count; i++)
                Start(i);
            Wait.Until("etcd has a leader", () => Leader() >= 0);
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    public int Count => _processes.Length;

    public Uri Url(int member) => new($"http://127.0.0.1:{Cluster.Number(_ports[member].Client)}");

    public EtcdClientOptions Options(int preferred = 0) => new()
    {
        Members = [.. Enumerable.Range(0, Count).Select(Url)],
        Preferred = Url(preferred),
    };

    /// <summary>The member that says it is the leader; -1: none.</summary>
    public int Leader()
    {
        for (var i = 0; i < Count; i++)
        {
            if (_processes[i] is null)
                continue;
            var status = Commands.Run("etcdctl", "--endpoints", Url(i).ToString().TrimEnd('/'), "--command-timeout", "1s", "endpoint", "status", "-w", "json");
            if (status.Code != 0)
                continue;
            var answer = System.Text.Json.Nodes.JsonNode.Parse(status.Output)![0]!["Status"]!;
            if ((ulong?)answer["leader"] is { } leader and not 0 && leader == (ulong)answer["header"]!["member_id"]!)
                return i;
        }
        return -1;
    }

    public void Start(int member)
    {
        var start = new ProcessStartInfo("etcd") { UseShellExecute = false, RedirectStandardError = true, RedirectStandardOutput = true };
        string Peer(int i) => $"http://127.0.0.1:{Cluster.Number(_ports[i].Peer)}";
        foreach (var argument in (string[])[
            "--name", $"m{Cluster.Number(member)}", "--data-dir", Path.Combine(_directory, Cluster.Number(member)),
            "--listen-client-urls", Url(member).ToString().TrimEnd('/'), "--advertise-client-urls", Url(member).ToString().TrimEnd('/'),
            "--listen-peer-urls", Peer(member), "--initial-advertise-peer-urls", Peer(member),
            "--initial-cluster", string.Join(',', Enumerable.Range(0, Count).Select(i => $"m{Cluster.Number(i)}={Peer(i)}")),
            "--initial-cluster-token", Path.GetFileName(_directory), "--logger", "zap", "--log-level", "error",
            "--pre-vote", "--max-txn-ops", "1024", "--heartbeat-interval", "100", "--election-timeout", "1000"])
            start.ArgumentList.Add(argument);
        start.Environment["ETCD_UNSUPPORTED_ARCH"] = "arm64";
        Process process;
        try
        {
            process = Process.Start(start)!;
        }
        catch (System.ComponentModel.Win32Exception e)
        {
            throw new InvalidOperationException("etcd is missing: install etcd-server and etcd-client (tools/install-packages test)", e);
        }
        process.BeginErrorReadLine();
        process.BeginOutputReadLine();
        _processes[member] = process;
    }

    public void Kill(int member)
    {
        if (_processes[member] is not { } process)
            return;
        process.Kill();
        process.WaitForExit();
        process.Dispose();
        _processes[member] = null;
    }

    public void Freeze(int member) => Signal(member, "STOP");

    public void Thaw(int member) => Signal(member, "CONT");

    public void Dispose()
    {
        for (var i = 0; i < Count; i++)
            Kill(i);
        if (Directory.Exists(_directory))
            Directory.Delete(_directory, recursive: true);
    }

    private void Signal(int member, string signal)
    {
        if (_processes[member] is { } process)
            Commands.Run("kill", $"-{signal}", Cluster.Number(process.Id));
    }

    private static int FreePort()
    {
        using var socket = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        socket.Bind(new IPEndPoint(IPAddress.Loopback, 0));
        return ((IPEndPoint)socket.LocalEndPoint!).Port;
    }
}
