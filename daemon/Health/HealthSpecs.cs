using System.Globalization;
using System.Text;
using OverlayNet.Contracts;
using OverlayNet.Daemon.Registry;
using OverlayNet.Vip.Health;

namespace OverlayNet.Daemon.Health;

/// <summary>
/// Checks as people write them: <c>http[:[PORT]/PATH]</c>, <c>https[:[PORT]/PATH]</c>, <c>tcp[:PORT]</c>, <c>grpc[:PORT][/SERVICE]</c>,
/// <c>udp[:PORT]</c>, <c>exec:COMMAND</c>, <c>ttl[:DURATION]</c> or <c>none</c>, followed by settings as <c>key=value</c>.
/// </summary>
public static class HealthSpecs
{
    private const int LeastInterval = 50, MostInterval = 3_600_000, MostCount = 100;

    private const string Kinds =
        "write http:/path, https:/path, tcp, grpc, udp, exec:COMMAND, ttl:30s or none; a port goes in front, as in http:8080/path or tcp:5432";

    private const string Settings =
        "settings are interval, timeout, failures, successes, hold, ramp, panic, shrink, eject, peers, and for http(s) method, host, header, status, body, verify, for udp send and expect";

    /// <summary>Reads a check, or changes one.</summary>
    /// <param name="words">A check followed by settings, settings alone, or <c>none</c>; null: no change.</param>
    /// <param name="before">What settings alone change; null: nothing is there to be changed.</param>
    /// <returns>Null: no check.</returns>
    /// <exception cref="RegistryException">400: names the word and what is wrong with it.</exception>
    public static HealthCheck? Parse(IReadOnlyList<string>? words, HealthCheck? before)
    {
        if (words is null || words.Count == 0)
            return before;
        var check = before;
        var first = 0;
        if (!IsSetting(words[0]))
        {
            first = 1;
            check = ParseKind(words[0]);
            if (check is null && words.Count > 1)
                throw Wrong(words[1], "there is no check that it could be a setting of", "leave the settings out, or name a check");
        }
        else if (check is null)
        {
            throw Wrong(words[0], "there is no check that it could be a setting of", Kinds);
        }
        for (var i = first; i < words.Count; i++)
            check = Set(check!, words[i]);
        if (check is not null && check.TimeoutMs > check.IntervalMs && check.Kind != CheckKind.Ttl)
            throw Wrong($"timeout={check.TimeoutMs}ms", $"it is longer than the interval of {check.IntervalMs} ms", "lengthen the interval, or shorten the timeout");
        return check;
    }

    /// <summary>The check in the form <see cref="Parse"/> reads, without settings.</summary>
    public static string Describe(HealthCheck check)
    {
        var port = check.Port == 0 ? "" : check.Port.ToString(CultureInfo.InvariantCulture);
        var kind = check.Kind.ToString().ToLowerInvariant();
        return check.Kind switch
        {
            CheckKind.Http or CheckKind.Https => $"{kind}:{port}{check.Path}",
            CheckKind.Grpc => $"{kind}{(port.Length > 0 ? ":" : "")}{port}{(check.GrpcService.Length > 0 ? "/" : "")}{check.GrpcService}",
            CheckKind.Exec => $"{kind}:{check.Command}",
            CheckKind.Ttl => $"{kind}:{check.IntervalMs.ToString(CultureInfo.InvariantCulture)}ms",
            _ => port.Length > 0 ? $"{kind}:{port}" : kind,
        };
    }

    /// <summary>Bytes of a udp check's text.</summary>
    /// <exception cref="RegistryException">400: an escape that is none.</exception>
    public static byte[] Bytes(string text)
    {
        var bytes = new List<byte>(text.Length);
        for (var i = 0; i < text.Length; i++)
        {
            if (text[i] != '\\')
            {
                bytes.AddRange(Encoding.UTF8.GetBytes(text[i].ToString()));
                continue;
            }
            var escape = i + 1 < text.Length ? text[++i] : '?';
            if (escape == 'x' && i + 2 < text.Length
                && byte.TryParse(text.AsSpan(i + 1, 2), NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out var hex))
            {
                bytes.Add(hex);
                i += 2;
                continue;
            }
            bytes.Add(escape switch
            {
                'r' => (byte)'\r',
                'n' => (byte)'\n',
                't' => (byte)'\t',
                '0' => 0,
                '\\' => (byte)'\\',
                _ => throw Wrong(text, $"'\\{escape}' is no escape", @"write \xHH, \r, \n, \t, \0 or \\"),
            });
        }
        return [.. bytes];
    }

