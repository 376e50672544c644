using System.Text.RegularExpressions;

namespace OverlayNet.Tools.Bundle;

/// <summary>Takes out of a text what lets somebody in: private keys, join tokens, values of fields that are named so. Pure.</summary>
internal static partial class Redaction
{
    private const string Removed = "REDACTED";

    public static string Of(string text)
    {
        text = PrivateKey().Replace(text, Removed);
        text = Token().Replace(text, Removed);
        text = JsonField().Replace(text, $"$1\"{Removed}\"");
        return YamlField().Replace(text, $"$1{Removed}");
    }

    /// <summary>PEM (RFC 7468) of any kind of private key; also one that breaks off.</summary>
    [GeneratedRegex("-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----.*?(-----END [A-Z0-9 ]*PRIVATE KEY-----|\\z)", RegexOptions.Singleline)]
    private static partial Regex PrivateKey();

    [GeneratedRegex("ONTKN-[0-9]+-[A-Za-z0-9]+-[A-Za-z0-9]+")]
    private static partial Regex Token();

    [GeneratedRegex("(\"[^\"\\\\]*(?:password|passwd|secret|token|private|credential)[^\"\\\\]*\"\\s*:\\s*)\"(?:[^\"\\\\]|\\\\.)*\"", RegexOptions.IgnoreCase)]
    private static partial Regex JsonField();

    [GeneratedRegex("^(\\s*[\\w.-]*(?:password|passwd|secret|token|private|credential)[\\w.-]*\\s*[:=]\\s*)\\S.*$", RegexOptions.IgnoreCase | RegexOptions.Multiline)]
    private static partial Regex YamlField();
}
