using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace OverlayNet.Dns.Answer;

/// <summary>A query as the answering code needs it. Lives in scratch memory, one per thread, and is never cleared.</summary>
[SkipLocalsInit]
internal unsafe struct ParsedQuery
{
    /// <summary>Room for a whole name and the vector stores that write past it.</summary>
    private const int NameRoom = Limits.NameLength + 17;

    /// <summary>Lower-case wire name with the root octet.</summary>
    public fixed byte Lower[NameRoom];

    /// <summary>Offset in <see cref="Lower"/> of each label's length octet.</summary>
    public fixed byte LabelAt[128];

    /// <summary>Octets of the name with the root's.</summary>
    public int NameLength;
    public int Labels;
    public int QuestionEnd;
    public ushort Type;
    public ushort Class;
    public bool HasOpt;
    public bool DnssecOk;
    public byte EdnsVersion;
    public ushort UdpSize;

    /// <summary>Octets of the COOKIE option's data; 0 when there is none.</summary>
    public int CookieLength;

    /// <summary>A copy, because the answer is written over the packet before the cookie is answered.</summary>
    public fixed byte Cookie[40];
    public bool KeepaliveAsked;

    public ReadOnlySpan<byte> Name => new(Unsafe.AsPointer(ref Lower[0]), NameLength);

    /// <summary>
    /// Parses one question at offset 12. False: the name is compressed, too long or cut off, or type and class are.
    /// </summary>
    public bool TryParseQuestion(byte* packet, int length)
    {
        var position = Header.Size;
        var labels = 0;
        while (true)
        {
            if (position >= length)
                return false;
            var size = packet[position];
            if (size == 0)
                break;
            if (size > Limits.LabelLength)
                return false;
            LabelAt[labels++] = (byte)(position - Header.Size);
            position += size + 1;
            if (position - Header.Size >= Limits.NameLength)
                return false;
        }

        if (position + 5 > length)
            return false;
        Labels = labels;
        NameLength = position + 1 - Header.Size;
        QuestionEnd = position + 5;
        Type = (ushort)((packet[position + 1] << 8) | packet[position + 2]);
        Class = (ushort)((packet[position + 3] << 8) | packet[position + 4]);
        fixed (byte* lower = Lower)
            ToLower(packet + Header.Size, lower, NameLength, length - Header.Size);
        return true;
    }

    /// <summary>
    /// Lower-cases the name with its length octets: these are at most 63 and no letter is. Sixteen at a time while the
    /// packet has as many left to read.
    /// </summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void ToLower(byte* from, byte* to, int length, int readable)
    {
        var i = 0;
        for (; i < length && i + 16 <= readable; i += 16)
        {
            var v = Vector128.Load(from + i);
            var upper = Vector128.LessThan(v - Vector128.Create((byte)'A'), Vector128.Create((byte)26));
            (v | (upper & Vector128.Create((byte)0x20))).Store(to + i);
        }

        for (; i < length; i++)
            to[i] = DnsName.ToLower(from[i]);
    }

    /// <summary>
    /// Parses what follows the question: skips records, reads the one OPT (RFC 6891 §6.1). False when malformed: a
    /// record cut off, two OPTs, an OPT elsewhere than in the additional section, options that overrun it, a cookie of
    /// illegal length (RFC 7873 §5.2.2).
    /// </summary>
    public bool TryParseRecords(byte* packet, int length, int answersAndAuthorities, int additional)
    {
        HasOpt = false;
        DnssecOk = false;
        EdnsVersion = 0;
        UdpSize = Limits.PlainUdp;
        CookieLength = 0;
        KeepaliveAsked = false;
        var position = QuestionEnd;
        for (var n = answersAndAuthorities + additional; n > 0; n--)
        {
            var ownerAt = position;
            if (!SkipName(packet, length, ref position) || position + 10 > length)
                return false;
            var type = (packet[position] << 8) | packet[position + 1];
            var dataLength = (packet[position + 8] << 8) | packet[position + 9];
            var dataAt = position + 10;
            if (dataAt + dataLength > length)
                return false;
            if (type == (int)RrType.OPT)
            {
                if (n > additional || HasOpt || packet[ownerAt] != 0)
                    return false;
                HasOpt = true;
                UdpSize = (ushort)((packet[position + 2] << 8) | packet[position + 3]);
                EdnsVersion = packet[position + 5];
                DnssecOk = (packet[position + 6] & 0x80) != 0;
                if (!TryParseOptions(packet, dataAt, dataLength))
                    return false;
            }

            position = dataAt + dataLength;
        }

        return position == length;
    }

    private bool TryParseOptions(byte* packet, int position, int length)
    {
        var end = position + length;
        while (position < end)
        {
            if (position + 4 > end)
                return false;
            var code = (packet[position] << 8) | packet[position + 1];
            var size = (packet[position + 2] << 8) | packet[position + 3];
            position += 4;
            if (position + size > end)
                return false;
            if (code == EdnsOption.Cookie && CookieLength == 0)
            {
                if (size != 8 && size is < 16 or > 40)
                    return false;
                CookieLength = size;
                for (var i = 0; i < size; i++)
                    Cookie[i] = packet[position + i];
            }
            else if (code == EdnsOption.TcpKeepalive)
            {
                KeepaliveAsked = true;
            }

            position += size;
        }

        return true;
    }

    private static bool SkipName(byte* packet, int length, ref int position)
    {
        while (position < length)
        {
            var size = packet[position];
            if (size == 0)
            {
                position++;
                return true;
            }

            if (size >= 0xC0)
            {
                position += 2;
                return position <= length;
            }

            if (size > Limits.LabelLength)
                return false;
            position += size + 1;
        }

        return false;
    }
}
