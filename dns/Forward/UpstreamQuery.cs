using System.Security.Cryptography;

namespace OverlayNet.Dns.Forward;

/// <summary>What is asked upstream; equal queries share one answer.</summary>
/// <param name="Name">Lower-case wire name with the root octet.</param>
/// <param name="Type">Asked type.</param>
/// <param name="DnssecOk">The client's DO bit (RFC 3225).</param>
/// <param name="CheckingDisabled">The client's CD bit (RFC 4035 §3.2.2).</param>
/// <param name="WantsAuthentic">The client's AD bit (RFC 6840 §5.7).</param>
internal sealed record UpstreamQuery(byte[] Name, RrType Type, bool DnssecOk, bool CheckingDisabled, bool WantsAuthentic)
{
    /// <summary>Encodes with an unguessable id and random letter case (draft-vixie-dnsext-dns0x20).</summary>
    public byte[] Encode()
    {
        var message = new byte[Header.Size + Name.Length + 4 + 11];
        RandomNumberGenerator.Fill(message.AsSpan(0, 2));
        message[Header.Flags1] = Header.Rd;
        message[Header.Flags2] = (byte)((CheckingDisabled ? Header.Cd : 0) | (WantsAuthentic ? Header.Ad : 0));
        message[Header.QdCount + 1] = 1;
        message[Header.ArCount + 1] = 1;
        var name = message.AsSpan(Header.Size, Name.Length);
        Name.CopyTo(name);
        Span<byte> coins = stackalloc byte[Limits.NameLength];
        RandomNumberGenerator.Fill(coins[..Name.Length]);
        for (var i = 0; i < name.Length; i++)
        {
            if (name[i] is >= (byte)'a' and <= (byte)'z' && (coins[i] & 1) != 0)
                name[i] ^= 0x20;
        }

        var at = Header.Size + Name.Length;
        message[at] = (byte)((int)Type >> 8);
        message[at + 1] = (byte)Type;
        message[at + 3] = (byte)ClassCode.In;
        // OPT: root owner, type 41, our size, DO.
        message[at + 6] = (byte)RrType.OPT;
        message[at + 7] = Limits.EdnsUdp >> 8;
        message[at + 8] = Limits.EdnsUdp & 0xFF;
        message[at + 11] = DnssecOk ? (byte)0x80 : (byte)0;
        return message;
    }

    public bool Equals(UpstreamQuery? other) =>
        other is not null && Type == other.Type && DnssecOk == other.DnssecOk && CheckingDisabled == other.CheckingDisabled
        && WantsAuthentic == other.WantsAuthentic && Name.AsSpan().SequenceEqual(other.Name);

    public override int GetHashCode()
    {
        var hash = default(HashCode);
        hash.AddBytes(Name);
        hash.Add(Type);
        hash.Add(DnssecOk);
        return hash.ToHashCode();
    }
}
