using OverlayNet.Contracts;
using OverlayNet.Daemon.Health;
using OverlayNet.Daemon.Health.Probers;
using OverlayNet.Daemon.Registry;

namespace OverlayNet.UnitTests.Daemon.Health;

public sealed class HealthSpecTests
{
    [Theory]
    [InlineData("http:/healthz", CheckKind.Http, 0, "/healthz")]
    [InlineData("http:8080/a?b=c", CheckKind.Http, 8080, "/a?b=c")]
    [InlineData("http", CheckKind.Http, 0, "/")]
    [InlineData("https:8443", CheckKind.Https, 8443, "/")]
    [InlineData("tcp", CheckKind.Tcp, 0, "/")]
    [InlineData("tcp:5432", CheckKind.Tcp, 5432, "/")]
    [InlineData("udp:53", CheckKind.Udp, 53, "/")]
    public void Checks_are_read(string word, CheckKind kind, int port, string path)
    {
        var check = HealthSpecs.Parse([word], null)!;
        Assert.Equal((kind, port, path), (check.Kind, check.Port, check.Path));
        Assert.Equal((5000, 1000, 3, 2), (check.IntervalMs, check.TimeoutMs, check.Failures, check.Successes));
        Assert.Equal(check, HealthSpecs.Parse([HealthSpecs.Describe(check)], null));
    }

    [Fact]
    public void Grpc_exec_and_ttl_are_read()
    {
        Assert.Equal("shop.Cart", HealthSpecs.Parse(["grpc:50051/shop.Cart"], null)!.GrpcService);
        Assert.Equal("test -e /a, && b=c", HealthSpecs.Parse(["exec:test -e /a, && b=c"], null)!.Command);
        Assert.Equal((CheckKind.Ttl, 10_000, 1), (HealthSpecs.Parse(["ttl:10s"], null)!.Kind, HealthSpecs.Parse(["ttl:10s"], null)!.IntervalMs, HealthSpecs.Parse(["ttl:10s"], null)!.Failures));
    }

    [Fact]
    public void Settings_change_a_check_and_keep_the_rest()
    {
        var check = HealthSpecs.Parse(["http:/x", "interval=200ms", "failures=5", "header=A: b", "status=200,204", "panic=30%"], null)!;
        Assert.Equal((200, 200, 5, 30), (check.IntervalMs, check.TimeoutMs, check.Failures, check.PanicPercent));
        var changed = HealthSpecs.Parse(["interval=1s"], check)!;
        Assert.Equal(("/x", 1000, 200, 5), (changed.Path, changed.IntervalMs, changed.TimeoutMs, changed.Failures));
        Assert.Null(HealthSpecs.Parse(["none"], changed));
        Assert.Same(changed, HealthSpecs.Parse(null, changed));
    }

    [Theory]
    [InlineData("ftp:/x")]
    [InlineData("http:99999/")]
    [InlineData("http:/a b")]
    [InlineData("exec:")]
    [InlineData("tcp", "interval=0")]
    [InlineData("tcp", "interval=500ms", "timeout=1s")]
    [InlineData("tcp", "path=/x")]
    [InlineData("tcp", "send=x")]
    [InlineData("tcp", "failures=0")]
    [InlineData("udp", @"send=\q")]
    [InlineData("http", "status=2xx")]
    [InlineData("http", "header=nocolon")]
    [InlineData("none", "interval=1s")]
    [InlineData("interval=1s")]
    public void What_is_wrong_is_named(params string[] words)
    {
        var refusal = Assert.Throws<RegistryException>(() => HealthSpecs.Parse(words, null));
        Assert.Equal((400, "health"), (refusal.Status, refusal.Error.Field));
        Assert.False(string.IsNullOrEmpty(refusal.Error.Remedy));
    }

    [Fact]
    public void Any_words_are_read_or_refused()
    {
        var random = new Random(8);
        const string letters = "htpscgrudexl:/=,0159ms -\\%{}\0é";
        for (var i = 0; i < 20_000; i++)
        {
            var words = Enumerable.Range(0, random.Next(1, 4)).Select(_ => string.Concat(Enumerable.Range(0, random.Next(0, 14)).Select(_ => letters[random.Next(letters.Length)]))).ToList();
            if (random.Next(2) == 0)
                words.Insert(0, "http:/");
            try
            {
                if (HealthSpecs.Parse(words, null) is { } check)
                    _ = HealthSpecs.Accepts(check.Status, 200);
            }
            catch (RegistryException)
            {
                // Refused: as it should be.
            }
        }
    }

    [Theory]
    [InlineData("HTTP/1.1 200 OK\r\n\r\n", null, CheckOutcome.Pass)]
    [InlineData("HTTP/1.0 404 Not Found\r\n\r\n", null, CheckOutcome.BadAnswer)]
    [InlineData("HTTP/1.1 200 OK\r\n\r\nall is fine", "fine", CheckOutcome.Pass)]
    [InlineData("HTTP/1.1 200 OK\r\nfine: no\r\n\r\n", "fine", CheckOutcome.BadAnswer)]
    [InlineData("SSH-2.0-OpenSSH_9.2\r\n", null, CheckOutcome.BadAnswer)]
    [InlineData("", null, CheckOutcome.BadAnswer)]
    public void Http_answers_are_judged(string answer, string? body, CheckOutcome outcome)
    {
        var check = new HealthCheck { Kind = CheckKind.Http, Body = body };
        Assert.Equal(outcome, HttpAnswer.Judge(check, System.Text.Encoding.ASCII.GetBytes(answer), ended: true)!.Outcome);
        for (var cut = 0; cut < Math.Min(answer.Length, 12); cut++)
            Assert.Null(HttpAnswer.Judge(check, System.Text.Encoding.ASCII.GetBytes(answer[..cut]), ended: false));
    }

    [Fact]
    public void Grpc_answers_are_judged()
    {
        Assert.Equal(CheckOutcome.Pass, GrpcAnswer.Judge(200, "0", null, [0, 0, 0, 0, 2, 8, 1]).Outcome);
        Assert.Contains("NOT_SERVING", GrpcAnswer.Judge(200, "0", null, [0, 0, 0, 0, 2, 8, 2]).Reason, StringComparison.Ordinal);
        Assert.Contains("12", GrpcAnswer.Judge(200, "12", "unimplemented", []).Reason, StringComparison.Ordinal);
        Assert.Equal(CheckOutcome.BadAnswer, GrpcAnswer.Judge(200, null, null, []).Outcome);
    }
}
