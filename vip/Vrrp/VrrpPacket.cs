using System.Buffers.Binary;
using System.Net;
using System.Net.Sockets;

namespace OverlayNet.Vip.Vrrp;

/// <summary>The two versions in use: RFC 3768 (IPv4 only, whole seconds) and RFC 9568 (both families, centiseconds).</summary>
public enum VrrpVersion : byte
{
    V2 = 2,
    V3 = 3,
}

/// <summary>
/// What the checksum of a VRRPv3 packet over IPv4 covers. RFC 9568 §5.2.8 says the message alone; keepalived and FRR
/// read RFC 5798 as message and pseudo-header. IPv6 always has the pseudo-header, version 2 never.
/// </summary>
public enum VrrpChecksumCoverage
{
    PseudoHeader,
    MessageOnly,
}

/// <summary>Why a packet of IP protocol 112 is not an advertisement for us.</summary>
public enum VrrpPacketError
{
    None,
    Truncated,

    /// <summary>Bytes beyond the addresses: an authentication trailer, or not VRRP.</summary>
    TrailingData,
    UnknownVersion,
    UnknownType,

    /// <summary>CARP or UCARP, which share the protocol number and the IPv4 group.</summary>
    Carp,
    HopLimitNot255,
    ZeroVirtualRouterId,
    NoAddresses,
    ZeroInterval,

    /// <summary>Version 2 with an authentication type other than 0; RFC 3768 removed them.</summary>
    Authentication,
    Checksum,
}

/// <summary>The IP header's part in judging a VRRP message.</summary>
/// <param name="Source">Sender; its family decides the size of the addresses in the message.</param>
/// <param name="Destination">A multicast group or, with unicast peers, our own address.</param>
/// <param name="HopLimit">IPv4 TTL or IPv6 hop limit as received.</param>
public readonly record struct VrrpEnvelope(IPAddress Source, IPAddress Destination, int HopLimit);

