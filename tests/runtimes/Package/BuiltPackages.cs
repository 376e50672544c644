using OverlayNet.ClusterTests.Harness;

namespace OverlayNet.RuntimeTests.Package;

/// <summary>The package as <c>tools/build-deb</c> makes it, and a next version: built as such, or the same programs packed under its number.</summary>
public sealed class BuiltPackages : IDisposable
{
    public const string NewerVersion = "99.0.0";
    private readonly string _directory = Directory.CreateTempSubdirectory("overlaynet-test-packages-").FullName;

    public BuiltPackages(bool buildNewer)
    {
        Older = Build();
        OlderVersion = Path.GetFileName(Older).Split('_')[1];
        Newer = buildNewer ? Build("--version", NewerVersion) : Repack();
    }

    public string Older { get; }

    public string OlderVersion { get; }

    public string Newer { get; }

    public void Dispose() => Directory.Delete(_directory, recursive: true);

    private string Repack()
    {
        var (tree, package) = (Path.Combine(_directory, "tree"), Path.Combine(_directory, $"overlaynet_{NewerVersion}.deb"));
        Commands.Run("dpkg-deb", "--raw-extract", Older, tree).Succeeded();
        Commands.Run("sed", "-i", $"s/^Version: .*/Version: {NewerVersion}/", Path.Combine(tree, "DEBIAN", "control")).Succeeded();
        Commands.Run("dpkg-deb", "--root-owner-group", "-Znone", "--build", tree, package).Succeeded();
        return package;
    }

    private string Build(params string[] more) =>
        Path.GetFullPath(Commands.Run(TimeSpan.FromMinutes(15), Path.Combine(Tree.Root, "tools", "build-deb"), ["--output", _directory, .. more]).Succeeded().Lines[^1]);
}
