using System.Globalization;
using System.Text.Json;
using OverlayNet.Contracts;
using OverlayNet.Kernel;

namespace OverlayNet.Tools.Offline;

/// <summary>What can be said of a node whose daemon does not answer: its last snapshot on disk against what the kernel has.</summary>
internal sealed class KernelAndDisk
{
    public const string DefaultState = "/var/lib/overlaynet";
    public const string StateVariable = "OVERLAYNET_STATE";

    private readonly string _state;
    private readonly List<string> _differences = [];
    private readonly List<NetworkStatus> _networks = [];
    private Identity? _identity;
    private RegistrySnapshot? _snapshot;
    private int? _pid;

    private KernelAndDisk(string state) => _state = state;

    /// <summary>Reads the state directory and lists the namespaces; a file that is missing or broken is said, not thrown.</summary>
    public static KernelAndDisk Look(string stateDirectory)
    {
        var look = new KernelAndDisk(stateDirectory);
        if (!Directory.Exists(stateDirectory))
        {
            look._differences.Add($"there is no state directory {stateDirectory} (--state names another)");
            return look;
        }
        look._pid = look.RunningHolder();
        look._identity = look.ReadIdentity();
        look._snapshot = look.ReadSnapshot();
        if (look._identity is not null && look._snapshot is not null)
            look.Compare(look._identity.Id, look._snapshot);
        return look;
    }

    /// <summary>Null when the disk does not say.</summary>
    public string? NodeId => _identity?.Id;

    /// <summary>The process that has the state directory; null: none runs.</summary>
    public int? Pid => _pid;

    /// <summary>The last snapshot on disk; null when there is none.</summary>
    public RegistrySnapshot? Snapshot => _snapshot;

    public StatusReport ToStatus(string why) => new()
    {
        Daemon = _pid is null ? "dead" : "hung",
        Pid = _pid,
        ClusterId = _snapshot?.ClusterId,
        NodeId = _identity?.Id,
        NodeName = Self?.Name ?? _identity?.Name,
        Role = Self?.Role,
        RegistryRevision = _snapshot?.Revision ?? 0,
        AppliedRevision = _snapshot?.Revision ?? 0,
        Parts =
        [
            new PartStatus { Name = "daemon", Ok = false, Detail = _pid is null ? "the kernel goes on with what it has" : "the process runs and does not answer", LastError = why },
            new PartStatus
            {
                Name = "kernel",
                Ok = _differences.Count == 0,
                Revision = _snapshot?.Revision ?? 0,
                Detail = _differences.Count == 0 ? "namespaces as in the last snapshot" : "",
                LastError = _differences.Count == 0 ? null : string.Join("; ", _differences),
            },
        ],
        Nodes = [.. (_snapshot?.Nodes ?? []).Select(node => new NodeLag { Name = node.Name, Role = node.Role, State = node.State, Address = node.Address })],
        Networks = _networks,
        Services = [.. (_snapshot?.Services ?? []).Select(Describe)],
    };

    public DoctorReport ToDoctor(string why) => new()
    {
        Node = Self?.Name ?? _identity?.Name ?? Environment.MachineName,
        Checked = ["daemon.alive", "desired-state.namespaces"],
        Findings =
        [
            new Finding { Severity = "error", Check = "daemon.alive", Object = "overlaynetd", Message = why, Remedy = _pid is null ? "start overlaynetd: it adopts what is in the kernel" : $"look at process {_pid.Value.ToString(CultureInfo.InvariantCulture)}; killing and starting it again loses no connection" },
            .. _differences.Select(difference => new Finding { Severity = "error", Check = "desired-state.namespaces", Object = _state, Message = difference, Remedy = "start overlaynetd: it mends what differs" }),
        ],
    };

    private Node? Self => _snapshot?.Nodes.FirstOrDefault(node => node.Id == _identity?.Id);

