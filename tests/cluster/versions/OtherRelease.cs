using System.Text.RegularExpressions;
using OverlayNet.ClusterTests.Harness;

namespace OverlayNet.ClusterTests.Versions;

/// <summary>
/// The programs under test with the messages of another release: the contracts are built anew with another protocol version and
/// fields that this release has not heard of, and everything else is as it is.
/// </summary>
public sealed class OtherRelease : IDisposable
{
    /// <summary>The field that it knows more, in what nodes say to each other and in what the registry keeps.</summary>
    public const string News = "novelty";

    private static readonly string[] _withNews = ["Endpoint", "EndpointCreateRequest", "EndpointUpdateRequest", "HeartbeatRequest", "HeartbeatResponse", "WatchMessage", "JoinRequest"];
    private readonly string _directory = Directory.CreateTempSubdirectory("overlaynet-test-release-").FullName;

    public OtherRelease()
    {
        try
        {
            Build();
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    /// <summary>What it calls itself.</summary>
    public static string Name => "9.1.0";

    /// <summary>A variable of a daemon's environment that says how many protocol versions it is ahead of the programs under test, instead of one.</summary>
    public static string Ahead => "OVERLAYNET_TEST_AHEAD";

    public string Programs => Path.Combine(_directory, "out");

    public void Dispose() => Directory.Delete(_directory, recursive: true);

    private void Build()
    {
        var sources = Path.Combine(_directory, "daemon", "Contracts");
        Directory.CreateDirectory(sources);
        foreach (var file in new[] { "Directory.Build.props", "Directory.Packages.props" })
            File.Copy(Path.Combine(Tree.Root, file), Path.Combine(_directory, file));
        var news = 0;
        foreach (var file in Directory.EnumerateFiles(Path.Combine(Tree.Root, "daemon", "Contracts")))
        {
            var text = File.ReadAllText(file);
            text = Regex.Replace(text, @"int Version => (\d+);", $"int Version {{ get; }} = $1 + int.Parse(Environment.GetEnvironmentVariable(\"{Ahead}\") ?? \"1\");");
            text = Regex.Replace(text, $@"sealed record ({string.Join('|', _withNews)})\r?\n{{", match =>
            {
                news++;
                return $"{match.Value}\n    public string Novelty {{ get; set; }} = \"of {Name}\";\n";
            });
            File.WriteAllText(Path.Combine(sources, Path.GetFileName(file)), text);
        }
        if (news != _withNews.Length)
            throw new InvalidOperationException($"{news} of {_withNews.Length} messages have been found in daemon/Contracts");
        // The identity that the other assemblies ask for stays.
        Commands.Run(TimeSpan.FromMinutes(3), "dotnet", "build", Path.Combine(sources, "OverlayNet.Contracts.csproj"), "-c", "Release", "-o", Path.Combine(_directory, "built"), "-v", "quiet", "-nologo",
            $"-p:InformationalVersion={Name}", "-p:IncludeSourceRevisionInInformationalVersion=false", "-p:UseSharedCompilation=false", "-p:RunAnalyzers=false", "-nodeReuse:false").Succeeded();
        // In out/ they are native code, which has the contracts inside; those built along with the tests have them in a file of their own.
        Commands.Run("cp", "-a", AppContext.BaseDirectory, Programs).Succeeded();
        File.Copy(Path.Combine(_directory, "built", "OverlayNet.Contracts.dll"), Path.Combine(Programs, "OverlayNet.Contracts.dll"), overwrite: true);
    }
}
