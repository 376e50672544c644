using System.Net;
using OverlayNet.Contracts;
using OverlayNet.Tools.Cli;
using OverlayNet.Tools.Diagnosis.Checks;
using OverlayNet.Tools.Diagnosis.Trace;

namespace OverlayNet.UnitTests.Tools.Diagnosis;

/// <summary>The checks that judge plain data, and how a trace's target is read.</summary>
public sealed class ChecksTests
{
    private static readonly DateTimeOffset Now = new(2026, 1, 1, 0, 0, 0, TimeSpan.Zero);

    [Theory]
    [InlineData(0, 5, "what goes from node1 to node2 is lost", "from node1 to node2")]
    [InlineData(5, 0, "what goes from node2 to node1 is lost", "from node2 to node1")]
    [InlineData(0, 0, "lost both ways", "both ways")]
    [InlineData(5, 4, "echo is stopped", "echo too")]
    public void The_way_that_is_lost_is_the_one_whose_datagrams_did_not_arrive(int there, int back, string lost, string open)
    {
        var said = PathChecks.Lost(new PathReport { Node = "node2", Network = "app", Family = 4, Sent = 5, There = there, Back = back }, "node1", "node2");
        Assert.Contains(lost, said.Lost, StringComparison.Ordinal);
        Assert.Contains(open, said.Open, StringComparison.Ordinal);
        Assert.Contains($"of 5 datagrams from node1 {there} arrived at node2", said.Counted, StringComparison.Ordinal);
        Assert.Equal(("", ""), (PathChecks.Lost(null, "node1", "node2").Lost, PathChecks.Lost(null, "node1", "node2").Counted));
    }

    [Theory]
    [InlineData(100, 262144, null)]
    [InlineData(210_000, 262144, "warning")]
    [InlineData(262_144, 262144, "error")]
    [InlineData(5, 0, null)]
    public void Followed_connections(long count, long most, string? severity) =>
        Assert.Equal(severity, LimitChecks.Conntrack("the host", count, most).SingleOrDefault()?.Finding.Severity);

    [Fact]
    public void Limits_that_cannot_be_read_are_no_fault()
    {
        Assert.Empty(LimitChecks.Conntrack("the host", null, null));
        Assert.Empty(LimitChecks.Neighbours("ipv4", 5000, null));
        Assert.Contains("gc_thresh3=4096", LimitChecks.Neighbours("ipv4", 1000, 1024).Single().Finding.Remedy, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(-1, "certificate.expired")]
    [InlineData(7, "certificate.expiring")]
    [InlineData(60, null)]
    public void Certificates(int days, string? check) =>
        Assert.Equal(check, StateChecks.Certificate("/s/identity/node.pem", Now.AddDays(days), Now).SingleOrDefault()?.Finding.Check);

    [Theory]
    [InlineData(1L << 20, "error")]
    [InlineData(64L << 20, "warning")]
    [InlineData(1L << 30, null)]
    public void Room_on_disk(long free, string? severity) => Assert.Equal(severity, StateChecks.Disk("/s", free).SingleOrDefault()?.Finding.Severity);

    [Fact]
    public void Missing_rights_are_named_one_by_one()
    {
        Assert.Empty(DaemonChecks.Capabilities("overlaynetd", ulong.MaxValue));
        Assert.Empty(DaemonChecks.Capabilities("overlaynetd", null));
        Assert.Equal("CAP_NET_RAW", DaemonChecks.Capabilities("overlaynetd", ulong.MaxValue & ~(1UL << 13)).Single().Finding.Object);
    }

    [Fact]
    public void Nodes_that_are_silent_behind_or_in_another_time()
    {
        NodeLag Node(string name, double? silence = 0.5, long lag = 0, double skew = 3, NodeState state = NodeState.Ready) =>
            new() { Name = name, Address = IPAddress.Loopback, SecondsSinceHeartbeat = silence, Lag = lag, ClockSkewMs = skew, State = state };
        var status = new StatusReport { Daemon = "running", NodeName = "node1", Nodes = [Node("node1", lag: 9), Node("fine"), Node("unknown", silence: null, lag: 40), Node("silent", silence: 12), Node("down", state: NodeState.Down), Node("behind", lag: 4), Node("early", skew: -40_000)] };

        Assert.Equal(
            ["node.silent silent", "node.silent down", "node.lag behind", "clock.skew early"],
            NodeChecks.Judge(status).Select(found => $"{found.Finding.Check} {found.Finding.Object}"));
        Assert.Equal("node1", NodeChecks.Judge(status with { Nodes = [], ClockSkewMs = 5000 }).Single().Finding.Object);
    }

    [Theory]
    [InlineData("127.0.0.53", true)]
    [InlineData("10.10.0.1", true)]
    [InlineData("::1", true)]
    [InlineData("192.0.2.53", false)]
    public void Resolvers_that_ask_themselves(string upstream, bool loop) =>
        Assert.Equal(loop, DnsChecks.Loop(IPAddress.Parse(upstream), [IPAddress.Parse("10.10.0.1")]) is not null);

    [Theory]
    [InlineData("web", "web", null, 0)]
    [InlineData("web:80", "web", null, 80)]
    [InlineData("web.app.overlay.internal:8080", "web.app.overlay.internal", null, 8080)]
    [InlineData("10.10.0.3:443", "10.10.0.3", "10.10.0.3", 443)]
    [InlineData("fd00:10::3", "fd00:10::3", "fd00:10::3", 0)]
    [InlineData("[fd00:10::3]:80", "fd00:10::3", "fd00:10::3", 80)]
    public void Targets_are_read(string text, string name, string? address, int port)
    {
        var target = TraceTarget.Parse(text);
        Assert.Equal((name, address, port), (target.Name, target.Address?.ToString(), target.Port));
    }

    [Theory]
    [InlineData("")]
    [InlineData("web:")]
    [InlineData("web:0")]
    [InlineData("web:65536")]
    [InlineData("web:-1")]
    [InlineData("a b")]
    [InlineData("http://web")]
    [InlineData("[fd00::1")]
    public void Targets_that_are_none_are_refused_with_a_remedy(string text)
    {
        var failure = Assert.Throws<CommandFailure>(() => TraceTarget.Parse(text));
        Assert.Equal(ExitCodes.BadInput, failure.ExitCode);
        Assert.NotNull(failure.Remedy);
    }
}