    private void Compare(string nodeId, RegistrySnapshot snapshot)
    {
        var prefix = ObjectNames.NetnsPrefix(nodeId);
        var present = NamedNamespaces.List().Where(name => name.StartsWith(prefix, StringComparison.Ordinal) && NamedNamespaces.Exists(name)).ToHashSet();
        foreach (var network in snapshot.Networks.OrderBy(network => network.Name, StringComparer.Ordinal))
        {
            var endpoints = snapshot.Endpoints.Where(endpoint => endpoint.NetworkId == network.Id).ToList();
            var local = endpoints.Where(endpoint => endpoint.NodeId == nodeId).ToList();
            var netns = ObjectNames.Netns(nodeId, network);
            var here = present.Remove(netns);
            if (local.Count > 0 && !here)
                _differences.Add($"namespace {netns} of network {network.Name} is missing");
            foreach (var endpoint in local.Where(endpoint => endpoint.Kind == EndpointKind.Container && !File.Exists(endpoint.Netns)))
                _differences.Add($"namespace {endpoint.Netns} of endpoint {endpoint.Name} is gone");
            _networks.Add(new NetworkStatus
            {
                Name = network.Name,
                Vni = network.Vni,
                Subnets = string.Join(", ", new[] { network.Subnet4, network.Subnet6 }.Where(subnet => subnet is not null)),
                Present = here,
                Netns = here ? netns : "",
                LocalEndpoints = local.Count(endpoint => endpoint.Kind == EndpointKind.Container),
                RemoteEndpoints = endpoints.Count(endpoint => endpoint.NodeId != nodeId && endpoint.Kind == EndpointKind.Container),
            });
        }
        _differences.AddRange(present.Order(StringComparer.Ordinal).Select(left => $"namespace {left} belongs to no network of the last snapshot"));
    }

    private ServiceStatus Describe(Service service)
    {
        var members = _snapshot!.Endpoints.Where(endpoint => endpoint.ServiceId == service.Id).ToList();
        return new ServiceStatus
        {
            Name = service.Name,
            Network = _snapshot.Networks.FirstOrDefault(network => network.Id == service.NetworkId)?.Name ?? service.NetworkId,
            Vip = string.Join(", ", new[] { service.Vip4, service.Vip6 }.Where(vip => vip is not null)),
            Healthy = members.Count(endpoint => endpoint.State is EndpointState.Healthy or EndpointState.Recovering),
            Total = members.Count,
            Why = "as of the last snapshot",
        };
    }

    private int? RunningHolder()
    {
        try
        {
            return int.TryParse(File.ReadAllText(Path.Combine(_state, "daemon.pid")), NumberStyles.None | NumberStyles.AllowTrailingWhite, CultureInfo.InvariantCulture, out var pid)
                && File.ReadAllText($"/proc/{pid.ToString(CultureInfo.InvariantCulture)}/cmdline").Contains("overlaynetd", StringComparison.Ordinal)
                ? pid
                : null;
        }
        catch (IOException)
        {
            return null;
        }
    }

    private Identity? ReadIdentity()
    {
        var path = Path.Combine(_state, "identity", "node.json");
        try
        {
            using var document = JsonDocument.Parse(File.ReadAllBytes(path));
            var root = document.RootElement;
            if (Member(root, "nodeId") is { Length: > 0 } id)
                return new Identity(id, Member(root, "nodeName"));
            _differences.Add($"{path} names no node");
        }
        catch (Exception e) when (e is FileNotFoundException or DirectoryNotFoundException)
        {
            _differences.Add($"{path} does not exist: this node is not a member of a cluster");
        }
        catch (Exception e) when (e is IOException or JsonException)
        {
            _differences.Add($"{path}: {e.Message}");
        }
        return null;
    }

    private RegistrySnapshot? ReadSnapshot()
    {
        var path = Path.Combine(_state, "snapshot.json");
        try
        {
            using var stream = File.OpenRead(path);
            return JsonSerializer.Deserialize(stream, OverlayNetJson.Default.RegistrySnapshot);
        }
        catch (Exception e) when (e is IOException or JsonException)
        {
            _differences.Add($"{path}: {(e is FileNotFoundException ? "does not exist: nothing was ever received" : e.Message)}");
            return null;
        }
    }

    private static string? Member(JsonElement element, string name) =>
        element.ValueKind == JsonValueKind.Object && element.TryGetProperty(name, out var value) && value.ValueKind == JsonValueKind.String ? value.GetString() : null;

    private sealed record Identity(string Id, string? Name);
}
