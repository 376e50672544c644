using System.Net.NetworkInformation;
using OverlayNet.Kernel;

namespace OverlayNet.ClusterTests.Kernel;

/// <summary>Named namespaces as <c>ip netns</c> sees them, and work inside them.</summary>
public sealed class NamespaceTests : IDisposable
{
    private readonly TestNamespaces namespaces = new();

    public void Dispose() => namespaces.Dispose();

    [Fact]
    public void WhatWeMakeIpNetnsKnowsAndTheOtherWayRound()
    {
        var ours = namespaces.Reserve("ours");
        NamedNamespaces.Create(ours);
        Assert.Contains(ours, Shell.Run("ip netns list"), StringComparison.Ordinal);
        Assert.Contains(ours, NamedNamespaces.List());
        Assert.Equal(17, Assert.Throws<KernelException>(() => NamedNamespaces.Create(ours)).Errno);
        Shell.Run($"ip netns del {ours}");
        Assert.False(NamedNamespaces.Exists(ours));
        var theirs = namespaces.Reserve("theirs");
        Shell.Run($"ip netns add {theirs}");
        Assert.True(NamedNamespaces.Exists(theirs));
        NamedNamespaces.Delete(theirs);
        NamedNamespaces.Delete(theirs);
        Assert.DoesNotContain(theirs, Shell.Run("ip netns list"), StringComparison.Ordinal);
    }

    [Fact]
    public void AStaleNameIsNoNamespaceAndIsReplaced()
    {
        var name = namespaces.Reserve("stale");
        Directory.CreateDirectory(NamedNamespaces.Directory);
        File.WriteAllText(NamedNamespaces.PathOf(name), "");
        Assert.False(NamedNamespaces.Exists(name));
        Assert.Contains("not a network namespace", Assert.Throws<KernelException>(() => NamedNamespaces.OpenPinned(name)).Message, StringComparison.Ordinal);
        NamedNamespaces.Create(name);
        Assert.True(NamedNamespaces.Exists(name));
    }

    [Theory]
    [InlineData("/etc/passwd")]
    [InlineData("/proc/self/ns/mnt")]
    [InlineData("/no/such/path")]
    public void AnythingElseIsRefused(string path) => Assert.Throws<KernelException>(() => NetworkNamespace.Open(path));

    [Fact]
    public void ANameThatWasRemovedCanBeGivenBack()
    {
        var name = namespaces.Create("pin");
        using var netns = NamedNamespaces.OpenPinned(name);
        Shell.Run($"ip -n {name} link add probe type bridge");
        Shell.Run($"ip netns del {name}");
        NamedNamespaces.Pin(name, netns);
        Assert.Contains("probe", Shell.Run($"ip -n {name} -br link"), StringComparison.Ordinal);
        Assert.Equal(17, Assert.Throws<KernelException>(() => NamedNamespaces.Pin(name, netns)).Errno);
    }

    [Fact]
    public void NestedRunsComeBackToWhereTheyWere()
    {
        using var a = NamedNamespaces.OpenPinned(namespaces.Create("a"));
        using var b = NamedNamespaces.OpenPinned(namespaces.Create("b"));
        Shell.Run($"ip -n {Path.GetFileName(a.Path)} link add in-a type bridge");
        Shell.Run($"ip -n {Path.GetFileName(b.Path)} link add in-b type bridge");
        var before = Links();
        a.Run(() =>
        {
            Assert.Contains("in-a", Links());
            Assert.Throws<InvalidOperationException>(() => b.Run(() =>
            {
                Assert.Contains("in-b", Links());
                Assert.DoesNotContain("in-a", Links());
                throw new InvalidOperationException();
            }));
            Assert.Contains("in-a", Links());
        });
        Assert.Equal(before, Links());
        Assert.NotEqual(a.Cookie(), b.Cookie());
        Assert.Equal(a.Cookie(), a.Cookie());
    }

    private static IEnumerable<string> Links() => [.. NetworkInterface.GetAllNetworkInterfaces().Select(link => link.Name).Order()];

    [Fact]
    public void APathThatLeadsElsewhereByNowIsNotTheNamespaceMeant()
    {
        var (one, two) = (namespaces.Reserve("one"), namespaces.Reserve("two"));
        NamedNamespaces.Create(one);
        NamedNamespaces.Create(two);
        string identity;
        using (var netns = NamedNamespaces.OpenPinned(one))
        {
            identity = NamespaceIdentity.Of(netns);
            Assert.Equal(identity, NamespaceIdentity.Of(netns));
        }

        NamespaceIdentity.Open(NamedNamespaces.PathOf(one), identity).Dispose();
        NamespaceIdentity.Open(NamedNamespaces.PathOf(two), null).Dispose();
        Assert.Equal(2, Assert.Throws<KernelException>(() => NamespaceIdentity.Open(NamedNamespaces.PathOf(two), identity)).Errno);
        // The same number after a reboot is another namespace.
        var beforeReboot = "00000000-0000-0000-0000-000000000000" + identity[identity.IndexOf('/')..];
        Assert.Throws<KernelException>(() => NamespaceIdentity.Open(NamedNamespaces.PathOf(one), beforeReboot));
        Assert.True(NamespaceIdentity.IsNeeded("/proc/42/ns/net"));
        Assert.False(NamespaceIdentity.IsNeeded(NamedNamespaces.PathOf(one)));
    }
}
