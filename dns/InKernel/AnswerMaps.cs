using System.Net;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using OverlayNet.Kernel;
using OverlayNet.Kernel.Bpf;

namespace OverlayNet.Dns.InKernel;

/// <summary>A question as the program looks it up: the network's number, type, and the name as asked, in lower case.</summary>
[InlineArray(Size)]
internal struct AnswerKey : IEquatable<AnswerKey>
{
    /// <summary>The head and the longest name, with its root octet, that is answered in the kernel.</summary>
    public const int Size = NameAt + NameRoom;

    /// <summary>u32, host order: number of the network.</summary>
    public const int NetworkAt = 0;

    /// <summary>u8: the low octet of the record type.</summary>
    public const int TypeAt = 4;

    /// <summary>u8: octets of the name with the root's.</summary>
    public const int LengthAt = 5;

    /// <summary>Wire form with the root octet; 0 behind it.</summary>
    public const int NameAt = 8;
    public const int NameRoom = 72;

    private byte _first;

    /// <param name="name">Lower-case wire form with the root octet, at most <see cref="NameRoom"/> octets.</param>
    public static AnswerKey Of(uint network, ushort type, ReadOnlySpan<byte> name)
    {
        var key = default(AnswerKey);
        Span<byte> octets = key;
        BitConverter.TryWriteBytes(octets[NetworkAt..], network);
        octets[TypeAt] = (byte)type;
        octets[LengthAt] = (byte)name.Length;
        name.CopyTo(octets[NameAt..]);
        return key;
    }

    public readonly bool Equals(AnswerKey other) => ((ReadOnlySpan<byte>)this).SequenceEqual(other);

    public override readonly bool Equals(object? obj) => obj is AnswerKey other && Equals(other);

    public override readonly int GetHashCode()
    {
        var hash = new HashCode();
        hash.AddBytes(this);
        return hash.ToHashCode();
    }
}

/// <summary>The one record of an answer as it goes out: owner C00C, type, class, TTL, length, address. 16 or 28 octets, then 0.</summary>
[InlineArray(Size)]
internal struct AnswerRecord
{
    public const int Size = 32;
    public const int Ipv4Record = 16;
    public const int Ipv6Record = 28;

    private byte _first;
}

/// <summary>Where queries are answered: the number of a set of listeners and an address, 16 octets (IPv4 mapped, RFC 4291 section 2.5.5.2).</summary>
[StructLayout(LayoutKind.Sequential)]
internal readonly record struct ListenerKey(uint Listeners, uint Unused, ulong First, ulong Second)
{
    public const int AddressAt = 8;

    public static ListenerKey Of(uint listeners, IPAddress address)
    {
        Span<byte> octets = stackalloc byte[16];
        address.MapToIPv6().TryWriteBytes(octets, out _);
        return new ListenerKey(listeners, 0, MemoryMarshal.Read<ulong>(octets), MemoryMarshal.Read<ulong>(octets[8..]));
    }
}

/// <summary>Whose names a listener answers, and for whom frames to it are.</summary>
[StructLayout(LayoutKind.Sequential)]
internal readonly record struct ListenerValue(uint Network, ushort Mac0, ushort Mac1, ushort Mac2, ushort Unused)
{
    public const int NetworkAt = 0;

    /// <summary>Six octets as on the wire.</summary>
    public const int MacAt = 4;

    public static ListenerValue Of(uint network, MacAddress mac)
    {
        Span<byte> octets = stackalloc byte[MacAddress.Length];
        mac.Write(octets);
        return new ListenerValue(network, MemoryMarshal.Read<ushort>(octets), MemoryMarshal.Read<ushort>(octets[2..]), MemoryMarshal.Read<ushort>(octets[4..]), 0);
    }
}

/// <summary>How much one client asked lately.</summary>
/// <param name="Window">The time of its last query in units of 2^30 ns.</param>
/// <param name="Count">Queries answered in that time.</param>
internal readonly record struct ClientWindow(ulong Window, ulong Count)
{
    public const int WindowAt = 0;
    public const int CountAt = 8;
}

/// <summary>What the programs count, all together, and what tells them that answers were taken out. Written atomically, read in place.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct AnswerCounters
{
    public const int AnsweredAt = 0;
    public const int EdnsAt = 8;
    public const int PassedAt = 16;
    public const int LimitedAt = 24;
    public const int GenerationAt = 32;

    public long Answered;
    public long Edns;

    /// <summary>Queries to a listener that were left to the daemon.</summary>
    public long Passed;

    /// <summary>Of these, those of clients that ask too much.</summary>
    public long Limited;

    /// <summary>
    /// Rises after answers were taken out and before others are put in. The kernel may use the memory of a removed entry for a
    /// new one while a program still looks at it: one that sees the same number before and after saw one entry.
    /// </summary>
    public long Generation;
}

/// <summary>The maps all programs of one daemon share. They live as long as a program that uses them.</summary>
internal sealed class AnswerMaps : IDisposable
{
    /// <summary>Questions answered in the kernel at a time; memory is taken as they come.</summary>
    public const int MostAnswers = 32768;

    private const int MostListeners = 16384, MostClients = 8192;

    private AnswerMaps(BpfMap answers, BpfMap listeners, BpfMap clients, BpfMap counters)
    {
        (Answers, Listeners, Clients, Counters) = (answers, listeners, clients, counters);
        Counted = new BpfMappedArray<AnswerCounters>(counters);
    }

    public BpfMap Answers { get; }

    public BpfMap Listeners { get; }

    public BpfMap Clients { get; }

    public BpfMap Counters { get; }

    public BpfMappedArray<AnswerCounters> Counted { get; }

    /// <exception cref="OverlayNet.Kernel.KernelException">The kernel refused.</exception>
    public static AnswerMaps Create()
    {
        var made = new List<BpfMap>();
        BpfMap Make(BpfMapType type, string name, int key, int value, int entries, BpfMapFlags flags = BpfMapFlags.None)
        {
            made.Add(BpfMap.Create(new BpfMapShape(type, name, key, value, entries, flags)));
            return made[^1];
        }

        try
        {
            return new AnswerMaps(
                Make(BpfMapType.Hash, "on.dns.answers", AnswerKey.Size, AnswerRecord.Size, MostAnswers, BpfMapFlags.NoPreallocation),
                Make(BpfMapType.Hash, "on.dns.listen", Unsafe.SizeOf<ListenerKey>(), Unsafe.SizeOf<ListenerValue>(), MostListeners, BpfMapFlags.NoPreallocation),
                Make(BpfMapType.LruHash, "on.dns.clients", 16, Unsafe.SizeOf<ClientWindow>(), MostClients),
                Make(BpfMapType.Array, "on.dns.counters", sizeof(uint), Unsafe.SizeOf<AnswerCounters>(), 1, BpfMapFlags.Mappable));
        }
        catch
        {
            foreach (var map in made)
                map.Dispose();
            throw;
        }
    }

    public void Dispose()
    {
        Counted.Dispose();
        Answers.Dispose();
        Listeners.Dispose();
        Clients.Dispose();
        Counters.Dispose();
    }
}
