using OverlayNet.Dns;

namespace OverlayNet.UnitTests.Dns;

/// <summary>The checks of RFC 8906 section 8 on the cluster zone, as written there, with dig (Debian: bind9-dnsutils).</summary>
public sealed class Rfc8906Tests : IDisposable
{
    private const string Zone = "overlay.internal";

    private readonly DnsTestServer _server = new(SampleConfig.Config);

    public void Dispose() => _server.Dispose();

    [Theory]
    // 8.1 basic DNS
    [InlineData("8.1.1 zone", "+noedns +noad +norec soa", "NOERROR", "qr aa", true, false)]
    [InlineData("8.1.2 unknown type", "+noedns +noad +norec type1000", "NOERROR", "qr aa", false, false)]
    [InlineData("8.1.3.1 CD", "+noedns +noad +norec +cd soa", "NOERROR", "qr aa", true, false)]
    [InlineData("8.1.3.2 AD", "+noedns +norec +ad soa", "NOERROR", "qr aa", true, false)]
    [InlineData("8.1.3.3 reserved bit", "+noedns +noad +norec +zflag soa", "NOERROR", "qr aa", true, false)]
    [InlineData("8.1.3.4 RD", "+noedns +noad +rec soa", "NOERROR", "qr aa rd", true, false)]
    [InlineData("8.1.4 unknown opcode", "+noedns +noad +opcode=15 +norec +header-only", "NOTIMP", "qr", false, false)]
    [InlineData("8.1.5 TCP", "+noedns +noad +norec +tcp soa", "NOERROR", "qr aa", true, false)]
    // 8.2 EDNS
    [InlineData("8.2.1 EDNS", "+nocookie +edns=0 +noad +norec soa", "NOERROR", "qr aa", true, true)]
    [InlineData("8.2.2 version", "+nocookie +edns=1 +noednsneg +noad +norec soa", "BADVERS", "qr", false, true)]
    [InlineData("8.2.3 unknown option", "+nocookie +edns=0 +noad +norec +ednsopt=100 soa", "NOERROR", "qr aa", true, true)]
    [InlineData("8.2.4 unknown flag", "+nocookie +edns=0 +noad +norec +ednsflags=0x40 soa", "NOERROR", "qr aa", true, true)]
    [InlineData("8.2.5 version, unknown flag", "+nocookie +edns=1 +noednsneg +noad +norec +ednsflags=0x40 soa", "BADVERS", "qr", false, true)]
    [InlineData("8.2.6 version, unknown option", "+nocookie +edns=1 +noednsneg +noad +norec +ednsopt=100 soa", "BADVERS", "qr", false, true)]
    [InlineData("8.2.7 truncation", "+nocookie +norec +dnssec +bufsize=512 +ignore dnskey", "NOERROR", "qr aa", false, true)]
    [InlineData("8.2.8 DO", "+nocookie +edns=0 +noad +norec +dnssec soa", "NOERROR", "qr aa", true, true)]
    [InlineData("8.2.9 version, DO", "+nocookie +edns=1 +noednsneg +noad +norec +dnssec soa", "BADVERS", "qr", false, true)]
    [InlineData("8.2.10 many options", "+edns=0 +noad +norec +cookie +nsid +expire +subnet=0.0.0.0/0 soa", "NOERROR", "qr aa", true, true)]
    public void Check(string check, string arguments, string status, string flags, bool soa, bool opt)
    {
        var output = _server.Dig(arguments.Contains("header-only", StringComparison.Ordinal) ? arguments : $"{arguments} {Zone}");
        var because = check + "\n" + output;
        Assert.True(output.Contains($"status: {status},", StringComparison.Ordinal), because);
        var seen = Between(output, ";; flags:", ";").Split(' ', StringSplitOptions.RemoveEmptyEntries);
        // RA says that we forward for this client; CD is copied (RFC 4035 §3.2.2). Neither is at issue here.
        Assert.True(flags.Split(' ').Order().SequenceEqual(seen.Except(["ra", "cd"]).Order()), because);
        Assert.True(!output.Contains("MBZ", StringComparison.Ordinal), because);
        Assert.True(opt == output.Contains("EDNS: version: 0,", StringComparison.Ordinal), because);
        Assert.True(soa == output.Contains("ANSWER SECTION:\n" + Zone, StringComparison.Ordinal), because);
        Assert.True(!output.Contains("OPT=100", StringComparison.Ordinal), because);
        if (arguments.Contains("+dnssec", StringComparison.Ordinal))
            Assert.True(output.Contains("flags: do;", StringComparison.Ordinal), because);
    }

    private static string Between(string text, string start, string end)
    {
        var from = text.IndexOf(start, StringComparison.Ordinal);
        if (from < 0)
            return "";
        from += start.Length;
        return text[from..text.IndexOf(end, from, StringComparison.Ordinal)];
    }
}
