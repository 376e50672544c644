using System.Buffers.Binary;

namespace OverlayNet.Dns.Answer;

/// <summary>What all views share: the cluster domain in wire form, its SOA, and whether anything is known yet.</summary>
internal sealed class ZoneInfo
{
    private volatile uint _serial;
    private volatile bool _synced;

    /// <exception cref="FormatException">Domain or data centre is not a legal name.</exception>
    public ZoneInfo(string domain, string dataCenter, uint negativeTtl)
    {
        DomainName = domain;
        DataCenter = dataCenter;
        Domain = DnsName.Encode(domain);
        DomainLabels = DnsName.CountLabels(Domain);
        Dc = DnsName.Encode(dataCenter)[..^1];
        Suffix = [.. Dc, .. Domain];
        NegativeTtl = negativeTtl;

        // mname ns.<domain>, rname hostmaster.<domain>; serial, refresh, retry, expire, minimum (RFC 1035 §3.3.13).
        SoaData = [2, .. "ns"u8, .. Domain, 10, .. "hostmaster"u8, .. Domain, .. new byte[20]];
        SerialAt = SoaData.Length - 20;
        var numbers = SoaData.AsSpan(SerialAt);
        BinaryPrimitives.WriteUInt32BigEndian(numbers[4..], 3600);
        BinaryPrimitives.WriteUInt32BigEndian(numbers[8..], 600);
        BinaryPrimitives.WriteUInt32BigEndian(numbers[12..], 86400);
        BinaryPrimitives.WriteUInt32BigEndian(numbers[16..], negativeTtl);
    }

    public string DomainName { get; }

    public string DataCenter { get; }

    /// <summary>Wire form with the root octet.</summary>
    public byte[] Domain { get; }

    public int DomainLabels { get; }

    /// <summary>Wire labels of the data centre.</summary>
    public byte[] Dc { get; }

    /// <summary>Wire form of <c>dc.domain</c> with the root octet.</summary>
    public byte[] Suffix { get; }

    /// <summary>Seconds.</summary>
    public uint NegativeTtl { get; }

    /// <summary>SOA rdata; the serial is filled in at <see cref="SerialAt"/> when it is sent.</summary>
    public byte[] SoaData { get; }

    public int SerialAt { get; }

    public uint Serial { get => _serial; set => _serial = value; }

    public bool Synced { get => _synced; set => _synced = value; }
}
