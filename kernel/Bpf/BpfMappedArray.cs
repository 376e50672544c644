using System.Runtime.CompilerServices;

namespace OverlayNet.Kernel.Bpf;

/// <summary>
/// The values of an array map made with <see cref="BpfMapFlags.Mappable"/>, in this process's memory: reading and
/// writing them takes no system call, and programs see a write at once. Aligned 4 and 8 octet fields are written whole;
/// larger values are not.
/// </summary>
public sealed unsafe class BpfMappedArray<T> : IDisposable where T : unmanaged
{
    private readonly nuint length;
    private byte* memory;

    /// <exception cref="KernelException">The map is not mappable.</exception>
    /// <exception cref="ArgumentException">The value is not that large. The kernel keeps values 8 octets apart at least.</exception>
    public BpfMappedArray(BpfMap map)
    {
        if (sizeof(T) != map.Shape.ValueSize || sizeof(T) % 8 != 0)
            throw new ArgumentException($"BPF map {map.Name} has values of {map.Shape.ValueSize} octets; {typeof(T).Name} has {sizeof(T)}, and a multiple of 8 is needed");
        Length = map.Shape.MaxEntries;
        length = (nuint)sizeof(T) * (nuint)Length;
        memory = (byte*)Libc.MapMemory(null, length, Libc.PROT_READ | Libc.PROT_WRITE, Libc.MAP_SHARED, map.Fd, 0);
        if (memory == (byte*)Libc.MAP_FAILED)
        {
            memory = null;
            throw Libc.Failure($"map the memory of BPF map {map.Name}");
        }
    }

    ~BpfMappedArray() => Unmap();

    public int Length { get; }

    /// <summary>A value in place.</summary>
    /// <exception cref="ArgumentOutOfRangeException">No such index.</exception>
    /// <exception cref="ObjectDisposedException">Unmapped already.</exception>
    public ref T this[int index]
    {
        get
        {
            ObjectDisposedException.ThrowIf(memory is null, this);
            ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual((uint)index, (uint)Length, nameof(index));
            return ref Unsafe.AsRef<T>(memory + (nint)sizeof(T) * index);
        }
    }

    public void Dispose()
    {
        Unmap();
        GC.SuppressFinalize(this);
    }

    private void Unmap()
    {
        if (memory is not null)
            Libc.UnmapMemory(memory, length);
        memory = null;
    }
}
