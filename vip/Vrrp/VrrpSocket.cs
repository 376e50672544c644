using System.Net;
using System.Net.Sockets;
using OverlayNet.Kernel;

namespace OverlayNet.Vip.Vrrp;

/// <summary>
/// The wire of one virtual router: protocol 112 on one interface, hop limit 255, multicast or to unicast peers. A filter
/// in the kernel passes this VRID only. Not thread-safe.
/// </summary>
public sealed class VrrpSocket : IDisposable
{
    private const int TrafficClassNetworkControl = 0xc0;
    private readonly VrrpConfig _config;
    private readonly string _interfaceName;
    private readonly int _interfaceIndex;
    private readonly RawSocket _receiver;
    private readonly byte[] _buffer = new byte[8192];
    private RawSocket? _sender;
    private IPAddress? _source;

    /// <summary>Opens the receiving side in the calling thread's namespace.</summary>
    /// <exception cref="KernelException">The kernel refused: no CAP_NET_RAW, no such interface.</exception>
    public VrrpSocket(VrrpConfig config, string interfaceName, int interfaceIndex)
    {
        (_config, _interfaceName, _interfaceIndex) = (config, interfaceName, interfaceIndex);
        _receiver = new RawSocket(config.Family, VrrpPacket.ProtocolNumber, interfaceName, interfaceIndex);
        try
        {
            _receiver.AttachFilter(SocketFilter.PayloadByte(ip4: !Ip6, offset: 1, config.VirtualRouterId));
            if (config.UnicastPeers.Count == 0)
                _receiver.JoinGroup(Group);
        }
        catch
        {
            _receiver.Dispose();
            throw;
        }
    }

    /// <summary>For poll(2).</summary>
    public int Fd => _receiver.Fd;

    /// <summary>Packets that were not advertisements for us, by cause.</summary>
    public Dictionary<VrrpPacketError, long> Refused { get; } = [];

    private bool Ip6 => _config.Family == AddressFamily.InterNetworkV6;
    private IPAddress Group => Ip6 ? VrrpPacket.Group6 : VrrpPacket.Group4;

    /// <summary>Sends an advertisement to the group or to every peer.</summary>
    /// <returns>False when at least one could not be sent now.</returns>
    /// <exception cref="KernelException">The source address is gone.</exception>
    public bool TrySend(VrrpAdvertisement advertisement)
    {
        var sender = SenderFrom(advertisement.Source);
        Span<byte> buffer = stackalloc byte[VrrpPacket.HeaderLength + 16 * VrrpPacket.MaxAddresses];
        var all = true;
        foreach (var destination in _config.UnicastPeers.Count == 0 ? [Group] : _config.UnicastPeers)
        {
            var length = VrrpPacket.Write(buffer, advertisement, destination, _config.Checksum);
            all &= sender.TrySend(buffer[..length], destination);
        }

        return all;
    }

    /// <summary>Takes the next advertisement; what is none is counted in <see cref="Refused"/> and passed over.</summary>
    /// <returns>Null when nothing is waiting.</returns>
    public VrrpAdvertisement? TryReceive()
    {
        while (_receiver.TryReceive(_buffer, out var datagram))
        {
            // Link-local sources come without their scope in comparisons: the interface is known.
            var envelope = new VrrpEnvelope(datagram.Source, datagram.Destination, datagram.HopLimit);
            var error = VrrpPacket.TryParse(_buffer.AsSpan(datagram.Offset, datagram.Length), envelope, _config.UnicastPeers.Count == 0, out var packet);
            if (error == VrrpPacketError.None)
                return packet.ToAdvertisement(datagram.Source);
            Refused[error] = Refused.GetValueOrDefault(error) + 1;
        }

        return null;
    }

    public void Dispose()
    {
        _receiver.Dispose();
        _sender?.Dispose();
    }

    // A raw socket bound to an address would not hear the group, so sending has a socket of its own.
    private RawSocket SenderFrom(IPAddress source)
    {
        if (_sender is not null && source.Equals(_source))
            return _sender;
        _sender?.Dispose();
        _sender = null;
        var sender = new RawSocket(_config.Family, VrrpPacket.ProtocolNumber, _interfaceName, _interfaceIndex);
        try
        {
            sender.AttachFilter(SocketFilter.Nothing);
            sender.SetHopLimit(VrrpPacket.HopLimit);
            sender.SetTrafficClass(TrafficClassNetworkControl);
            sender.Bind(source);
        }
        catch
        {
            sender.Dispose();
            throw;
        }

        (_sender, _source) = (sender, source);
        return sender;
    }
}
