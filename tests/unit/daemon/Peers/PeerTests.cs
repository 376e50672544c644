using OverlayNet.Contracts;
using OverlayNet.Daemon.Peers;
using OverlayNet.Daemon.Registry;

namespace OverlayNet.UnitTests.Daemon.Peers;

/// <summary>What nodes ask each other: clocks, captures, probes of the way.</summary>
public sealed class PeerTests
{
    /// <summary>The other clock is 1000 ahead; the way there takes 30, the way back 10.</summary>
    [Fact]
    public void The_offset_of_a_clock_is_true_to_within_half_of_the_round_trip()
    {
        var (offset, uncertainty) = NodeClock.Offset(askedNs: 500, answeredNs: 1530, heardNs: 540);
        Assert.Equal((1010, 20), (offset, uncertainty));
        Assert.InRange(1000, offset - uncertainty, offset + uncertainty);
    }

    /// <summary>Words of a caller are values of known options, whatever they are.</summary>
    [Fact]
    public void A_callers_words_become_no_options()
    {
        var query = new Dictionary<string, string> { ["service"] = "--write=/etc/passwd", ["filter"] = "tcp port 80", ["write"] = "/etc/passwd", ["seconds"] = "5" };
        Assert.Equal(["--duration=5", "--snap=262144", "--service=--write=/etc/passwd", "--filter=tcp port 80"], CaptureStream.Arguments(query.GetValueOrDefault));
    }

    [Theory]
    [InlineData("seconds", "0")]
    [InlineData("seconds", "3601")]
    [InlineData("seconds", "soon")]
    [InlineData("snap", "63")]
    [InlineData("filter", "tcp\nport 80")]
    public void What_is_out_of_range_is_refused(string name, string value) =>
        Assert.Equal(400, Assert.Throws<RegistryException>(() => CaptureStream.Arguments(asked => asked == name ? value : null)).Status);

    [Theory]
    [InlineData(5, 4000, "00")]
    [InlineData(4, 0, "00")]
    [InlineData(4, 70000, "00")]
    [InlineData(4, 4000, "")]
    [InlineData(4, 4000, "0")]
    [InlineData(4, 4000, "zz")]
    public void A_probe_that_makes_no_sense_is_refused(int family, int port, string token) =>
        Assert.Equal(400, Assert.Throws<RegistryException>(() => new PathAnswers().Begin(Snapshot.Empty, "a", "b", new PathProbeRequest { Network = "n", Family = family, Port = port, Token = token })).Status);
}
