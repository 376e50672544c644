using System.Buffers.Binary;

namespace OverlayNet.Kernel.Bpf;

/// <summary>
/// The least type information (BTF, the kernel's Documentation/bpf/btf.rst) that a socket storage map must be made
/// with: an u32 as its key and an array of u32 as its value.
/// </summary>
internal sealed class BpfTypes : BpfObject
{
    internal const uint KeyTypeId = 1, ValueTypeId = 2;
    private const int HeaderLength = 24, Magic = 0xeb9f;
    private const uint KindInt = 1u << 24, KindArray = 3u << 24;

    private BpfTypes(int fd) : base(fd, "btf")
    {
    }

    /// <exception cref="KernelException">The kernel refused.</exception>
    internal static unsafe BpfTypes Load(int valueSize)
    {
        var encoded = Encode(valueSize);
        fixed (byte* types = encoded)
        {
            var request = new BpfSystemCall.TypesLoad { Types = (ulong)types, Size = (uint)encoded.Length };
            return new BpfTypes(BpfSystemCall.Call(BpfSystemCall.Command.TypesLoad, ref request, "load BPF type information"));
        }
    }

    /// <param name="valueSize">Octets, a multiple of 4.</param>
    internal static byte[] Encode(int valueSize)
    {
        if (valueSize % 4 != 0)
            throw new ArgumentException($"a value of {valueSize} octets is not made of 32-bit words", nameof(valueSize));
        ReadOnlySpan<byte> names = "\0u32\0"u8;
        ReadOnlySpan<uint> types =
        [
            1, KindInt, 4, 32, // u32: name at 1, size 4, then encoding 0 | offset 0 | 32 bits
            0, KindArray, 0, 1, 1, (uint)(valueSize / 4), // element type 1, index type 1, elements
        ];
        var blob = new byte[HeaderLength + 4 * types.Length + names.Length];
        BinaryPrimitives.WriteUInt16LittleEndian(blob, Magic);
        blob[2] = 1;
        ReadOnlySpan<int> header = [HeaderLength, 0, 4 * types.Length, 4 * types.Length, names.Length];
        for (var i = 0; i < header.Length; i++)
            BinaryPrimitives.WriteInt32LittleEndian(blob.AsSpan(4 + 4 * i), header[i]);
        for (var i = 0; i < types.Length; i++)
            BinaryPrimitives.WriteUInt32LittleEndian(blob.AsSpan(HeaderLength + 4 * i), types[i]);
        names.CopyTo(blob.AsSpan(HeaderLength + 4 * types.Length));
        return blob;
    }
}
