using System.Buffers.Binary;
using System.Numerics;
using System.Security.Cryptography;

namespace OverlayNet.Dns.Answer;

/// <summary>
/// DNS cookies (RFC 7873) in the interoperable form of RFC 9018: the server half is version, reserved, a timestamp
/// and SipHash-2-4 over client cookie, these and the client's address. Nothing is stored per client.
/// </summary>
internal sealed class ServerCookies
{
    public const int ClientSize = 8;

    /// <summary>Client and server half.</summary>
    public const int FullSize = 24;

    // RFC 9018 §4.3: valid for an hour, up to five minutes from the future.
    private const int LifetimeSeconds = 3600;
    private const int SkewSeconds = 300;

    private readonly TimeProvider _time;
    private readonly ulong _k0;
    private readonly ulong _k1;

    /// <param name="time">Wall clock.</param>
    /// <param name="secret">16 octets shared by all servers a client may see as one; null: random.</param>
    public ServerCookies(TimeProvider time, ReadOnlySpan<byte> secret = default)
    {
        _time = time;
        Span<byte> key = stackalloc byte[16];
        if (secret.Length == 16)
            secret.CopyTo(key);
        else
            RandomNumberGenerator.Fill(key);
        _k0 = BinaryPrimitives.ReadUInt64LittleEndian(key);
        _k1 = BinaryPrimitives.ReadUInt64LittleEndian(key[8..]);
    }

    /// <summary>Writes the cookie to send back.</summary>
    /// <param name="received">8 octets, or 16 to 40.</param>
    /// <param name="client">The client's address.</param>
    /// <param name="cookie">24 octets.</param>
    /// <returns>Whether the client showed a valid server half, which proves its address.</returns>
    public bool Answer(ReadOnlySpan<byte> received, in ClientAddress client, Span<byte> cookie)
    {
        var now = (uint)_time.GetUtcNow().ToUnixTimeSeconds();
        received[..ClientSize].CopyTo(cookie);
        var valid = false;
        if (received.Length == FullSize && received[8] == 1)
        {
            var age = (int)(now - BinaryPrimitives.ReadUInt32BigEndian(received[12..]));
            if (age is >= -SkewSeconds and <= LifetimeSeconds)
            {
                Span<byte> expected = stackalloc byte[FullSize];
                received[..16].CopyTo(expected);
                Hash(expected, client);
                valid = CryptographicOperations.FixedTimeEquals(expected, received);
            }
        }

        cookie[8] = 1;
        cookie[9..12].Clear();
        BinaryPrimitives.WriteUInt32BigEndian(cookie[12..], now);
        Hash(cookie, client);
        return valid;
    }

    private void Hash(Span<byte> cookie, in ClientAddress client)
    {
        var isV4 = client.High == 0 && client.Low >> 32 == 0xFFFF;
        var v0 = _k0 ^ 0x736f6d6570736575;
        var v1 = _k1 ^ 0x646f72616e646f6d;
        var v2 = _k0 ^ 0x6c7967656e657261;
        var v3 = _k1 ^ 0x7465646279746573;
        Absorb(ref v0, ref v1, ref v2, ref v3, BinaryPrimitives.ReadUInt64LittleEndian(cookie));
        Absorb(ref v0, ref v1, ref v2, ref v3, BinaryPrimitives.ReadUInt64LittleEndian(cookie[8..]));
        ulong last;
        if (isV4)
        {
            last = BinaryPrimitives.ReverseEndianness((uint)client.Low) | (20UL << 56);
        }
        else
        {
            Absorb(ref v0, ref v1, ref v2, ref v3, BinaryPrimitives.ReverseEndianness(client.High));
            Absorb(ref v0, ref v1, ref v2, ref v3, BinaryPrimitives.ReverseEndianness(client.Low));
            last = 32UL << 56;
        }

        Absorb(ref v0, ref v1, ref v2, ref v3, last);
        v2 ^= 0xFF;
        for (var i = 0; i < 4; i++)
            Round(ref v0, ref v1, ref v2, ref v3);
        BinaryPrimitives.WriteUInt64LittleEndian(cookie[16..], v0 ^ v1 ^ v2 ^ v3);
    }

    private static void Absorb(ref ulong v0, ref ulong v1, ref ulong v2, ref ulong v3, ulong word)
    {
        v3 ^= word;
        Round(ref v0, ref v1, ref v2, ref v3);
        Round(ref v0, ref v1, ref v2, ref v3);
        v0 ^= word;
    }

    private static void Round(ref ulong v0, ref ulong v1, ref ulong v2, ref ulong v3)
    {
        v0 += v1;
        v1 = BitOperations.RotateLeft(v1, 13) ^ v0;
        v0 = BitOperations.RotateLeft(v0, 32);
        v2 += v3;
        v3 = BitOperations.RotateLeft(v3, 16) ^ v2;
        v0 += v3;
        v3 = BitOperations.RotateLeft(v3, 21) ^ v0;
        v2 += v1;
        v1 = BitOperations.RotateLeft(v1, 17) ^ v2;
        v2 = BitOperations.RotateLeft(v2, 32);
    }
}