    /// <summary>Whether a status code is in a list such as <c>200-299,304</c>.</summary>
    public static bool Accepts(string ranges, int status)
    {
        foreach (var part in ranges.AsSpan().Split(','))
        {
            var range = ranges.AsSpan(part);
            var dash = range.IndexOf('-');
            var low = int.Parse(dash < 0 ? range : range[..dash], CultureInfo.InvariantCulture);
            var high = dash < 0 ? low : int.Parse(range[(dash + 1)..], CultureInfo.InvariantCulture);
            if (status >= low && status <= high)
                return true;
        }
        return false;
    }

    private static bool IsSetting(string word)
    {
        var equals = word.IndexOf('=', StringComparison.Ordinal);
        return equals > 0 && word.AsSpan(0, equals).IndexOfAnyExceptInRange('a', 'z') < 0;
    }

    private static HealthCheck? ParseKind(string word)
    {
        var colon = word.IndexOf(':', StringComparison.Ordinal);
        var slash = word.IndexOf('/', StringComparison.Ordinal);
        var kindEnd = colon >= 0 ? colon : slash >= 0 ? slash : word.Length;
        var (kind, rest) = (word[..kindEnd], colon >= 0 ? word[(colon + 1)..] : word[kindEnd..]);
        switch (kind)
        {
            case "none" when rest.Length == 0:
                return null;
            case "http" or "https":
                var (port, path) = PortAndPath(word, rest);
                return new HealthCheck { Kind = kind == "http" ? CheckKind.Http : CheckKind.Https, Port = port, Path = CheckPath(word, path.Length == 0 ? "/" : path) };
            case "grpc":
                var (grpcPort, service) = PortAndPath(word, rest);
                return new HealthCheck { Kind = CheckKind.Grpc, Port = grpcPort, GrpcService = GrpcService(word, service.TrimStart('/')) };
            case "tcp":
                return new HealthCheck { Kind = CheckKind.Tcp, Port = Port(word, rest) };
            case "udp":
                return new HealthCheck { Kind = CheckKind.Udp, Port = Port(word, rest) };
            case "exec" when rest.Length > 0:
                return new HealthCheck { Kind = CheckKind.Exec, Command = rest };
            case "exec":
                throw Wrong(word, "it names no command", "write exec:COMMAND, such as exec:'pg_isready -h 10.10.0.5'");
            case "ttl":
                return new HealthCheck { Kind = CheckKind.Ttl, IntervalMs = rest.Length == 0 ? 30_000 : Duration(word, rest, LeastInterval), Failures = 1, Successes = 1 };
            default:
                throw Wrong(word, "it is no check", Kinds);
        }
    }

    private static HealthCheck Set(HealthCheck check, string word)
    {
        var equals = word.IndexOf('=', StringComparison.Ordinal);
        if (equals < 1)
            throw Wrong(word, "it is no setting", Settings);
        var (key, value) = (word[..equals], word[(equals + 1)..]);
        var isHttp = check.Kind is CheckKind.Http or CheckKind.Https;
        switch (key)
        {
            case "interval":
                return check with { IntervalMs = Duration(word, value, LeastInterval), TimeoutMs = Math.Min(check.TimeoutMs, Duration(word, value, LeastInterval)) };
            case "timeout":
                return check with { TimeoutMs = Duration(word, value, 10) };
            case "failures":
                return check with { Failures = Number(word, value, 1, MostCount) };
            case "successes":
                return check with { Successes = Number(word, value, 1, MostCount) };
            case "hold":
                return check with { HoldMs = Duration(word, value, 0) };
            case "ramp":
                return check with { RampMs = Duration(word, value, 0) };
            case "panic":
                return check with { PanicPercent = Number(word, value.TrimEnd('%'), 0, 100) };
            case "shrink":
                return check with { ShrinkPercent = Number(word, value.TrimEnd('%'), 0, 100) };
            case "eject":
                return check with { EjectPercent = Number(word, value.TrimEnd('%'), 0, Outliers.MostPercent) };
            case "peers":
                return check with { Peers = Number(word, value, 0, 5) };
            case "port":
                return check with { Port = Port(word, value) };
            case "method" when isHttp:
                return check with { Method = Token(word, value) };
            case "host" when isHttp:
                return check with { Host = Printable(word, value) };
            case "header" when isHttp:
                return check with { Headers = [.. check.Headers, Header(word, value)] };
            case "status" when isHttp:
                return check with { Status = Statuses(word, value) };
            case "body" when isHttp:
                return check with { Body = value.Length == 0 ? null : value };
            case "verify" when check.Kind == CheckKind.Https:
                return check with { Verify = value switch { "yes" => true, "no" => false, _ => throw Wrong(word, "it is neither yes nor no", "write verify=yes") } };
            case "send" when check.Kind == CheckKind.Udp:
                _ = Bytes(value);
                return check with { Send = value };
            case "expect" when check.Kind == CheckKind.Udp:
                _ = Bytes(value);
                return check with { Expect = value.Length == 0 ? null : value };
            default:
                throw Wrong(word, $"'{key}' is no setting of a check of kind {check.Kind.ToString().ToLowerInvariant()}", Settings);
        }
    }

