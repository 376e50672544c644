using System.Runtime.CompilerServices;

namespace OverlayNet.Dns.Table;

/// <summary>
/// Layout of an entry in the blob: all answers of one name, in host byte order but for the record bytes, which go out
/// as they are. An entry never changes once published.
/// <code>
/// 0  u32 owner      who contributed the name (see NetworkView)
/// 4  u32 size       of the whole entry
/// 8  u8  flags      1: several contributions were merged
/// 9  u8  sets       number of RRsets
/// 10 u8  nameLength
/// 11 name           lower-case wire labels without the root octet
/// .. RRsets
/// </code>
/// RRset:
/// <code>
/// 0  u16 type
/// 2  u16 count      records
/// 4  u8  fixedSize  bytes per record, 0 when they differ
/// 5  u8  flags      1: weighted, 2: with additional section
/// 6  u16 limit      most records in one answer, 0: all
/// 8  u32 size       of the whole RRset with this head
/// 12 u32 dataSize   of the record bytes
/// 16 record bytes; owner names are compression pointers to the question (C00C)
/// .. weighted: u32 cumulative weight per record
/// .. additional: u16 records, u16 fixups, u32 bytes, fixups, bytes
/// </code>
/// A fixup (u16 position within the additional bytes, u16 offset within the record bytes) is a compression
/// pointer to a name in the answer, known only once the question's length is.
/// </summary>
internal static unsafe class Entry
{
    public const int OwnerAt = 0;
    public const int SizeAt = 4;
    public const int FlagsAt = 8;
    public const int SetsAt = 9;
    public const int NameLengthAt = 10;
    public const int NameAt = 11;
    public const byte FlagMerged = 1;

    public const int SetHead = 16;
    public const byte SetWeighted = 1;
    public const byte SetAdditional = 2;

    public static ReadOnlySpan<byte> Name(byte* entry) => new(entry + NameAt, entry[NameLengthAt]);

    public static int Size(byte* entry) => Unsafe.ReadUnaligned<int>(entry + SizeAt);

    public static int Owner(byte* entry) => Unsafe.ReadUnaligned<int>(entry + OwnerAt);

    public static ReadOnlySpan<byte> Span(byte* entry) => new(entry, Size(entry));

    /// <summary>The RRset of a type, or null.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static byte* FindSet(byte* entry, ushort type)
    {
        var set = entry + NameAt + entry[NameLengthAt];
        for (var n = entry[SetsAt]; n > 0; n--)
        {
            if (Unsafe.ReadUnaligned<ushort>(set) == type)
                return set;
            set += Unsafe.ReadUnaligned<int>(set + 8);
        }

        return null;
    }

    public static byte* FirstSet(byte* entry) => entry[SetsAt] == 0 ? null : entry + NameAt + entry[NameLengthAt];

    public static ushort Type(byte* set) => Unsafe.ReadUnaligned<ushort>(set);

    public static int Count(byte* set) => Unsafe.ReadUnaligned<ushort>(set + 2);

    public static int FixedSize(byte* set) => set[4];

    public static byte SetFlags(byte* set) => set[5];

    public static int Limit(byte* set) => Unsafe.ReadUnaligned<ushort>(set + 6);

    public static int SetSize(byte* set) => Unsafe.ReadUnaligned<int>(set + 8);

    public static int DataSize(byte* set) => Unsafe.ReadUnaligned<int>(set + 12);

    public static byte* Data(byte* set) => set + SetHead;
}