/// <summary>
/// A parsed VRRP message (RFC 9568 §5.1, RFC 3768 §5.1) as a view over the bytes received. Fields are in network byte
/// order on the wire and in host order here.
/// </summary>
public readonly ref struct VrrpPacket
{
    public const int ProtocolNumber = 112;
    public const int HopLimit = 255;
    public const int HeaderLength = 8;
    public const byte OwnerPriority = 255;

    /// <summary>"The Active Router has stopped participating" (RFC 9568 §5.2.4).</summary>
    public const byte ReleasePriority = 0;
    public const int MaxAddresses = 255;
    public static readonly IPAddress Group4 = IPAddress.Parse("224.0.0.18");
    public static readonly IPAddress Group6 = IPAddress.Parse("ff02::12");

    private const byte TypeAdvertisement = 1;
    private const int AuthenticationLength = 8;
    private const int ChecksumOffset = 6;
    private const int CarpLength = 36;
    private const byte CarpAuthLength = 7;

    private readonly ReadOnlySpan<byte> _message;
    private readonly int _addressLength;

    private VrrpPacket(ReadOnlySpan<byte> message, int addressLength, VrrpChecksumCoverage coverage)
    {
        _message = message;
        _addressLength = addressLength;
        ChecksumCoverage = coverage;
    }

    public VrrpVersion Version => (VrrpVersion)(_message[0] >> 4);
    public byte VirtualRouterId => _message[1];
    public byte Priority => _message[2];
    public int AddressCount => _message[3];

    /// <summary>Advertisement interval in centiseconds, for version 2 converted from seconds.</summary>
    public int IntervalCs => Version == VrrpVersion.V2
        ? _message[5] * 100
        : BinaryPrimitives.ReadUInt16BigEndian(_message[4..]) & 0x0fff;

    /// <summary>Which of the two readings of the v3 IPv4 checksum the sender uses.</summary>
    public VrrpChecksumCoverage ChecksumCoverage { get; }

    public IPAddress GetAddress(int index)
    {
        ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual((uint)index, (uint)AddressCount, nameof(index));
        return new IPAddress(_message.Slice(HeaderLength + index * _addressLength, _addressLength));
    }

    /// <summary>Copies the view into a record that outlives the receive buffer.</summary>
    public VrrpAdvertisement ToAdvertisement(IPAddress source)
    {
        var addresses = new IPAddress[AddressCount];
        for (var i = 0; i < addresses.Length; i++)
            addresses[i] = GetAddress(i);
        return new VrrpAdvertisement
        {
            Version = Version,
            VirtualRouterId = VirtualRouterId,
            Priority = Priority,
            IntervalCs = IntervalCs,
            Source = source,
            Addresses = addresses,
        };
    }

    /// <summary>
    /// The checks of RFC 9568 §7.1 that need no configuration. Either checksum coverage is taken for v3 over IPv4.
    /// </summary>
    /// <param name="message">The IP payload, without Ethernet padding.</param>
    /// <param name="requireHopLimit255">False for unicast peers beyond a router.</param>
    public static VrrpPacketError TryParse(
        ReadOnlySpan<byte> message, VrrpEnvelope envelope, bool requireHopLimit255, out VrrpPacket packet)
    {
        packet = default;
        if (message.Length < HeaderLength)
            return VrrpPacketError.Truncated;
        var version = (VrrpVersion)(message[0] >> 4);
        var ip6 = envelope.Source.AddressFamily == AddressFamily.InterNetworkV6;
        if (version == VrrpVersion.V2 && message.Length == CarpLength && message[3] == CarpAuthLength)
            return VrrpPacketError.Carp;
        if (version != VrrpVersion.V3 && (version != VrrpVersion.V2 || ip6))
            return VrrpPacketError.UnknownVersion;
        if ((message[0] & 0x0f) != TypeAdvertisement)
            return VrrpPacketError.UnknownType;
        if (requireHopLimit255 && envelope.HopLimit != HopLimit)
            return VrrpPacketError.HopLimitNot255;
        if (message[1] == 0)
            return VrrpPacketError.ZeroVirtualRouterId;
        if (message[3] == 0)
            return VrrpPacketError.NoAddresses;

        var addressLength = ip6 ? 16 : 4;
        var length = MessageLength(version, message[3], addressLength);
        if (message.Length < length)
            return VrrpPacketError.Truncated;
        if (message.Length > length)
            return VrrpPacketError.TrailingData;
        if (version == VrrpVersion.V2 && message[4] != 0)
            return VrrpPacketError.Authentication;
        if (!TryChecksum(version, message, envelope, out var coverage))
            return VrrpPacketError.Checksum;

        packet = new VrrpPacket(message, addressLength, coverage);
        return packet.IntervalCs == 0 ? VrrpPacketError.ZeroInterval : VrrpPacketError.None;
    }

    /// <summary>Writes an advertisement with its checksum and returns its length.</summary>
    /// <param name="destination">Where the packet goes: part of the pseudo-header.</param>
    /// <exception cref="ArgumentException">The addresses are none, more than 255, of mixed families, or the buffer is short.</exception>
    public static int Write(
        Span<byte> buffer, VrrpAdvertisement advertisement, IPAddress destination, VrrpChecksumCoverage coverage)
    {
        var ip6 = advertisement.Source.AddressFamily == AddressFamily.InterNetworkV6;
        var addressLength = ip6 ? 16 : 4;
        var count = advertisement.Addresses.Count;
        if (count is 0 or > MaxAddresses)
            throw new ArgumentException($"addresses: {count} given, a VRRP packet carries 1 to {MaxAddresses}", nameof(advertisement));
        var length = MessageLength(advertisement.Version, count, addressLength);
        if (buffer.Length < length)
            throw new ArgumentException($"buffer: {buffer.Length} bytes given, {length} needed", nameof(buffer));

        var message = buffer[..length];
        message.Clear();
        message[0] = (byte)((int)advertisement.Version << 4 | TypeAdvertisement);
        message[1] = advertisement.VirtualRouterId;
        message[2] = advertisement.Priority;
        message[3] = (byte)count;
        if (advertisement.Version == VrrpVersion.V2)
            message[5] = (byte)(advertisement.IntervalCs / 100);
        else
            BinaryPrimitives.WriteUInt16BigEndian(message[4..], (ushort)(advertisement.IntervalCs & 0x0fff));
        for (var i = 0; i < count; i++)
        {
            var slot = message.Slice(HeaderLength + i * addressLength, addressLength);
            if (!advertisement.Addresses[i].TryWriteBytes(slot, out var written) || written != addressLength)
                throw new ArgumentException($"addresses: {advertisement.Addresses[i]} is not of the sender's family", nameof(advertisement));
        }

        var seed = UsesPseudoHeader(advertisement.Version, ip6, coverage)
            ? InternetChecksum.PseudoHeader(advertisement.Source, destination, length, ProtocolNumber)
            : 0;
        BinaryPrimitives.WriteUInt16BigEndian(message[ChecksumOffset..], InternetChecksum.Finish(InternetChecksum.Add(seed, message)));
        return length;
    }

    private static bool UsesPseudoHeader(VrrpVersion version, bool ip6, VrrpChecksumCoverage coverage) =>
        version == VrrpVersion.V3 && (ip6 || coverage == VrrpChecksumCoverage.PseudoHeader);

    private static int MessageLength(VrrpVersion version, int count, int addressLength) =>
        HeaderLength + count * addressLength + (version == VrrpVersion.V2 ? AuthenticationLength : 0);

    private static bool TryChecksum(
        VrrpVersion version, ReadOnlySpan<byte> message, VrrpEnvelope envelope, out VrrpChecksumCoverage coverage)
    {
        coverage = VrrpChecksumCoverage.MessageOnly;
        var sum = InternetChecksum.Add(0, message);
        if (version == VrrpVersion.V2)
            return InternetChecksum.Finish(sum) == 0;
        var ip6 = envelope.Source.AddressFamily == AddressFamily.InterNetworkV6;
        var pseudo = InternetChecksum.PseudoHeader(envelope.Source, envelope.Destination, message.Length, ProtocolNumber);
        if (InternetChecksum.Finish(sum + pseudo) == 0)
        {
            coverage = VrrpChecksumCoverage.PseudoHeader;
            return true;
        }

        return !ip6 && InternetChecksum.Finish(sum) == 0;
    }
}
