namespace OverlayNet.UnitTests.Daemon;

/// <summary>A directory of a test's own, removed at its end; what a killed run left behind is swept by the next.</summary>
public sealed class TempDirectory : IDisposable
{
    private const string Prefix = "overlaynet-test-";

    static TempDirectory()
    {
        foreach (var old in Directory.EnumerateDirectories(System.IO.Path.GetTempPath(), Prefix + "*"))
        {
            if (DateTime.UtcNow - Directory.GetCreationTimeUtc(old) > TimeSpan.FromHours(1))
                Directory.Delete(old, recursive: true);
        }
    }

    public string Path { get; } = Directory.CreateTempSubdirectory(Prefix).FullName;

    public string File(string name) => System.IO.Path.Combine(Path, name);

    public void Dispose() => Directory.Delete(Path, recursive: true);
}
