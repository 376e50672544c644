using System.Buffers.Binary;
using System.Net;
using System.Net.Sockets;
using System.Text;

namespace OverlayNet.Dns.Taps;

/// <summary>
/// One answer as a message of dnstap (https://dnstap.info, dnstap.proto): type CLIENT_RESPONSE, which carries the question
/// too. Protobuf by hand: seven fields of three kinds.
/// </summary>
internal static class DnstapMessage
{
    private const int ClientResponse = 6, MessageType = 1;
    private const int Varint = 0, Bytes = 2, Fixed32 = 5;

    /// <param name="identity">Name of this server.</param>
    /// <param name="at">When it was answered.</param>
    /// <param name="answer">The answer as sent.</param>
    public static byte[] Encode(string identity, IPAddress client, bool tcp, DateTimeOffset at, ReadOnlySpan<byte> answer)
    {
        using var message = new MemoryStream(answer.Length + 64);
        Number(message, 1, ClientResponse);
        Number(message, 2, client.AddressFamily == AddressFamily.InterNetwork ? 1u : 2u);
        Number(message, 3, tcp ? 2u : 1u);
        Data(message, 4, client.GetAddressBytes());
        Number(message, 12, (ulong)at.ToUnixTimeSeconds());
        Nanoseconds(message, 13, (uint)(at.Ticks % TimeSpan.TicksPerSecond * 100));
        Data(message, 14, answer);

        using var frame = new MemoryStream((int)message.Length + 64);
        Data(frame, 1, Encoding.UTF8.GetBytes(identity));
        Data(frame, 2, "overlaynet"u8);
        Data(frame, 14, message.GetBuffer().AsSpan(0, (int)message.Length));
        Number(frame, 15, MessageType);
        return frame.ToArray();
    }

    private static void Number(MemoryStream output, int field, ulong value)
    {
        Base128(output, (ulong)((field << 3) | Varint));
        Base128(output, value);
    }

    private static void Data(MemoryStream output, int field, ReadOnlySpan<byte> value)
    {
        Base128(output, (ulong)((field << 3) | Bytes));
        Base128(output, (ulong)value.Length);
        output.Write(value);
    }

    private static void Nanoseconds(MemoryStream output, int field, uint value)
    {
        Base128(output, (ulong)((field << 3) | Fixed32));
        Span<byte> word = stackalloc byte[4];
        BinaryPrimitives.WriteUInt32LittleEndian(word, value);
        output.Write(word);
    }

    private static void Base128(MemoryStream output, ulong value)
    {
        for (; value >= 0x80; value >>= 7)
            output.WriteByte((byte)(value | 0x80));
        output.WriteByte((byte)value);
    }
}
