using System.CommandLine;
using System.Net;
using System.Net.Sockets;
using OverlayNet.Contracts;
using OverlayNet.Kernel;
using OverlayNet.Tools.Api;
using OverlayNet.Tools.Cli;
using OverlayNet.Tools.Offline;

namespace OverlayNet.Tools.Diagnosis;

/// <summary>How the node's daemon is.</summary>
internal enum DaemonCondition
{
    Running,

    /// <summary>Its process is stopped (SIGSTOP, a debugger, a frozen cgroup).</summary>
    Frozen,

    /// <summary>Its process is there and does not answer.</summary>
    Hung,
    Dead,
}

/// <summary>A node as it can be seen from outside its daemon: desired state from the daemon or from its disk, and the kernel.</summary>
internal sealed class NodeView : IDisposable
{
    private const int SolSocket = 1, PeerCredentials = 17, CredentialsLength = 12;

    // A busy daemon answers its status at once; one that takes this long is of no use to anybody.
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(10);

    private NodeView(string nodeId, RegistrySnapshot snapshot, StatusReport? status, DaemonCondition condition, string? why, int? pid, string state, NetworkNamespace host)
    {
        (NodeId, Snapshot, Status, Condition, Why, Pid, State, Host) = (nodeId, snapshot, status, condition, why, pid, state, host);
        Self = snapshot.Nodes.FirstOrDefault(node => node.Id == nodeId);
    }

    public string NodeId { get; }

    public RegistrySnapshot Snapshot { get; }

    /// <summary>Null when the daemon does not answer.</summary>
    public StatusReport? Status { get; }

    public DaemonCondition Condition { get; }

    /// <summary>Why it does not answer.</summary>
    public string? Why { get; }

    public int? Pid { get; }

    /// <summary>The daemon's state directory.</summary>
    public string State { get; }

    /// <summary>The namespace the daemon runs in, which the underlay belongs to.</summary>
    public NetworkNamespace Host { get; }

    /// <summary>Null: the registry does not know this node.</summary>
    public Node? Self { get; }

    public string Name => Self?.Name ?? NodeId;

    /// <summary>Networks with an endpoint on this node: those it builds.</summary>
    public IEnumerable<Network> Networks => Snapshot.Networks.Where(network => Snapshot.Endpoints.Any(endpoint => endpoint.NetworkId == network.Id && endpoint.NodeId == NodeId));

    /// <returns>Null when neither daemon nor disk knows a cluster.</returns>
    public static async Task<NodeView?> Open(Shell shell, ParseResult parsed, string state, CancellationToken cancellation)
    {
        var socket = parsed.GetValue(shell.Socket)!;
        var pid = ListenerOf(socket);
        string why;
        if (pid is { } stopped && IsStopped(stopped))
        {
            why = $"process {Text.Number(stopped)} is stopped";
        }
        else
        {
            try
            {
                using var api = new ApiClient(socket, Patience);
                var status = await api.Get("/v1/status", OverlayNetJson.Default.StatusReport, cancellation).ConfigureAwait(false);
                if (status.NodeId is not { } id)
                    return null;
                var snapshot = await api.Get("/v1/snapshot", OverlayNetJson.Default.RegistrySnapshot, cancellation).ConfigureAwait(false);
                pid ??= status.Pid;
                return new NodeView(id, snapshot, status, DaemonCondition.Running, null, pid, StateOf(pid) ?? state, HostOf(pid));
            }
            catch (DaemonUnreachable failure)
            {
                why = failure.Message;
            }
        }
        state = StateOf(pid) ?? state;
        var disk = KernelAndDisk.Look(state);
        pid ??= disk.Pid;
        var condition = pid is null ? DaemonCondition.Dead : IsStopped(pid.Value) ? DaemonCondition.Frozen : DaemonCondition.Hung;
        return disk is { NodeId: { } node, Snapshot: { } known } ? new NodeView(node, known, null, condition, why, pid, state, HostOf(pid)) : null;
    }

    public string NodeNameOf(string id) => Snapshot.Nodes.FirstOrDefault(node => node.Id == id)?.Name ?? id;

    public void Dispose() => Host.Dispose();

    /// <summary>The process that listens on a unix socket; it need not answer for that.</summary>
    private static int? ListenerOf(string path)
    {
        using var socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified) { Blocking = false };
        try
        {
            socket.Connect(new UnixDomainSocketEndPoint(path));
            var credentials = new byte[CredentialsLength];
            return socket.GetRawSocketOption(SolSocket, PeerCredentials, credentials) >= sizeof(int) && BitConverter.ToInt32(credentials) is > 0 and var pid ? pid : null;
        }
        catch (SocketException)
        {
            return null;
        }
    }

    private static bool IsStopped(int pid)
    {
        try
        {
            return File.ReadLines($"/proc/{Text.Number(pid)}/status").Any(line => line.StartsWith("State:", StringComparison.Ordinal) && line.Contains('T', StringComparison.Ordinal) && line.Contains("stop", StringComparison.OrdinalIgnoreCase));
        }
        catch (IOException)
        {
            return false;
        }
    }

    /// <summary>Where a running daemon holds its lock: its state directory, whatever configuration it was given.</summary>
    private static string? StateOf(int? pid)
    {
        if (pid is not { } known)
            return null;
        try
        {
            return new DirectoryInfo($"/proc/{Text.Number(known)}/fd").EnumerateFiles()
                .Select(file => file.LinkTarget)
                .FirstOrDefault(target => target is not null && Path.GetFileName(target) == "daemon.lock") is { } file ? Path.GetDirectoryName(file) : null;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return null;
        }
    }

    private static NetworkNamespace HostOf(int? pid)
    {
        try
        {
            return pid is { } known ? NetworkNamespace.Open($"/proc/{Text.Number(known)}/ns/net") : NetworkNamespace.OpenHost();
        }
        catch (KernelException)
        {
            return NetworkNamespace.OpenHost();
        }
    }
}
