using System.Text.Json;

namespace OverlayNet.Daemon.Runtimes.Docker;

/// <summary>
/// Which network of the cluster each of Docker's networks is. On disk, since Docker tells its network's id at the creation
/// and never again, also not after a restart.
/// </summary>
internal sealed class NetworkBindings
{
    private const string FileName = "docker-networks.json";

    /// <summary>Docker lists a network only some time after its driver has made it.</summary>
    private static readonly TimeSpan SettleTime = TimeSpan.FromSeconds(30);
    private readonly Dictionary<string, long> _boundAt = [];
    private readonly TimeProvider _time;
    private readonly string _path;
    private readonly Lock _gate = new();
    private volatile Dictionary<string, string> _networks;

    /// <param name="state">The daemon's state directory.</param>
    /// <exception cref="InvalidDataException">The file is not what this class writes.</exception>
    public NetworkBindings(string state, TimeProvider time)
    {
        _time = time;
        _path = Path.Combine(state, FileName);
        try
        {
            _networks = File.Exists(_path) ? JsonSerializer.Deserialize(File.ReadAllBytes(_path), PluginJson.Default.DictionaryStringString) ?? [] : [];
        }
        catch (JsonException e)
        {
            throw new InvalidDataException($"{_path} cannot be read ({e.Message}); remove it, and it is made again from what Docker says", e);
        }
    }

    /// <summary>Ids of Docker's networks, each with the id of the cluster's.</summary>
    public IReadOnlyDictionary<string, string> All => _networks;

    /// <returns>The id of the cluster's network, or null.</returns>
    public string? Find(string dockerNetworkId) => _networks.GetValueOrDefault(dockerNetworkId);

    public void Bind(string dockerNetworkId, string networkId)
    {
        lock (_gate)
        {
            if (_networks.GetValueOrDefault(dockerNetworkId) != networkId)
                Save(new Dictionary<string, string>(_networks) { [dockerNetworkId] = networkId });
            _boundAt[dockerNetworkId] = _time.GetTimestamp();
        }
    }

    /// <summary>Whether Docker must know a network by now.</summary>
    public bool IsSettled(string dockerNetworkId)
    {
        lock (_gate)
            return !_boundAt.TryGetValue(dockerNetworkId, out var at) || _time.GetElapsedTime(at) > SettleTime;
    }

    public void Unbind(string dockerNetworkId)
    {
        lock (_gate)
        {
            if (_networks.ContainsKey(dockerNetworkId))
                Save(_networks.Where(entry => entry.Key != dockerNetworkId).ToDictionary());
        }
    }

    private void Save(Dictionary<string, string> networks)
    {
        var next = _path + ".new";
        using (var file = new FileStream(next, FileMode.Create, FileAccess.Write))
        {
            JsonSerializer.Serialize(file, networks, PluginJson.Default.DictionaryStringString);
            file.Flush(flushToDisk: true);
        }
        File.Move(next, _path, overwrite: true);
        _networks = networks;
    }
}
