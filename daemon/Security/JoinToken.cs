using System.Security.Cryptography;
using OverlayNet.Contracts;

namespace OverlayNet.Daemon.Security;

/// <summary>
/// A join token, <c>ONTKN-1-FINGERPRINT-SECRET</c>, as Swarm's: the fingerprint of the cluster's CA lets the joiner make sure whom
/// it talks to before it says the secret.
/// </summary>
/// <param name="Fingerprint">SHA-256 of the CA certificate's DER.</param>
public sealed record JoinToken(byte[] Fingerprint, byte[] Secret)
{
    public const int SecretLength = 20;

    private const string Prefix = "ONTKN-1-";
    private const string Alphabet = "abcdefghijklmnopqrstuvwxyz234567";

    /// <returns>Null: not a token.</returns>
    public static JoinToken? Parse(string? text)
    {
        if (text is null || !text.StartsWith(Prefix, StringComparison.Ordinal))
            return null;
        var parts = text[Prefix.Length..].Split('-');
        return parts.Length == 2 && Decode(parts[0]) is { Length: SHA256.HashSizeInBytes } fingerprint
            && Decode(parts[1]) is { Length: SecretLength } secret
            ? new JoinToken(fingerprint, secret)
            : null;
    }

    /// <summary>What is stored of a secret.</summary>
    public static byte[] Hash(NodeRole role, ReadOnlySpan<byte> secret) =>
        SHA256.HashData([(byte)role, .. secret]);

    public override string ToString() => $"{Prefix}{Encode(Fingerprint)}-{Encode(Secret)}";

    /// <summary>Base32 of RFC 4648 section 6, lower case, without padding.</summary>
    private static string Encode(ReadOnlySpan<byte> bytes)
    {
        var text = new char[((bytes.Length * 8) + 4) / 5];
        var (buffer, bits, at) = (0, 0, 0);
        foreach (var b in bytes)
        {
            buffer = ((buffer << 8) | b) & 0xFFF;
            for (bits += 8; bits >= 5; bits -= 5)
                text[at++] = Alphabet[(buffer >> (bits - 5)) & 31];
        }
        if (bits > 0)
            text[at] = Alphabet[(buffer << (5 - bits)) & 31];
        return new string(text);
    }

    private static byte[]? Decode(string text)
    {
        var bytes = new byte[text.Length * 5 / 8];
        var (buffer, bits, at) = (0, 0, 0);
        foreach (var c in text)
        {
            var value = Alphabet.IndexOf(c, StringComparison.Ordinal);
            if (value < 0)
                return null;
            buffer = ((buffer << 5) | value) & 0xFFF;
            bits += 5;
            if (bits < 8)
                continue;
            bits -= 8;
            bytes[at++] = (byte)(buffer >> bits);
        }
        // Another spelling of the same bytes is no token of ours.
        return Encode(bytes) == text ? bytes : null;
    }
}
