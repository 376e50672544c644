using System.Globalization;
using System.Net;
using OverlayNet.Contracts;

namespace OverlayNet.Daemon.Registry;

/// <summary>Rules for what people write: names, ports, weights, labels.</summary>
internal static class Names
{
    public const int MaxLabel = 63;
    public const int MaxWeight = ushort.MaxValue;

    private const string LabelRemedy =
        "use 1-63 lower-case letters, digits and hyphens, beginning and ending with a letter or digit; 'tasks' is reserved";

    /// <exception cref="RegistryException">Not a DNS label (RFC 1123 section 2.1), or reserved.</exception>
    public static string Label(string field, string? value)
    {
        if (string.IsNullOrEmpty(value))
            throw Refuse.Invalid("invalid-name", field, value, "a name is needed", LabelRemedy);
        if (value == "tasks")
            throw Refuse.Invalid("invalid-name", field, value, "it is reserved for the names of a service's endpoints", LabelRemedy);
        if (value.Length > MaxLabel)
            throw Refuse.Invalid("invalid-name", field, value, $"it has {value.Length} characters", LabelRemedy);
        if (value.AsSpan().ContainsAnyExcept("abcdefghijklmnopqrstuvwxyz0123456789-") || value[0] == '-' || value[^1] == '-')
            throw Refuse.Invalid("invalid-name", field, value, "it is not a DNS label", LabelRemedy);
        return value;
    }

    public static IReadOnlyList<string> Labels(string field, IReadOnlyList<string>? values)
    {
        var labels = new List<string>();
        foreach (var value in values ?? [])
        {
            if (!labels.Contains(Label(field, value)))
                labels.Add(value);
        }
        return labels;
    }

    /// <summary>An id that the caller chose: part of keys and paths.</summary>
    public static string Id(string field, string? value)
    {
        const string remedy = "use 4-64 lower-case letters, digits, '-', '_' and '.', beginning with a letter or digit";
        if (value is null || value.Length is < 4 or > 64
            || value.AsSpan().ContainsAnyExcept("abcdefghijklmnopqrstuvwxyz0123456789-_.") || !char.IsAsciiLetterOrDigit(value[0]))
            throw Refuse.Invalid("invalid-id", field, value, "it cannot be an id", remedy);
        return value;
    }

    public static int Weight(int value) => value is >= 0 and <= MaxWeight
        ? value
        : throw Refuse.Invalid("invalid-weight", "weight", Text(value), "it is out of range", "use 0 (drain) to 65535");

    public static int Seconds(string field, int value) => value is >= 0 and <= 86400
        ? value
        : throw Refuse.Invalid("invalid-seconds", field, Text(value), "it is out of range", "use 0 to 86400 seconds");

    /// <summary>Whole seconds of <c>90s</c>, <c>10m</c>, <c>2h</c>, <c>1d</c> or, as seconds, a plain number; 0 means never.</summary>
    public static int Duration(string field, string text, int least)
    {
        const int most = 366 * 86400;
        var (number, unit) = text.Length == 0 ? ("", 0L) : text[^1] switch
        {
            's' => (text[..^1], 1L),
            'm' => (text[..^1], 60L),
            'h' => (text[..^1], 3600L),
            'd' => (text[..^1], 86400L),
            _ => (text, 1L),
        };
        if (int.TryParse(number, NumberStyles.None, CultureInfo.InvariantCulture, out var count) && count * unit is var seconds && (seconds == 0 || (seconds >= least && seconds <= most)))
            return (int)seconds;
        throw Refuse.Invalid("invalid-duration", field, text, $"it is no duration from {Text(least)} s to 366 days", "write 90s, 10m, 2h or 1d, or 0 for never");
    }

    public static string Scheduler(string? value) => value switch
    {
        null or "" => "wrr",
        "rr" or "wrr" or "lc" or "wlc" or "sh" or "mh" or "sed" or "nq" => value,
        _ => throw Refuse.Invalid("invalid-scheduler", "scheduler", value, "it is unknown", "use rr, wrr, lc, wlc, sh, mh, sed or nq"),
    };

    /// <summary>A network interface's name as the kernel takes it (dev_valid_name).</summary>
    public static string Interface(string value)
    {
        if (value.Length is 0 or > 15 || value is "." or ".." or "lo" || value.Any(c => c is '/' or ':' or <= ' ' or > '~'))
            throw Refuse.Invalid("invalid-interface", "interface", value, "it cannot be the name of a network interface",
                "use up to 15 characters without '/', ':' and blanks, not 'lo'");
        return value;
    }

    public static IReadOnlyDictionary<string, string> UserLabels(IReadOnlyDictionary<string, string>? labels)
    {
        if (labels is null || labels.Count == 0)
            return NoLabels.Instance;
        foreach (var (key, value) in labels)
        {
            if (key.Length is 0 or > 128 || value.Length > 4096)
                throw Refuse.Invalid("invalid-label", "labels", key, "a label's key has 1-128 characters and its value at most 4096",
                    "shorten it");
        }
        return labels;
    }

    public static IPAddress Address(string field, string text, int bits)
    {
        if (Prefixes.ParseAddress(text) is { } address && Prefixes.Bits(address) == bits)
            return address;
        throw Refuse.Invalid("invalid-address", field, text, $"it is not an IPv{(bits == 32 ? 4 : 6)} address",
            bits == 32 ? "write it as 10.96.0.10" : "write it as fd00::10");
    }

    public static string Text(long value) => value.ToString(CultureInfo.InvariantCulture);
}
