using OverlayNet.Daemon.Configuration;

namespace OverlayNet.UnitTests.Daemon.Configuration;

/// <summary>The configuration file that the package installs is right where it is commented in. That it is complete is tools/build-deb's work and the package's test.</summary>
public sealed class PackagedConfigurationTests
{
    private static readonly string[] _lines = File.ReadAllLines(Path.Combine(Root(), "tools", "packaging", "overlaynetd.yaml"));

    [Fact]
    public void Every_line_of_it_can_be_commented_in()
    {
        var file = Path.Combine(Path.GetTempPath(), $"overlaynet-test-{Guid.NewGuid():N}.yaml");
        try
        {
            File.WriteAllLines(file, _lines.Where(line => !line.StartsWith("# ", StringComparison.Ordinal)).Select(line => line.TrimStart('#')));

            var options = ConfigurationLoader.Load(["--config", file], new Dictionary<string, string>());

            Assert.Equal("node1", options.NodeName);
            Assert.Equal(new DaemonOptions().ResolverAddresses, options.ResolverAddresses);
        }
        finally
        {
            File.Delete(file);
        }
    }

    private static string Root()
    {
        var directory = new DirectoryInfo(AppContext.BaseDirectory);
        while (!File.Exists(Path.Combine(directory!.FullName, "OverlayNet.sln")))
            directory = directory.Parent;
        return directory.FullName;
    }
}
