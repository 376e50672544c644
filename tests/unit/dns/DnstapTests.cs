using System.Diagnostics;
using OverlayNet.Dns;

namespace OverlayNet.UnitTests.Dns;

/// <summary>The dnstap file, read by dnstap-ldns (Debian: dnstap-ldns), which knows nothing of us.</summary>
public sealed class DnstapTests : IDisposable
{
    private readonly string _directory = Directory.CreateTempSubdirectory("overlaynet-dnstap").FullName;

    private string File => Path.Combine(_directory, "queries.dnstap");

    public void Dispose() => Directory.Delete(_directory, recursive: true);

    [Fact]
    public void Another_reader_finds_every_answer_with_its_client_and_protocol()
    {
        Ask(1, server =>
        {
            server.Ask("web", RrType.A);
            server.Ask("web", RrType.AAAA, query => query.Edns = true);
            server.Ask("nobody.overlay.internal", RrType.A);
            server.ExchangeTcp(TestQuery.Build("web", RrType.SRV));
        });

        var read = Read();

        Assert.Equal(4, read.Split("identity: \"node7\"").Length - 1);
        Assert.Equal(4, read.Split("type: CLIENT_RESPONSE").Length - 1);
        Assert.Equal(3, read.Split("socket_protocol: UDP").Length - 1);
        Assert.Equal(1, read.Split("socket_protocol: TCP").Length - 1);
        Assert.Equal(4, read.Split("query_address: \"127.0.0.1\"").Length - 1);
        Assert.Contains("10.1.0.", read, StringComparison.Ordinal);
        Assert.Contains("rcode: NXDOMAIN", read, StringComparison.Ordinal);
    }

    [Fact]
    public void Only_every_nth_is_written_and_an_older_file_is_kept_beside()
    {
        Ask(1, server => server.Ask("web", RrType.A));
        Ask(3, server =>
        {
            for (var i = 0; i < 7; i++)
                server.Ask("web", RrType.A);
        });

        Assert.Equal(2, Read().Split("type: CLIENT_RESPONSE").Length - 1);
        Assert.True(System.IO.File.Exists(File + ".1"));
    }

    private void Ask(int every, Action<DnsTestServer> questions)
    {
        using var server = new DnsTestServer(SampleConfig.Config, options: new DnsServerOptions { DnstapFile = File, DnstapEvery = every, Identity = "node7" });
        questions(server);
    }

    private string Read()
    {
        using var reader = Process.Start(new ProcessStartInfo("dnstap-ldns", ["-y", "-r", File]) { RedirectStandardOutput = true, RedirectStandardError = true })
            ?? throw new InvalidOperationException("dnstap-ldns did not start; install dnstap-ldns");
        var output = reader.StandardOutput.ReadToEnd();
        reader.WaitForExit();
        Assert.True(reader.ExitCode == 0, reader.StandardError.ReadToEnd());
        return output;
    }
}
