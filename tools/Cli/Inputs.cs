using System.CommandLine;
using System.CommandLine.Parsing;
using System.Globalization;
using System.Net;
using System.Net.Sockets;

namespace OverlayNet.Tools.Cli;

/// <summary>
/// Options and arguments that check what they can before the daemon is asked. A complaint is two lines: what is wrong
/// with which value, and what to do instead (see <see cref="Complaint"/>).
/// </summary>
internal static class Inputs
{
    /// <summary>Joins both halves of a complaint for <see cref="SymbolResult.AddError"/>; <see cref="CommandLine"/> splits them.</summary>
    public static string Complaint(string message, string remedy) => $"{message}\n{remedy}";

    public static Option<string?> Text(string name, string description, string help) => new(name) { Description = description, HelpName = help };

    public static Option<string[]> Texts(string name, string description, string help, params string[] aliases) =>
        new(name, aliases) { Description = description, HelpName = help, DefaultValueFactory = _ => [] };

    public static Option<int?> Number(string name, int least, int most, string description, string help) => new(name)
    {
        Description = string.Create(CultureInfo.InvariantCulture, $"{description} ({least}-{most})"),
        HelpName = help,
        CustomParser = result => ParseNumber(result, name, least, most),
    };

    public static Argument<int?> NumberArgument(string name, int least, int most, string description) => new(name)
    {
        Description = string.Create(CultureInfo.InvariantCulture, $"{description} ({least}-{most})"),
        CustomParser = result => ParseNumber(result, name, least, most),
    };

    /// <summary>An address; with a family, only one of that family.</summary>
    public static Option<string?> Address(string name, string description, AddressFamily? family = null)
    {
        var option = Text(name, description, "ADDRESS");
        option.Validators.Add(result => Each(result, value =>
        {
            if (!IsAddress(value, out var address) || (family is { } wanted && address.AddressFamily != wanted))
                result.AddError(Complaint($"{name} '{value}' is not an {FamilyName(family)} address", $"give one such as {(family == AddressFamily.InterNetworkV6 ? "fd00:10::5" : "10.10.0.5")}"));
        }));
        return option;
    }

    /// <summary>Prefixes in CIDR form, of either family.</summary>
    public static Option<string[]> Prefixes(string name, string description)
    {
        var option = Texts(name, description, "CIDR");
        option.Validators.Add(result => Each(result, value => CheckPrefix(result, name, value, null)));
        return option;
    }

    public static Option<string?> Prefix(string name, string description, AddressFamily? family = null)
    {
        var option = Text(name, description, "CIDR");
        option.Validators.Add(result => Each(result, value => CheckPrefix(result, name, value, family)));
        return option;
    }

    /// <summary><c>KEY=VALUE</c>, any number.</summary>
    public static Option<string[]> Labels()
    {
        var option = Texts("--label", "Label, any number", "KEY=VALUE");
        option.Validators.Add(result => Each(result, value =>
        {
            if (value.IndexOf('=') < 1)
                result.AddError(Complaint($"--label '{value}' is not KEY=VALUE", "write it as --label tier=front"));
        }));
        return option;
    }

    public static Dictionary<string, string>? LabelsOf(string[]? labels)
    {
        if (labels is not { Length: > 0 })
            return null;
        var map = new Dictionary<string, string>();
        foreach (var label in labels)
        {
            var split = label.IndexOf('=');
            map[label[..split]] = label[(split + 1)..];
        }
        return map;
    }

    /// <summary>One word of a fixed set, compared without regard to case.</summary>
    public static Option<string?> Word(string name, string description, params string[] words)
    {
        var option = new Option<string?>(name) { Description = $"{description}: {string.Join(", ", words)}", HelpName = "WORD" };
        option.Validators.Add(result => Each(result, value =>
        {
            if (!words.Contains(value, StringComparer.OrdinalIgnoreCase))
                result.AddError(Complaint($"{name} '{value}' is unknown", $"say one of {string.Join(", ", words)}"));
        }));
        option.CompletionSources.Add(words);
        return option;
    }

    /// <summary><c>[NAME=][PUB:]TARGET[/PROTO]</c>, any number.</summary>
    public static Option<string[]> Ports(string description)
    {
        var option = Texts("--port", description, "[NAME=][PUB:]TARGET[/PROTO]", "-p");
        option.Validators.Add(result => Each(result, value =>
        {
            if (!IsPort(value))
                result.AddError(Complaint($"--port '{value}' is not [NAME=][PUB:]TARGET[/PROTO]", "ports are 1-65535 and the protocol tcp or udp, such as 80, 8080:80 or dns=53/udp"));
        }));
        return option;
    }

    internal static bool IsPort(string value)
    {
        var name = value.IndexOf('=');
        var rest = value[(name + 1)..];
        var slash = rest.IndexOf('/');
        var protocol = slash < 0 ? "tcp" : rest[(slash + 1)..];
        var ports = (slash < 0 ? rest : rest[..slash]).Split(':');
        return name != 0 && protocol is "tcp" or "udp" && ports.Length <= 2 && ports.All(port => IsNumber(port, 1, 65535, out _));
    }

    /// <summary>Strict: the runtime's parser also takes the historic short forms (10.1 for 10.0.0.1).</summary>
    internal static bool IsAddress(string value, out IPAddress address)
    {
        address = IPAddress.None;
        if (value.StartsWith('[') || (!value.Contains(':') && value.Count(c => c == '.') != 3) || !IPAddress.TryParse(value, out var parsed))
            return false;
        address = parsed;
        return true;
    }

    private static void CheckPrefix(OptionResult result, string name, string value, AddressFamily? family)
    {
        var slash = value.LastIndexOf('/');
        if (slash < 0
            || !IsAddress(value[..slash], out var address)
            || !IsNumber(value[(slash + 1)..], 0, address.AddressFamily == AddressFamily.InterNetwork ? 32 : 128, out var length)
            || (family is { } wanted && wanted != address.AddressFamily))
        {
            result.AddError(Complaint(
                $"{name} '{value}' is not an {FamilyName(family)} prefix in CIDR form",
                $"write it as {(family == AddressFamily.InterNetworkV6 ? "fd00:10::/64" : "10.10.0.0/24")}"));
            return;
        }
        var network = NetworkAddress(address, length);
        if (!network.Equals(address))
            result.AddError(Complaint($"{name} '{value}' has bits set beyond its /{length}", $"write it as {network}/{length}"));
    }

    private static IPAddress NetworkAddress(IPAddress address, int length)
    {
        var bytes = address.GetAddressBytes();
        for (var bit = length; bit < bytes.Length * 8; bit++)
            bytes[bit / 8] &= (byte)~(0x80 >> (bit % 8));
        return new IPAddress(bytes);
    }

    private static int? ParseNumber(ArgumentResult result, string name, int least, int most)
    {
        var text = result.Tokens[^1].Value;
        if (IsNumber(text, least, most, out var number))
            return number;
        result.AddError(Complaint(
            string.Create(CultureInfo.InvariantCulture, $"{name} '{text}' is not a number from {least} to {most}"),
            string.Create(CultureInfo.InvariantCulture, $"give a whole number from {least} to {most}")));
        return null;
    }

    private static bool IsNumber(string text, int least, int most, out int number) =>
        int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out number) && number >= least && number <= most;

    private static void Each(OptionResult result, Action<string> check)
    {
        foreach (var token in result.Tokens)
            check(token.Value);
    }

    private static string FamilyName(AddressFamily? family) => family switch
    {
        AddressFamily.InterNetwork => "IPv4",
        AddressFamily.InterNetworkV6 => "IPv6",
        _ => "IP",
    };
}
