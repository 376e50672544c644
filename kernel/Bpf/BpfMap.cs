using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace OverlayNet.Kernel.Bpf;

/// <summary>What a map is made of.</summary>
/// <param name="Name">Up to 15 characters are shown by the kernel.</param>
/// <param name="KeySize">Octets.</param>
/// <param name="ValueSize">Octets.</param>
/// <param name="MaxEntries">Fixed for the map's life; 0 for socket storage.</param>
public sealed record BpfMapShape(BpfMapType Type, string Name, int KeySize, int ValueSize, int MaxEntries, BpfMapFlags Flags = BpfMapFlags.None);

/// <summary>A map of the kernel's, shared between programs and processes. Keys and values are memory images, host byte order unless the user says otherwise.</summary>
public sealed unsafe class BpfMap : BpfObject
{
    private readonly int keySize;
    private readonly int valueSize;

    private BpfMap(int fd, BpfMapShape shape) : base(fd, shape.Name)
    {
        Shape = shape;
        keySize = shape.KeySize;
        valueSize = shape.ValueSize;
    }

    public BpfMapShape Shape { get; }

    /// <summary>The kernel's number for this map.</summary>
    public uint Id => Info<BpfSystemCall.MapInfo>(Fd, Name).Id;

    /// <exception cref="KernelException">The kernel refused: EPERM without CAP_BPF, EINVAL for a type or flag it does not know, E2BIG or ENOMEM for the size.</exception>
    public static BpfMap Create(BpfMapShape shape)
    {
        var request = new BpfSystemCall.MapCreate
        {
            Type = shape.Type,
            KeySize = (uint)shape.KeySize,
            ValueSize = (uint)shape.ValueSize,
            MaxEntries = (uint)shape.MaxEntries,
            Flags = shape.Flags,
            Name = BpfSystemCall.ObjectName.From(shape.Name),
        };
        using var types = shape.Type == BpfMapType.SocketStorage ? BpfTypes.Load(shape.ValueSize) : null;
        if (types is not null)
        {
            request.TypesFd = (uint)types.Fd;
            request.KeyTypeId = BpfTypes.KeyTypeId;
            request.ValueTypeId = BpfTypes.ValueTypeId;
        }
        return new BpfMap(BpfSystemCall.Call(BpfSystemCall.Command.MapCreate, ref request, $"create BPF map {shape.Name} of {shape.MaxEntries} entries"), shape);
    }

    /// <summary>Takes over a descriptor, reading the shape from the kernel.</summary>
    internal static BpfMap Adopt(int fd, string name)
    {
        var info = Info<BpfSystemCall.MapInfo>(fd, name);
        return new BpfMap(fd, new BpfMapShape(info.Type, info.Name.ToString(), (int)info.KeySize, (int)info.ValueSize, (int)info.MaxEntries, info.Flags));
    }

    /// <returns>False when there is no such key.</returns>
    /// <exception cref="KernelException">Any other refusal.</exception>
    public bool TryGet<TKey, TValue>(TKey key, out TValue value) where TKey : unmanaged where TValue : unmanaged
    {
        Check(Unsafe.SizeOf<TKey>(), Unsafe.SizeOf<TValue>());
        TValue found = default;
        var request = Element(&key, &found, 0);
        var result = BpfSystemCall.TryCall(BpfSystemCall.Command.MapLookup, ref request);
        value = found;
        if (result < 0 && Marshal.GetLastPInvokeError() != Libc.ENOENT)
            throw Libc.Failure($"look up in BPF map {Name}");
        return result >= 0;
    }

    /// <exception cref="KernelException">E2BIG or ENOMEM when the map is full, EEXIST or ENOENT by <paramref name="mode"/>.</exception>
    public void Set<TKey, TValue>(TKey key, TValue value, BpfUpdate mode = BpfUpdate.Any) where TKey : unmanaged where TValue : unmanaged
    {
        Check(Unsafe.SizeOf<TKey>(), Unsafe.SizeOf<TValue>());
        var request = Element(&key, &value, (ulong)mode);
        BpfSystemCall.Call(BpfSystemCall.Command.MapUpdate, ref request, $"update BPF map {Name}");
    }

    /// <returns>False when there was no such key.</returns>
    /// <exception cref="KernelException">Any other refusal.</exception>
    public bool Remove<TKey>(TKey key) where TKey : unmanaged
    {
        Check(Unsafe.SizeOf<TKey>(), valueSize);
        var request = Element(&key, null, 0);
        if (BpfSystemCall.TryCall(BpfSystemCall.Command.MapDelete, ref request) >= 0)
            return true;
        return Marshal.GetLastPInvokeError() == Libc.ENOENT ? false : throw Libc.Failure($"delete from BPF map {Name}");
    }

