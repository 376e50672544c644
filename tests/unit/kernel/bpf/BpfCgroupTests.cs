using OverlayNet.Kernel.Bpf;

namespace OverlayNet.UnitTests.Kernel.Bpf;

public class BpfCgroupTests
{
    [Theory]
    [InlineData("41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw", "/sys/fs/cgroup/unified")]
    [InlineData("41 31 0:38 / /mnt/a\\040b rw shared:3 master:1 - cgroup2 none rw", "/mnt/a b")]
    [InlineData("32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu", null)]
    [InlineData("- cgroup2", null)]
    [InlineData("", null)]
    public void FindsTheMountInMountinfo(string line, string? expected) => Assert.Equal(expected, BpfCgroup.FindMount([line]));

    [Fact]
    public void PrefersTheMountThatShowsMost() => Assert.Equal("/b", BpfCgroup.FindMount(
    [
        "41 31 0:38 /docker/1 /a rw - cgroup2 cgroup2 rw",
        "42 31 0:38 / /b rw - cgroup2 cgroup2 rw",
        "43 31 0:38 /docker /c rw - cgroup2 cgroup2 rw",
    ]));
}
