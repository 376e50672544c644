using OverlayNet.RuntimeTests.Docker;
using OverlayNet.RuntimeTests.Harness;

namespace OverlayNet.RuntimeTests.Trixie;

/// <summary>Docker of Debian 13 (26.1) on two hosts.</summary>
public sealed class NewerDockerCluster() : DockerCluster(OtherRoot.Trixie, []);

/// <summary>What Docker 20.10 does, done by Docker 26. Optional: it fetches a Debian 13 (<c>tools/test soak Trixie</c>).</summary>
[Trait("Category", "Soak")]
public sealed class NewerDockerTests(NewerDockerCluster cluster) : DockerScenarios(cluster), IClassFixture<NewerDockerCluster>
{
    [Fact]
    public void It_is_another_Docker() => Assert.StartsWith("26.", cluster.Hosts[0].Run("version", "--format", "{{.Server.Version}}").Text, StringComparison.Ordinal);
}
