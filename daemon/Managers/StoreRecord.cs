using System.Text.Json;
using System.Text.Json.Serialization;

namespace OverlayNet.Daemon.Managers;

/// <summary>Which store this manager's registry is in (<c>store.json</c>). Without the file: SQLite. Its replacement is the moment at which a conversion, a recovery or a restore counts.</summary>
public sealed record StoreRecord
{
    /// <summary>The etcd cluster's token: a new one for every cluster that is made, so that members of an old one are strangers.</summary>
    public required string Token { get; init; }

    /// <summary>The member's data directory, a name inside the state directory.</summary>
    public required string DataDirectory { get; init; }

    /// <summary>As etcd's --initial-cluster takes it; looked at only while the data directory is empty.</summary>
    public required string InitialCluster { get; init; }

    /// <summary>new or existing.</summary>
    public required string InitialState { get; init; }
    public long Incarnation { get; init; }

    private const string FileName = "store.json";

    /// <returns>Null: the registry is in SQLite.</returns>
    /// <exception cref="InvalidDataException">The file cannot be read.</exception>
    public static StoreRecord? Load(string stateDirectory)
    {
        var path = Path.Combine(stateDirectory, FileName);
        if (!File.Exists(path))
            return null;
        try
        {
            return JsonSerializer.Deserialize(File.ReadAllBytes(path), StoreRecordJson.Default.StoreRecord)!;
        }
        catch (JsonException e)
        {
            throw new InvalidDataException($"{path} cannot be read: {e.Message}; move it away, and join as a manager again or 'overlaynet restore FILE'", e);
        }
    }

    public void Save(string stateDirectory)
    {
        var path = Path.Combine(stateDirectory, FileName);
        using (var file = new FileStream(path + ".new", new FileStreamOptions
        {
            Mode = FileMode.Create,
            Access = FileAccess.Write,
            UnixCreateMode = UnixFileMode.UserRead | UnixFileMode.UserWrite,
        }))
        {
            file.Write(JsonSerializer.SerializeToUtf8Bytes(this, StoreRecordJson.Default.StoreRecord));
            file.Flush(flushToDisk: true);
        }
        File.Move(path + ".new", path, overwrite: true);
    }

    public static void Delete(string stateDirectory) => File.Delete(Path.Combine(stateDirectory, FileName));
}

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.CamelCase, WriteIndented = true)]
[JsonSerializable(typeof(StoreRecord))]
internal sealed partial class StoreRecordJson : JsonSerializerContext;
