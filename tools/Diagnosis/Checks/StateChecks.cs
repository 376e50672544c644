using System.Globalization;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using System.Text.Json;
using OverlayNet.Contracts;

namespace OverlayNet.Tools.Diagnosis.Checks;

/// <summary>What is on disk: the snapshot a restart needs, the certificate, room to write.</summary>
internal static class StateChecks
{
    private const long NoRoom = 16 << 20, LittleRoom = 128 << 20;
    private static readonly TimeSpan Soon = TimeSpan.FromDays(14);

    public static IEnumerable<Diagnosed> Run(CheckupInput input)
    {
        var state = input.Node.State;
        if (!Directory.Exists(state))
            yield break;
        if (SnapshotProblem(Path.Combine(state, "snapshot.json")) is { } problem)
            yield return Diagnosed.Error("state.snapshot", Path.Combine(state, "snapshot.json"), "it cannot be read: a restart without a manager would know nothing", problem, "the daemon writes it anew at the next change of the registry; a restart with a manager in reach fetches it");
        foreach (var finding in Disk(state, new DriveInfo(state).AvailableFreeSpace))
            yield return finding;
        foreach (var file in new[] { "node.pem", "ca.pem" })
        {
            var path = Path.Combine(state, "identity", file);
            DateTimeOffset end;
            try
            {
                using var certificate = X509Certificate2.CreateFromPem(File.ReadAllText(path));
                end = certificate.NotAfter;
            }
            catch (Exception e) when (e is IOException or CryptographicException)
            {
                continue;
            }
            foreach (var finding in Certificate(path, end, input.Now))
                yield return finding;
        }
    }

    /// <param name="free">Octets.</param>
    public static IEnumerable<Diagnosed> Disk(string directory, long free)
    {
        var remedy = $"make room on the file system of {directory}: df {directory}";
        var message = string.Create(CultureInfo.InvariantCulture, $"{free / 1024.0 / 1024:0.0} MB are free");
        if (free < NoRoom)
            yield return Diagnosed.Error("state.disk", directory, $"{message}: snapshots and the registry cannot be written", null, remedy);
        else if (free < LittleRoom)
            yield return Diagnosed.Warning("state.disk", directory, message, null, remedy);
    }

    public static IEnumerable<Diagnosed> Certificate(string path, DateTimeOffset end, DateTimeOffset now)
    {
        var remedy = path.EndsWith("ca.pem", StringComparison.Ordinal) ? "the cluster's authority has to be made anew: backup, init with --force is not enough; see docs/managers.md" : "leave and join again with a token: a new certificate is made then";
        var when = end.ToUniversalTime().ToString("yyyy-MM-dd HH:mm'Z'", CultureInfo.InvariantCulture);
        if (end <= now)
            yield return Diagnosed.Error("certificate.expired", path, $"it expired on {when}: managers refuse this node", null, remedy);
        else if (end - now < Soon)
            yield return Diagnosed.Warning("certificate.expiring", path, $"it expires on {when}", null, remedy);
    }

    private static string? SnapshotProblem(string path)
    {
        try
        {
            using var stream = File.OpenRead(path);
            return JsonSerializer.Deserialize(stream, OverlayNetJson.Default.RegistrySnapshot) is null ? "it is empty" : null;
        }
        catch (Exception e) when (e is IOException or JsonException or UnauthorizedAccessException)
        {
            return e.Message;
        }
    }
}
