namespace OverlayNet.Dns;

/// <summary>RR types (IANA "DNS parameters"); any other value may appear on the wire.</summary>
public enum RrType : ushort
{
    A = 1,
    NS = 2,
    CNAME = 5,
    SOA = 6,
    PTR = 12,
    HINFO = 13,
    MX = 15,
    TXT = 16,
    AAAA = 28,
    SRV = 33,
    DNAME = 39,
    OPT = 41,
    RRSIG = 46,
    NSEC = 47,
    NSEC3 = 50,
    IXFR = 251,
    AXFR = 252,
    ANY = 255,
}

/// <summary>Response codes (RFC 1035 §4.1.1, RFC 6891 §9, RFC 7873 §8).</summary>
public enum Rcode
{
    NoError = 0,
    FormErr = 1,
    ServFail = 2,
    NxDomain = 3,
    NotImp = 4,
    Refused = 5,
    BadVers = 16,
    BadCookie = 23,
}

/// <summary>Header layout (RFC 1035 §4.1.1): all fields are 16-bit big-endian.</summary>
internal static class Header
{
    public const int Size = 12;
    public const int Flags1 = 2;
    public const int Flags2 = 3;
    public const int QdCount = 4;
    public const int AnCount = 6;
    public const int NsCount = 8;
    public const int ArCount = 10;

    // Byte 2: QR, OPCODE, AA, TC, RD.
    public const byte Qr = 0x80;
    public const byte OpcodeMask = 0x78;
    public const byte Aa = 0x04;
    public const byte Tc = 0x02;
    public const byte Rd = 0x01;

    // Byte 3: RA, Z, AD, CD, RCODE.
    public const byte Ra = 0x80;
    public const byte Ad = 0x20;
    public const byte Cd = 0x10;
    public const byte RcodeMask = 0x0F;
}

internal static class Limits
{
    /// <summary>RFC 1035 §3.1: 255 octets with the root's length octet.</summary>
    public const int NameLength = 255;

    public const int LabelLength = 63;

    /// <summary>Without EDNS (RFC 1035 §4.2.1).</summary>
    public const int PlainUdp = 512;

    /// <summary>What crosses any sane path unfragmented (DNS flag day 2020).</summary>
    public const int EdnsUdp = 1232;

    public const int Tcp = 65535;
}

internal static class ClassCode
{
    public const ushort In = 1;
    public const ushort Any = 255;
}

/// <summary>EDNS option codes.</summary>
internal static class EdnsOption
{
    /// <summary>RFC 7873.</summary>
    public const ushort Cookie = 10;

    /// <summary>RFC 7828.</summary>
    public const ushort TcpKeepalive = 11;

    /// <summary>RFC 8914.</summary>
    public const ushort ExtendedError = 15;
}