    /// <summary>Writes many entries with one system call for many (BPF_MAP_UPDATE_BATCH, Linux 5.6).</summary>
    /// <exception cref="KernelException">The map is full; entries before the refused one are written.</exception>
    public void SetAll<TKey, TValue>(ReadOnlySpan<TKey> keys, ReadOnlySpan<TValue> values) where TKey : unmanaged where TValue : unmanaged
    {
        Check(Unsafe.SizeOf<TKey>(), Unsafe.SizeOf<TValue>());
        ArgumentOutOfRangeException.ThrowIfNotEqual(values.Length, keys.Length);
        if (keys.IsEmpty)
            return;
        fixed (TKey* key = keys)
        fixed (TValue* value = values)
            Batch(BpfSystemCall.Command.MapUpdateBatch, (byte*)key, (byte*)value, keys.Length, $"update {keys.Length} entries of BPF map {Name}");
    }

    /// <summary>Deletes many entries; those that are not there are passed over.</summary>
    /// <exception cref="KernelException">Any other refusal.</exception>
    public void RemoveAll<TKey>(ReadOnlySpan<TKey> keys) where TKey : unmanaged
    {
        Check(Unsafe.SizeOf<TKey>(), valueSize);
        fixed (TKey* key = keys)
        {
            for (var done = 0; done < keys.Length;)
            {
                var request = new BpfSystemCall.MapBatch { Keys = (ulong)(key + done), Count = (uint)(keys.Length - done), MapFd = (uint)Fd };
                var result = BpfSystemCall.TryCall(BpfSystemCall.Command.MapDeleteBatch, ref request);
                // The batch stops at a missing key, with the count of those before it.
                done += (int)request.Count + (result < 0 ? 1 : 0);
                if (result < 0 && Marshal.GetLastPInvokeError() != Libc.ENOENT)
                    throw Libc.Failure($"delete {keys.Length} entries of BPF map {Name}");
            }
        }
    }

    /// <summary>
    /// All entries, by BPF_MAP_LOOKUP_BATCH. Entries that change meanwhile may appear in either form; an entry is not repeated.
    /// </summary>
    public List<KeyValuePair<TKey, TValue>> Entries<TKey, TValue>() where TKey : unmanaged where TValue : unmanaged
    {
        Check(Unsafe.SizeOf<TKey>(), Unsafe.SizeOf<TValue>());
        var entries = new List<KeyValuePair<TKey, TValue>>();
        var room = Math.Max(1, Math.Min(Shape.MaxEntries, 4096));
        var keys = new TKey[room];
        var values = new TValue[room];
        // The cursor is a bucket number or a key, whichever is longer (kernel/bpf/syscall.c).
        var cursor = stackalloc byte[Math.Max(keySize, sizeof(uint))];
        var first = true;
        while (true)
        {
            fixed (TKey* key = keys)
            fixed (TValue* value = values)
            {
                var request = new BpfSystemCall.MapBatch
                {
                    InBatch = first ? 0 : (ulong)cursor,
                    OutBatch = (ulong)cursor,
                    Keys = (ulong)key,
                    Values = (ulong)value,
                    Count = (uint)keys.Length,
                    MapFd = (uint)Fd,
                };
                var result = BpfSystemCall.TryCall(BpfSystemCall.Command.MapLookupBatch, ref request);
                var errno = result < 0 ? Marshal.GetLastPInvokeError() : 0;
                if (errno == Libc.ENOSPC)
                {
                    // One bucket holds more than the arrays: take larger ones.
                    keys = new TKey[2 * keys.Length];
                    values = new TValue[keys.Length];
                    continue;
                }
                if (errno is not 0 and not Libc.ENOENT)
                    throw Libc.Failure($"read BPF map {Name}");
                for (var i = 0; i < request.Count; i++)
                    entries.Add(new(keys[i], values[i]));
                if (errno == Libc.ENOENT)
                    return entries;
                first = false;
            }
        }
    }

    /// <summary>Every key, one system call each: for the map types without batches (socket storage has neither).</summary>
    public List<TKey> Keys<TKey>() where TKey : unmanaged
    {
        Check(Unsafe.SizeOf<TKey>(), valueSize);
        var keys = new List<TKey>();
        TKey current = default, next = default;
        var request = Element(null, &next, 0);
        while (BpfSystemCall.TryCall(BpfSystemCall.Command.MapNextKey, ref request) >= 0)
        {
            keys.Add(next);
            current = next;
            request.Key = (ulong)&current;
        }
        return Marshal.GetLastPInvokeError() == Libc.ENOENT ? keys : throw Libc.Failure($"walk BPF map {Name}");
    }

    private BpfSystemCall.MapElement Element(void* key, void* value, ulong flags) =>
        new() { MapFd = (uint)Fd, Key = (ulong)key, Value = (ulong)value, Flags = flags };

    private void Batch(BpfSystemCall.Command command, byte* keys, byte* values, int count, string what)
    {
        for (var done = 0; done < count;)
        {
            var request = new BpfSystemCall.MapBatch
            {
                Keys = (ulong)(keys + (long)done * keySize),
                Values = (ulong)(values + (long)done * valueSize),
                Count = (uint)(count - done),
                MapFd = (uint)Fd,
            };
            BpfSystemCall.Call(command, ref request, what);
            done += (int)request.Count;
        }
    }

    private void Check(int key, int value)
    {
        if (key != keySize || value != valueSize)
            throw new ArgumentException($"BPF map {Name} has keys of {keySize} and values of {valueSize} octets, not {key} and {value}");
    }
}
