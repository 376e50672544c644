using System.Runtime.CompilerServices;

namespace OverlayNet.Dns.Table;

/// <summary>
/// Pre-encoded answers of one network, keyed by lower-case relative wire name. Entries live in one pinned blob; slots
/// are <c>hash32 &lt;&lt; 32 | offset / 8</c> with linear probing. One writer appends an entry and publishes it by one
/// atomic store of its slot; any number of readers see the old entry or the new one, never a mixture. Old bytes
/// are only reclaimed by copying the living entries into another table (<see cref="CopyTo"/>), which readers of this
/// one keep alive: they must hold the table reference (GC.KeepAlive) for as long as they use a pointer into it.
/// </summary>
internal sealed unsafe class AnswerTable
{
    private const uint Empty = 0;
    private const uint Tombstone = 1;
    private const int FirstOffset = 16;

    private readonly byte[] _blobArray;
    private readonly ulong[] _slotArray;
    private readonly byte* _blob;
    private readonly ulong* _slots;
    private readonly uint _mask;
    private int _used = FirstOffset;
    private int _occupied;

    public AnswerTable(int slots, int blobBytes)
    {
        slots = (int)System.Numerics.BitOperations.RoundUpToPowerOf2((uint)Math.Max(8, slots));
        _slotArray = GC.AllocateArray<ulong>(slots, pinned: true);
        _blobArray = GC.AllocateUninitializedArray<byte>(Math.Max(64, blobBytes), pinned: true);
        _slots = (ulong*)Unsafe.AsPointer(ref _slotArray[0]);
        _blob = (byte*)Unsafe.AsPointer(ref _blobArray[0]);
        _mask = (uint)slots - 1;
    }

    public int Count { get; private set; }

    public int Slots => _slotArray.Length;

    /// <summary>Bytes appended, dead ones included.</summary>
    public int UsedBytes => _used;

    /// <summary>Bytes of entries that were replaced or removed.</summary>
    public int GarbageBytes { get; private set; }

    public int BlobCapacity => _blobArray.Length;

    /// <summary>The entry for a name, or null. Safe beside the writer.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public byte* Find(byte* name, int length, uint hash)
    {
        for (var i = hash & _mask; ; i = (i + 1) & _mask)
        {
            var slot = Volatile.Read(ref _slots[i]);
            var offset = (uint)slot;
            if (offset == Empty)
                return null;
            if ((uint)(slot >> 32) != hash || offset == Tombstone)
                continue;
            var entry = _blob + (nuint)offset * 8;
            if (entry[Entry.NameLengthAt] == length
                && new ReadOnlySpan<byte>(entry + Entry.NameAt, length).SequenceEqual(new ReadOnlySpan<byte>(name, length)))
                return entry;
        }
    }

    /// <summary>
    /// Adds or replaces an encoded entry (<see cref="Entry"/>). False when it does not fit: the caller copies into a
    /// larger table and tries again there. Writer only.
    /// </summary>
    public bool TryPut(ReadOnlySpan<byte> entry, uint hash)
    {
        var size = Align(entry.Length);
        if (_used + size > _blobArray.Length || (_occupied + 1) * 4L > _slotArray.Length * 3L)
            return false;

        var name = entry.Slice(Entry.NameAt, entry[Entry.NameLengthAt]);
        var target = uint.MaxValue;
        uint i;
        for (i = hash & _mask; ; i = (i + 1) & _mask)
        {
            var slot = _slots[i];
            var offset = (uint)slot;
            if (offset == Empty)
                break;
            if (offset == Tombstone || (uint)(slot >> 32) != hash)
                continue;
            var existing = _blob + (nuint)offset * 8;
            if (!Entry.Name(existing).SequenceEqual(name))
                continue;
            if (Entry.Span(existing).SequenceEqual(entry))
                return true;
            GarbageBytes += Align(Entry.Size(existing));
            target = i;
            break;
        }

        if (target == uint.MaxValue)
        {
            // A tombstone is not reused: a reader probing past it for another name must not miss a name that moved.
            target = i;
            _occupied++;
            Count++;
        }

        entry.CopyTo(new Span<byte>(_blob + _used, entry.Length));
        Volatile.Write(ref _slots[target], ((ulong)hash << 32) | (uint)(_used / 8));
        _used += size;
        return true;
    }

    /// <summary>Removes a name; false when it was not there. Writer only.</summary>
    public bool Remove(ReadOnlySpan<byte> name, uint hash)
    {
        for (var i = hash & _mask; ; i = (i + 1) & _mask)
        {
            var slot = _slots[i];
            var offset = (uint)slot;
            if (offset == Empty)
                return false;
            if (offset == Tombstone || (uint)(slot >> 32) != hash)
                continue;
            var existing = _blob + (nuint)offset * 8;
            if (!Entry.Name(existing).SequenceEqual(name))
                continue;
            Volatile.Write(ref _slots[i], Tombstone);
            GarbageBytes += Align(Entry.Size(existing));
            Count--;
            return true;
        }
    }

    /// <summary>A table with the living entries and room for <paramref name="extraBytes"/> and half as many again.</summary>
    public AnswerTable CopyTo(int extraBytes)
    {
        var live = _used - GarbageBytes;
        var copy = new AnswerTable((Count + 1) * 2, (int)Math.Min(Array.MaxLength, live + Math.Max(live / 2, 4096L) + extraBytes));
        foreach (var slot in _slotArray)
        {
            if ((uint)slot > Tombstone)
                copy.TryPut(Entry.Span(_blob + (nuint)(uint)slot * 8), (uint)(slot >> 32));
        }

        GC.KeepAlive(this);
        return copy;
    }

    /// <summary>Calls back with every living entry, in no order. Writer only, or on a table no longer written.</summary>
    public void ForEach(EntryVisitor visit)
    {
        for (var i = 0; i < _slotArray.Length; i++)
        {
            var slot = Volatile.Read(ref _slots[i]);
            if ((uint)slot > Tombstone)
                visit(_blob + (nuint)(uint)slot * 8);
        }

        GC.KeepAlive(this);
    }

    public delegate void EntryVisitor(byte* entry);

    private static int Align(int size) => (size + 7) & ~7;
}
