using Xunit.Abstractions;

namespace OverlayNet.ClusterTests.Vip;

/// <inheritdoc cref="KillUnderLoad"/>
public sealed class KillUnderLoadTests(ITestOutputHelper output)
{
    [Theory]
    [InlineData("nft")]
    [InlineData("ebpf")]
    public void No_connection_fails_when_every_daemon_is_killed_once(string balancer) =>
        KillUnderLoad.Run(balancer, TimeSpan.FromSeconds(8), TimeSpan.FromSeconds(1), output);

    [Theory]
    [Trait("Category", "Soak")]
    [InlineData("nft")]
    [InlineData("ebpf")]
    public void No_connection_fails_in_a_minute_of_kills(string balancer) =>
        KillUnderLoad.Run(balancer, TimeSpan.FromMinutes(1), TimeSpan.FromSeconds(1), output);
}
