using System.Text.Json;
using System.Text.Json.Serialization;
using OverlayNet.Vip.Fence;

namespace OverlayNet.Daemon.Agent.FloatingVips;

/// <summary>What one set may have in this node's kernel, written down before it is put there.</summary>
public sealed record JournalEntry
{
    public required string Set { get; init; }

    /// <summary>The gate's name.</summary>
    public required string Gate { get; init; }

    /// <summary>Links by name with their addresses in CIDR form.</summary>
    public IReadOnlyDictionary<string, IReadOnlyList<string>> Addresses { get; set; } = new Dictionary<string, IReadOnlyList<string>>();
    public IReadOnlyList<string> Macvlans { get; set; } = [];
}

/// <summary>The highest epoch this node has seen of a set: nothing acts on a lower one.</summary>
public sealed record SeenEpoch(string Set, long Incarnation, long Epoch)
{
    public LeaseVersion Version => new(Incarnation, Epoch);
}

public sealed record JournalContent
{
    public IReadOnlyList<JournalEntry> Entries { get; set; } = [];
    public IReadOnlyList<SeenEpoch> Seen { get; set; } = [];
}

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.CamelCase)]
[JsonSerializable(typeof(JournalContent))]
internal sealed partial class JournalJson : JsonSerializerContext;

/// <summary>
/// A file that says which addresses and gates of floating VIPs this node may have left in the kernel, so that a successor removes
/// exactly these after a kill, also of VIPs that were removed meanwhile; and which epochs it has seen. Not thread-safe.
/// </summary>
public sealed class VipJournal
{
    public const string FileName = "floating-vips.json";
    private readonly string _path;
    private readonly Dictionary<string, JournalEntry> _entries;
    private readonly Dictionary<string, LeaseVersion> _seen;

    public VipJournal(string stateDirectory)
    {
        _path = Path.Combine(stateDirectory, FileName);
        var content = Load(_path);
        _entries = content.Entries.ToDictionary(entry => entry.Set);
        _seen = content.Seen.ToDictionary(seen => seen.Set, seen => seen.Version);
    }

    public IReadOnlyCollection<JournalEntry> Entries => _entries.Values;

    /// <summary>The highest version seen; the default when none was.</summary>
    public LeaseVersion Seen(string set) => _seen.GetValueOrDefault(set);

    /// <summary>Takes a version in.</summary>
    /// <returns>False when a higher one was seen before: whoever brought this one acts on something stale.</returns>
    public bool See(string set, LeaseVersion version)
    {
        var seen = Seen(set);
        if (version < seen)
            return false;
        if (version > seen)
        {
            _seen[set] = version;
            Save();
        }
        return true;
    }

    public void Write(JournalEntry entry)
    {
        _entries[entry.Set] = entry;
        Save();
    }

    /// <summary>Nothing of the set is in the kernel any more.</summary>
    public void Forget(string set)
    {
        if (_entries.Remove(set))
            Save();
    }

    private static JournalContent Load(string path)
    {
        try
        {
            return JsonSerializer.Deserialize(File.ReadAllBytes(path), JournalJson.Default.JournalContent) ?? new JournalContent();
        }
        catch (Exception e) when (e is FileNotFoundException or JsonException)
        {
            // Torn by a crash of the machine: then the kernel's state is gone as well.
            return new JournalContent();
        }
    }

    private void Save()
    {
        var fresh = _path + ".new";
        File.WriteAllBytes(fresh, JsonSerializer.SerializeToUtf8Bytes(new JournalContent
        {
            Entries = [.. _entries.Values],
            Seen = [.. _seen.Select(seen => new SeenEpoch(seen.Key, seen.Value.Incarnation, seen.Value.Epoch))],
        }, JournalJson.Default.JournalContent));
        File.Move(fresh, _path, overwrite: true);
    }
}
