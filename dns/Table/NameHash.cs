using System.Runtime.CompilerServices;
using System.Security.Cryptography;

namespace OverlayNet.Dns.Table;

/// <summary>
/// Seeded hash of a lower-case wire name: multiply-and-fold over eight-byte steps. The seed is random per process, so
/// that a client cannot choose names that collide.
/// </summary>
internal static unsafe class NameHash
{
    private const ulong K1 = 0x9E3779B97F4A7C15, K2 = 0xD6E8FEB86659FD93;

    private static readonly ulong Seed = BitConverter.ToUInt64(RandomNumberGenerator.GetBytes(8));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static uint Compute(byte* p, int length)
    {
        var h = Seed ^ ((ulong)length * K1);
        if (length >= 8)
        {
            var end = p + length - 8;
            for (; p < end; p += 8)
                h = Mix(h ^ Unsafe.ReadUnaligned<ulong>(p), K2);
            h = Mix(h ^ Unsafe.ReadUnaligned<ulong>(end), K1);
        }
        else if (length >= 4)
        {
            h = Mix(h ^ (((ulong)Unsafe.ReadUnaligned<uint>(p) << 32) | Unsafe.ReadUnaligned<uint>(p + length - 4)), K1);
        }
        else if (length > 0)
        {
            h = Mix(h ^ (((ulong)p[0] << 16) | ((ulong)p[length >> 1] << 8) | p[length - 1]), K1);
        }

        h = Mix(h, K2);
        return (uint)(h >> 32) ^ (uint)h;
    }

    public static uint Compute(ReadOnlySpan<byte> name)
    {
        fixed (byte* p = name)
            return Compute(p, name.Length);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static ulong Mix(ulong a, ulong b)
    {
        var high = Math.BigMul(a, b, out var low);
        return high ^ low;
    }
}
