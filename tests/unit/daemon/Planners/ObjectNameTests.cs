using OverlayNet.Contracts;
using OverlayNet.Overlay;

namespace OverlayNet.UnitTests.Daemon.Planners;

/// <summary>What tools look for is what the overlay makes, though neither knows the other.</summary>
public sealed class ObjectNameTests
{
    [Fact]
    public void Links_of_a_network_have_the_names_that_the_overlay_gives_them() => Assert.Equal(
        (NetworkReconciler.BridgeName, NetworkReconciler.VxlanName, NetworkReconciler.NodeName, NetworkReconciler.NodePortName),
        (ObjectNames.Bridge, ObjectNames.Tunnel, ObjectNames.NodeLink, ObjectNames.NodePort));
}