    private static (int Port, string Path) PortAndPath(string word, string rest)
    {
        var slash = rest.IndexOf('/', StringComparison.Ordinal);
        var port = slash < 0 ? rest : rest[..slash];
        return (Port(word, port), slash < 0 ? "" : rest[slash..]);
    }

    private static int Port(string word, string text) => text.Length == 0 ? 0 : Number(word, text, 1, ushort.MaxValue);

    private static string CheckPath(string word, string path) => path.AsSpan().IndexOfAnyExceptInRange('!', '~') < 0
        ? path
        : throw Wrong(word, "the path has characters that cannot be in one", "write blanks and others as %XX");

    /// <summary>Letters of a protobuf name, so few that its length is one octet on the wire.</summary>
    private static string GrpcService(string word, string name) => name.Length < 128 && name.All(c => char.IsAsciiLetterOrDigit(c) || c is '.' or '_' or '-' or '/')
        ? name
        : throw Wrong(word, "it is no name of a gRPC service", "write grpc:50051/package.Service");

    private static string Token(string word, string value) => value.Length > 0 && value.All(c => char.IsAsciiLetterOrDigit(c) || c is '-' or '_')
        ? value.ToUpperInvariant()
        : throw Wrong(word, "it is no method", "write method=GET, HEAD, POST ...");

    private static string Printable(string word, string value) => value.Length > 0 && value.AsSpan().IndexOfAnyExceptInRange('!', '~') < 0
        ? value
        : throw Wrong(word, "it cannot be a host", "write host=www.example.com");

    private static string Header(string word, string value)
    {
        var colon = value.IndexOf(':', StringComparison.Ordinal);
        return colon > 0 && value.AsSpan().IndexOfAnyExceptInRange(' ', '~') < 0 && value.AsSpan(0, colon).IndexOfAny(" \t") < 0
            ? value
            : throw Wrong(word, "it is no header", "write header='Name: value'");
    }

    private static string Statuses(string word, string value)
    {
        foreach (var part in value.Split(','))
        {
            var ends = part.Split('-');
            if (ends.Length > 2 || ends.Any(end => !int.TryParse(end, NumberStyles.None, CultureInfo.InvariantCulture, out var code) || code is < 100 or > 999))
                throw Wrong(word, "it is no list of status codes", "write status=200-399 or status=200,204");
        }
        return value;
    }

    private static int Number(string word, string text, int least, int most) =>
        int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out var number) && number >= least && number <= most
            ? number
            : throw Wrong(word, $"'{text}' is not a number from {least} to {most}", $"give a whole number from {least} to {most}");

    /// <summary>Milliseconds of <c>200ms</c>, <c>5s</c>, <c>1m</c> or, as seconds, a plain number.</summary>
    private static int Duration(string word, string text, int least)
    {
        var (number, unit) = text.EndsWith("ms", StringComparison.Ordinal) ? (text[..^2], 1)
            : text.EndsWith('s') ? (text[..^1], 1000)
            : text.EndsWith('m') ? (text[..^1], 60_000)
            : (text, 1000);
        if (!double.TryParse(number, NumberStyles.AllowDecimalPoint, CultureInfo.InvariantCulture, out var count)
            || count * unit < least || count * unit > MostInterval)
            throw Wrong(word, $"'{text}' is not a duration from {least} ms to {MostInterval / 60_000} min", "write 200ms, 5s or 1m");
        return (int)Math.Round(count * unit);
    }

    private static RegistryException Wrong(string word, string problem, string remedy) => Refuse.Invalid("invalid-health", "health", word, problem, remedy);
}
