using System.Security.Cryptography;
using System.Text;
using System.Text.Json;
using System.Text.Json.Serialization;
using OverlayNet.Daemon.Registry;
using OverlayNet.Daemon.Registry.Store;

namespace OverlayNet.Daemon.Managers;

/// <summary>The first line of a backup.</summary>
/// <param name="Confirmed">A majority confirmed that this is the newest; false: it is what one manager had.</param>
public sealed record BackupHeader(string Format, string ClusterId, long Incarnation, long Revision, DateTimeOffset TakenAt, string Node, bool Confirmed);

internal sealed record BackupEntry(string Key, byte[] Value);

/// <summary>The last line: what was above it.</summary>
internal sealed record BackupTrailer(int Keys, string Sha256);

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.CamelCase)]
[JsonSerializable(typeof(BackupHeader))]
[JsonSerializable(typeof(BackupEntry))]
[JsonSerializable(typeof(BackupTrailer))]
internal sealed partial class BackupJson : JsonSerializerContext;

/// <summary>A registry at one revision in a file that does not depend on the store it came from: JSON lines, header, keys, trailer with a digest.</summary>
/// <remarks>It holds the CA's key, as the registry does: mode 0600.</remarks>
public sealed record BackupFile(BackupHeader Header, IReadOnlyList<Put> Content)
{
    private const string FormatName = "overlaynet-registry-1";

    /// <summary>Writes a file as a whole: there is either all of it or none.</summary>
    public void Save(string path)
    {
        var temporary = path + ".new";
        File.Delete(temporary);
        using (var file = new FileStream(temporary, new FileStreamOptions
        {
            Mode = FileMode.CreateNew,
            Access = FileAccess.Write,
            UnixCreateMode = UnixFileMode.UserRead | UnixFileMode.UserWrite,
        }))
        {
            using var digest = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
            void Line(byte[] json, bool counted = true)
            {
                byte[] line = [.. json, (byte)'\n'];
                if (counted)
                    digest.AppendData(line);
                file.Write(line);
            }
            Line(JsonSerializer.SerializeToUtf8Bytes(Header, BackupJson.Default.BackupHeader));
            foreach (var item in Content)
                Line(JsonSerializer.SerializeToUtf8Bytes(new BackupEntry(item.Key, item.Value.ToArray()), BackupJson.Default.BackupEntry));
            Line(JsonSerializer.SerializeToUtf8Bytes(new BackupTrailer(Content.Count, Convert.ToHexStringLower(digest.GetHashAndReset())), BackupJson.Default.BackupTrailer), counted: false);
            file.Flush(flushToDisk: true);
        }
        File.Move(temporary, path, overwrite: true);
    }

    /// <exception cref="InvalidDataException">Not a backup, cut off, or changed since it was written.</exception>
    public static BackupFile Load(string path)
    {
        try
        {
            using var digest = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
            BackupHeader? header = null;
            var content = new List<Put>();
            string? last = null;
            foreach (var line in File.ReadLines(path))
            {
                if (last is not null)
                {
                    digest.AppendData(Encoding.UTF8.GetBytes(last + "\n"));
                    if (header is null)
                        header = JsonSerializer.Deserialize(last, BackupJson.Default.BackupHeader);
                    else if (JsonSerializer.Deserialize(last, BackupJson.Default.BackupEntry) is { } entry)
                        content.Add(new Put(entry.Key, entry.Value));
                }
                last = line;
            }
            var trailer = last is null ? null : JsonSerializer.Deserialize(last, BackupJson.Default.BackupTrailer);
            if (header?.Format != FormatName || trailer is null)
                throw new InvalidDataException($"{path} is not a backup of a registry, or its end is missing");
            if (trailer.Keys != content.Count || trailer.Sha256 != Convert.ToHexStringLower(digest.GetHashAndReset()))
                throw new InvalidDataException($"{path} is not what was written: its digest does not fit");
            return new BackupFile(header, content);
        }
        catch (Exception e) when (e is JsonException or IOException or UnauthorizedAccessException or FormatException)
        {
            throw new InvalidDataException($"{path} cannot be read as a backup: {e.Message}", e);
        }
    }

    public static BackupFile Of(StoreIdentity identity, RangePage all, string node, bool confirmed, DateTimeOffset now) => new(
        new BackupHeader(FormatName, identity.ClusterId, identity.Incarnation, all.Revision, now, node, confirmed),
        [.. all.Items.Select(i => new Put(i.Key, i.Value))]);

    /// <summary>Restores a file into a store that is thrown away, and reads the registry from it.</summary>
    /// <returns>The registry that a restore would give.</returns>
    /// <exception cref="InvalidDataException">It would give none.</exception>
    internal static async Task<Snapshot> TryRestoreAsync(string path, CancellationToken cancel)
    {
        var backup = Load(path);
        var directory = Directory.CreateTempSubdirectory("overlaynet-verify-");
        try
        {
            var store = await SqliteStore.CreateAsync(
                new SqliteStoreOptions { Path = Path.Combine(directory.FullName, "registry.db") },
                new StoreIdentity(backup.Header.ClusterId, backup.Header.Incarnation), backup.Content, cancel).ConfigureAwait(false);
            await using (store.ConfigureAwait(false))
            {
                var registry = await ClusterRegistry.StartAsync(store, new ClusterRegistryOptions(), cancel).ConfigureAwait(false);
                await using (registry.ConfigureAwait(false))
                    return registry.Current;
            }
        }
        catch (Exception e) when (e is RegistryStoreException or JsonException or FormatException)
        {
            throw new InvalidDataException($"{path} cannot be restored: {e.Message}", e);
        }
        finally
        {
            directory.Delete(recursive: true);
        }
    }
}
