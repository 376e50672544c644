using System.Text;
using OverlayNet.Contracts;
using OverlayNet.Daemon.Api;
using OverlayNet.Daemon.Registry;
using OverlayNet.Daemon.Security;

namespace OverlayNet.UnitTests.Daemon;

/// <summary>No text, however mangled, gives anything but a value or a refusal.</summary>
public sealed class ParserFuzzTests
{
    private static IEnumerable<string> Mangled(params string[] seeds)
    {
        var random = new Random(20260101);
        const string alphabet = "0123456789abcdefxyz:./-=[]%{}\",\\ \0\u00e9\n";
        foreach (var seed in seeds)
        {
            yield return seed;
            for (var i = 0; i < 3000; i++)
            {
                var text = new StringBuilder(seed);
                for (var edits = random.Next(1, 5); edits > 0; edits--)
                {
                    var at = random.Next(text.Length + 1);
                    switch (random.Next(3))
                    {
                        case 0:
                            text.Insert(at, alphabet[random.Next(alphabet.Length)]);
                            break;
                        case 1 when at < text.Length:
                            text.Remove(at, Math.Min(random.Next(1, 4), text.Length - at));
                            break;
                        case 2 when at < text.Length:
                            text[at] = alphabet[random.Next(alphabet.Length)];
                            break;
                    }
                }
                yield return text.ToString();
            }
        }
    }

    [Fact]
    public void Ports()
    {
        foreach (var text in Mangled("http=8080:80/tcp", "53/udp", "80"))
        {
            try
            {
                var port = PortSpecs.Parse(text, PublishMode.Ingress);
                Assert.InRange(port.Target, 1, 65535);
                Assert.InRange(port.Published, 0, 65535);
            }
            catch (RegistryException e)
            {
                Assert.Equal(400, e.Status);
            }
        }
    }

    [Fact]
    public void PrefixesAndAddresses()
    {
        foreach (var text in Mangled("10.96.0.0/12", "fd00:1::/64", "::ffff:10.0.0.1/120"))
        {
            if (Prefixes.Parse(text) is var (address, length))
            {
                var prefix = Prefixes.Of(address, length);
                Assert.True(prefix.Contains(address), $"{text}: {prefix} without {address}");
                Assert.Equal(address, Prefixes.At(prefix, Prefixes.Offset(prefix, address)));
                Assert.True(Prefixes.Overlap(prefix, prefix));
            }
        }
    }

    [Fact]
    public void HostsAndPorts()
    {
        Assert.Equal(new HostPort("fd00::1", 7373), HostPort.Parse("fd00::1"));
        Assert.Equal(new HostPort("fd00::1", 99), HostPort.Parse("[fd00::1]:99"));
        Assert.Equal(new HostPort("fd00::1", 7373), HostPort.Parse("[fd00::1]"));
        Assert.Equal(new HostPort("manager.example", 7373), HostPort.Parse("manager.example"));
        Assert.Equal(new HostPort("192.0.2.1", 1), HostPort.Parse("192.0.2.1:1"));
        foreach (var wrong in (string[])["", ":1", "a:0", "a:65536", "a:b", "[1.2.3.4]:5", "a b", "https://a"])
            Assert.Null(HostPort.Parse(wrong));
        foreach (var text in Mangled("192.0.2.1:7373", "[fd00::1]:7373", "host.example:1"))
        {
            if (HostPort.Parse(text) is { } parsed)
                Assert.Equal(parsed, HostPort.Parse(parsed.ToString()));
        }
    }

    [Fact]
    public void Tokens()
    {
        var random = new Random(20260101);
        for (var i = 0; i < 200; i++)
        {
            var (fingerprint, secret) = (new byte[32], new byte[JoinToken.SecretLength]);
            random.NextBytes(fingerprint);
            random.NextBytes(secret);
            var parsed = JoinToken.Parse(new JoinToken(fingerprint, secret).ToString())!;
            Assert.Equal(fingerprint, parsed.Fingerprint);
            Assert.Equal(secret, parsed.Secret);
        }
        foreach (var text in Mangled(new JoinToken(new byte[32], new byte[JoinToken.SecretLength]).ToString()))
        {
            if (JoinToken.Parse(text) is { } parsed)
                Assert.Equal(text, parsed.ToString());
        }
        Assert.Null(JoinToken.Parse(null));
    }

    [Fact]
    public void Bodies()
    {
        foreach (var text in Mangled("""{"name":"net","subnet":"10.1.0.0/24","vni":5,"mtu":0,"internal":true,"labels":{"a":"b"}}"""))
        {
            try
            {
                RequestBody.Parse(Encoding.UTF8.GetBytes(text), OverlayNetJson.Default.NetworkCreateRequest, strict: true);
            }
            catch (RegistryException e)
            {
                Assert.Equal(400, e.Status);
                Assert.NotNull(e.Error.Field);
            }
        }
    }
}
