using System.Text;
using System.Text.Json;

namespace OverlayNet.Tools.Capture.Decode;

/// <summary>One packet as one line of JSON: time, point, length, and the layers from the outside in. Not thread-safe.</summary>
internal sealed class PacketJson : IDisposable
{
    private readonly MemoryStream _buffer = new();
    private readonly Utf8JsonWriter _json;

    public PacketJson() => _json = new Utf8JsonWriter(_buffer);

    public string Line(DecodedPacket packet)
    {
        _buffer.SetLength(0);
        _json.Reset();
        _json.WriteStartObject();
        _json.WriteString("time", DateTimeOffset.UnixEpoch.AddTicks(packet.TimeNs / 100));
        if (packet.Point.Length > 0)
            _json.WriteString("point", packet.Point);
        _json.WriteNumber("length", packet.Length);
        _json.WriteStartArray("layers");
        foreach (var layer in packet.Layers())
            Layer(layer);
        _json.WriteEndArray();
        _json.WriteEndObject();
        _json.Flush();
        return Encoding.UTF8.GetString(_buffer.GetBuffer(), 0, (int)_buffer.Length);
    }

    public void Dispose()
    {
        _json.Dispose();
        _buffer.Dispose();
    }

    private void Layer(DecodedPacket layer)
    {
        _json.WriteStartObject();
        if (layer.Ethernet is { } ethernet)
        {
            _json.WriteStartObject("ethernet");
            _json.WriteString("source", ethernet.Source.ToString());
            _json.WriteString("destination", ethernet.Destination.ToString());
            _json.WriteNumber("type", ethernet.Type);
            if (ethernet.Vlan is { } vlan)
                _json.WriteNumber("vlan", vlan);
            _json.WriteEndObject();
        }
        if (layer.Arp is { } arp)
        {
            _json.WriteStartObject("arp");
            _json.WriteNumber("operation", arp.Operation);
            _json.WriteString("senderMac", arp.SenderMac.ToString());
            _json.WriteString("sender", arp.Sender.ToString());
            _json.WriteString("target", arp.Target.ToString());
            _json.WriteEndObject();
        }
        if (layer.Ip is { } ip)
        {
            _json.WriteStartObject("ip");
            _json.WriteString("source", ip.Source.ToString());
            _json.WriteString("destination", ip.Destination.ToString());
            _json.WriteNumber("protocol", ip.Protocol);
            _json.WriteNumber("hopLimit", ip.HopLimit);
            if (ip.Fragment)
                _json.WriteNumber("fragmentOffset", ip.FragmentOffset);
            _json.WriteEndObject();
        }
        if (layer.Tcp is { } tcp)
        {
            _json.WriteStartObject("tcp");
            Ports(tcp.SourcePort, tcp.DestinationPort);
            _json.WriteString("flags", tcp.Flags.ToString().ToLowerInvariant());
            _json.WriteNumber("sequence", tcp.Sequence);
            _json.WriteNumber("payload", tcp.PayloadLength);
            _json.WriteString("checksum", tcp.Checksum.ToString().ToLowerInvariant());
            if (layer.HttpLine is { } http)
                _json.WriteString("http", http);
            _json.WriteEndObject();
        }
        if (layer.Udp is { } udp)
        {
            _json.WriteStartObject("udp");
            Ports(udp.SourcePort, udp.DestinationPort);
            _json.WriteNumber("payload", udp.PayloadLength);
            _json.WriteString("checksum", udp.Checksum.ToString().ToLowerInvariant());
            _json.WriteEndObject();
        }
        if (layer.Icmp is { } icmp)
        {
            _json.WriteStartObject("icmp");
            _json.WriteNumber("type", icmp.Type);
            _json.WriteNumber("code", icmp.Code);
            if (icmp.Mtu is { } mtu)
                _json.WriteNumber("mtu", mtu);
            if (icmp.Target is { } target)
                _json.WriteString("target", target.ToString());
            _json.WriteEndObject();
        }
        if (layer.Vxlan is { } vxlan)
        {
            _json.WriteStartObject("vxlan");
            _json.WriteNumber("vni", vxlan.Vni);
            _json.WriteEndObject();
        }
        if (layer.Vrrp is { } vrrp)
            Vrrp(vrrp);
        if (layer.Dns is { } dns)
            Dns(dns);
        if (layer.Malformed is { } malformed)
            _json.WriteString("malformed", malformed);
        _json.WriteEndObject();
    }

    private void Vrrp(VrrpMessage vrrp)
    {
        _json.WriteStartObject("vrrp");
        _json.WriteNumber("version", vrrp.Version);
        _json.WriteNumber("vrid", vrrp.VirtualRouterId);
        _json.WriteNumber("priority", vrrp.Priority);
        _json.WriteNumber("intervalMs", vrrp.IntervalCs * 10);
        Strings("addresses", vrrp.Addresses.Select(address => address.ToString()));
        _json.WriteString("checksum", vrrp.ChecksumMode);
        if (vrrp.Problem is { } problem)
            _json.WriteString("problem", problem);
        _json.WriteEndObject();
    }

    private void Dns(DnsMessage dns)
    {
        _json.WriteStartObject("dns");
        _json.WriteNumber("id", dns.Id);
        _json.WriteBoolean("response", dns.Response);
        _json.WriteString("name", dns.Name);
        _json.WriteString("type", dns.Type);
        if (dns.Response)
        {
            _json.WriteString("rcode", dns.Rcode);
            Strings("answers", dns.Answers);
        }
        _json.WriteEndObject();
    }

    private void Ports(int source, int destination)
    {
        _json.WriteNumber("sourcePort", source);
        _json.WriteNumber("destinationPort", destination);
    }

    private void Strings(string name, IEnumerable<string> values)
    {
        _json.WriteStartArray(name);
        foreach (var value in values)
            _json.WriteStringValue(value);
        _json.WriteEndArray();
    }
}
