using System.CommandLine;
using System.CommandLine.Parsing;
using OverlayNet.Tools.Cli;

namespace OverlayNet.Tools.Commands;

/// <summary>The flags of a health check, as services and endpoints take them; the daemon reads what they say.</summary>
/// <param name="what">Whose check it is, for the help text.</param>
internal sealed class HealthOptions(string what)
{
    private readonly Option<string?> _check = Inputs.Text("--health", $"{what}: http:/path, https:/path, tcp, grpc, udp, exec:COMMAND, ttl:30s or none; a port goes in front, as in http:8080/path", "CHECK");
    private readonly Option<string?> _interval = Inputs.Text("--health-interval", "From one check to the next; default: 5s", "DURATION");
    private readonly Option<string?> _timeout = Inputs.Text("--health-timeout", "How long an answer may take; default: 1s", "DURATION");
    private readonly Option<int?> _failures = Inputs.Number("--health-failures", 1, 100, "Failures in a row that take an endpoint out; default: 3", "COUNT");
    private readonly Option<int?> _successes = Inputs.Number("--health-successes", 1, 100, "Successes in a row that bring it back; default: 2", "COUNT");
    private readonly Option<string[]> _settings = Inputs.Texts("--health-option", "Further setting, any number: method, host, header, status, body, verify, send, expect, hold, ramp, panic, shrink, peers", "KEY=VALUE");

    private Option[] All => [_check, _interval, _timeout, _failures, _successes, _settings];

    public void AddTo(Command command)
    {
        foreach (var option in All)
            command.Options.Add(option);
    }

    public bool IsGiven(CommandResult result) => All.Any(option => result.GetResult(option) is { Implicit: false });

    /// <summary>Null when no flag is given.</summary>
    public List<string>? Words(ParseResult parsed)
    {
        var words = new List<string>();
        if (parsed.GetValue(_check) is { } check)
            words.Add(check);
        foreach (var (key, value) in new[]
                 {
                     ("interval", parsed.GetValue(_interval)), ("timeout", parsed.GetValue(_timeout)),
                     ("failures", Number(parsed.GetValue(_failures))), ("successes", Number(parsed.GetValue(_successes))),
                 })
        {
            if (value is not null)
                words.Add($"{key}={value}");
        }
        words.AddRange(parsed.GetValue(_settings) ?? []);
        return words.Count > 0 ? words : null;
    }

    private static string? Number(int? value) => value is { } number ? Text.Number(number) : null;
}
