using System.Text.Json;
using OverlayNet.Contracts;
using OverlayNet.Daemon.Registry;

namespace OverlayNet.Daemon.Agent;

/// <summary>The last good snapshot on disk, so that a node serves its names and VIPs after a restart without any manager.</summary>
public sealed class SnapshotFile(string stateDirectory)
{
    private readonly string _path = Path.Combine(stateDirectory, "snapshot.json");

    /// <returns>Null when there is none, or none that can be read (then the registry is asked for a whole one).</returns>
    public Snapshot? Load()
    {
        try
        {
            using var stream = File.OpenRead(_path);
            return JsonSerializer.Deserialize(stream, OverlayNetJson.Default.RegistrySnapshot) is { } saved ? Snapshot.From(saved) : null;
        }
        catch (Exception e) when (e is IOException or JsonException)
        {
            return null;
        }
    }

    /// <summary>Replaces the file atomically: a crash leaves the old or the new one.</summary>
    public void Save(Snapshot snapshot)
    {
        var temporary = _path + ".new";
        using (var stream = File.Create(temporary))
        {
            JsonSerializer.Serialize(stream, snapshot.ToContract(), OverlayNetJson.Default.RegistrySnapshot);
            stream.Flush(flushToDisk: true);
        }
        File.Move(temporary, _path, overwrite: true);
    }
}
