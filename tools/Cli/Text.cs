using System.Globalization;
using OverlayNet.Contracts;

namespace OverlayNet.Tools.Cli;

/// <summary>How values are written for people.</summary>
internal static class Text
{
    private const int ShortIdLength = 12;

    /// <summary>The beginning of an id, which every command takes in its place.</summary>
    public static string ShortId(string id) => id.Length > ShortIdLength ? id[..ShortIdLength] : id;

    /// <summary>camelCase words as JSON has them.</summary>
    public static string Word<T>(T value) where T : struct, Enum
    {
        var name = value.ToString();
        return char.ToLowerInvariant(name[0]) + name[1..];
    }

    public static string Join(params object?[] values) => string.Join(", ", values.OfType<object>());

    public static string Or(string? value, string otherwise = "-") => value is { Length: > 0 } ? value : otherwise;

    public static string Number(long value) => value.ToString(CultureInfo.InvariantCulture);

    public static string Seconds(double? seconds) => seconds is { } s ? string.Create(CultureInfo.InvariantCulture, $"{s:0.0} s") : "-";

    public static string Percent(double share) => string.Create(CultureInfo.InvariantCulture, $"{share * 100:0.0}%");

    /// <summary><c>8080:80/tcp</c>: the port at the VIP, and the target where it differs.</summary>
    public static string Port(ServicePort port)
    {
        var mapping = port.Port == port.Target ? Number(port.Port) : $"{Number(port.Port)}:{Number(port.Target)}";
        var published = port.Published > 0 ? $"*:{Number(port.Published)}->" : "";
        return $"{published}{mapping}/{Word(port.Protocol)}";
    }

    /// <summary>How long ago, as <c>docker network ls</c>'s kin write it.</summary>
    public static string Age(long unixMs, DateTimeOffset now)
    {
        if (unixMs <= 0)
            return "-";
        var age = now - DateTimeOffset.FromUnixTimeMilliseconds(unixMs);
        return age switch
        {
            { TotalSeconds: < 120 } => $"{Number((long)Math.Max(0, age.TotalSeconds))} s",
            { TotalMinutes: < 120 } => $"{Number((long)age.TotalMinutes)} min",
            { TotalHours: < 48 } => $"{Number((long)age.TotalHours)} h",
            _ => $"{Number((long)age.TotalDays)} d",
        };
    }

    /// <summary>A path segment or query value.</summary>
    public static string Escape(string value) => Uri.EscapeDataString(value);

    /// <summary>A query string of the parameters that have a value; empty when none has.</summary>
    public static string Query(params (string Name, string? Value)[] parameters)
    {
        var present = parameters.Where(p => p.Value is { Length: > 0 }).Select(p => $"{p.Name}={Escape(p.Value!)}").ToArray();
        return present.Length == 0 ? "" : "?" + string.Join('&', present);
    }
}
