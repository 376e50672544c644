using System.Net;
using OverlayNet.Contracts;

namespace OverlayNet.Daemon.Registry;

/// <summary>A request for a network, read and checked as far as that goes without the registry.</summary>
internal sealed record NetworkSpec
{
    public const int FirstAutomaticVni = 4096;
    public const int MaxVni = (1 << 24) - 1;

    private const int MinMtu = 576;
    private const int MinMtu6 = 1280;
    private const int MaxMtu = 65535;

    // A gateway, a node's own address and a container's have to fit.
    private const int LongestPrefix4 = 29;
    private const int LongestPrefix6 = 125;
    private const int ShortestPrefix = 8;

    /// <summary>Where subnets are taken from when none is asked for.</summary>
    public static readonly IPNetwork AutomaticRange = IPNetwork.Parse("10.96.0.0/12");

    private static readonly IPNetwork[] NotUsable =
    [
        IPNetwork.Parse("0.0.0.0/8"), IPNetwork.Parse("127.0.0.0/8"), IPNetwork.Parse("169.254.0.0/16"),
        IPNetwork.Parse("224.0.0.0/3"), IPNetwork.Parse("::/8"), IPNetwork.Parse("fe80::/10"), IPNetwork.Parse("ff00::/8"),
    ];

    public required string Name { get; init; }
    public IPNetwork? Subnet4 { get; init; }
    public IPNetwork? Subnet6 { get; init; }
    public IPNetwork? IpRange4 { get; init; }
    public IPAddress? Gateway4 { get; init; }
    public IPAddress? Gateway6 { get; init; }
    public int? Vni { get; init; }
    public int Mtu { get; init; }
    public bool Internal { get; init; }
    public bool AllowOverlap { get; init; }
    public required IReadOnlyDictionary<string, string> Labels { get; init; }

    /// <exception cref="RegistryException">Something in it is wrong.</exception>
    public static NetworkSpec From(NetworkCreateRequest request)
    {
        var name = Names.Label("name", request.Name);
        if (request.Encrypted)
            throw Refuse.Invalid("encrypted-unsupported", "encrypted", "true",
                "networks cannot be encrypted yet, and nothing is sent in the clear under that flag",
                "leave --encrypted out and keep the underlay private, or encrypt the underlay (WireGuard, IPsec)");
        var subnet4 = request.Subnet is null ? (IPNetwork?)null : Subnet("subnet", request.Subnet, 32);
        var subnet6 = request.Subnet6 is null ? (IPNetwork?)null : Subnet("subnet6", request.Subnet6, 128);
        if (request.Vni is < 1 or > MaxVni)
            throw Refuse.Invalid("invalid-vni", "vni", Names.Text(request.Vni.Value), "it is out of range", $"use 1 to {MaxVni}");
        var least = subnet6 is null ? MinMtu : MinMtu6;
        if (request.Mtu != 0 && (request.Mtu < least || request.Mtu > MaxMtu))
            throw Refuse.Invalid("invalid-mtu", "mtu", Names.Text(request.Mtu),
                $"IPv{(subnet6 is null ? 4 : 6)} needs at least {least}, and at most {MaxMtu} fit", "use 0 to have it derived from the underlay");
        return new NetworkSpec
        {
            Name = name,
            Subnet4 = subnet4,
            Subnet6 = subnet6,
            IpRange4 = IpRange(request.IpRange, subnet4),
            Gateway4 = Gateway("gateway", request.Gateway, "subnet", subnet4, 32),
            Gateway6 = Gateway("gateway6", request.Gateway6, "subnet6", subnet6, 128),
            Vni = request.Vni,
            Mtu = request.Mtu,
            Internal = request.Internal,
            AllowOverlap = request.AllowOverlap,
            Labels = Names.UserLabels(request.Labels),
        };
    }

    /// <summary>The /24s of <see cref="AutomaticRange"/>.</summary>
    public static IEnumerable<IPNetwork> AutomaticSubnets()
    {
        var last = (ulong)Prefixes.LastOffset(AutomaticRange);
        for (var offset = 0ul; offset <= last; offset += 256)
            yield return new IPNetwork(Prefixes.At(AutomaticRange, offset), 24);
    }

    private static IPNetwork Subnet(string field, string text, int bits)
    {
        var example = bits == 32 ? "10.1.0.0/24" : "fd00:1::/64";
        if (Prefixes.Parse(text) is not var (address, length))
            throw Refuse.Invalid("invalid-subnet", field, text, "it is not a prefix in CIDR form", $"write it as {example}");
        if (Prefixes.Bits(address) != bits)
            throw Refuse.Invalid("invalid-subnet", field, text, $"it is not an IPv{(bits == 32 ? 4 : 6)} prefix",
                bits == 32 ? "give IPv6 subnets with --subnet6" : "give IPv4 subnets with --subnet");
        var longest = bits == 32 ? LongestPrefix4 : LongestPrefix6;
        if (length < ShortestPrefix || length > longest)
            throw Refuse.Invalid("invalid-subnet", field, text, $"its length /{length} is out of range",
                $"use /{ShortestPrefix} to /{longest}");
        if (Prefixes.HasHostBits(address, length))
            throw Refuse.Invalid("invalid-subnet", field, text, "the address has bits beyond the prefix",
                $"write {Prefixes.Of(address, length)}");
        var subnet = Prefixes.Of(address, length);
        foreach (var special in NotUsable)
        {
            if (Prefixes.Overlap(subnet, special))
                throw Refuse.Invalid("invalid-subnet", field, text, $"addresses of {special} have a meaning of their own",
                    bits == 32 ? "use a private prefix (RFC 1918), such as " + example : "use a unique local prefix (RFC 4193), such as " + example);
        }
        return subnet;
    }

    private static IPNetwork? IpRange(string? text, IPNetwork? subnet)
    {
        if (text is null)
            return null;
        if (subnet is null)
            throw Refuse.Invalid("invalid-ip-range", "ipRange", text, "it needs a subnet to be part of", "give --subnet too");
        if (Prefixes.Parse(text) is not var (address, length) || Prefixes.Bits(address) != 32)
            throw Refuse.Invalid("invalid-ip-range", "ipRange", text, "it is not an IPv4 prefix in CIDR form",
                $"write a part of {subnet}, such as 10.1.0.128/25");
        if (Prefixes.HasHostBits(address, length))
            throw Refuse.Invalid("invalid-ip-range", "ipRange", text, "the address has bits beyond the prefix",
                $"write {Prefixes.Of(address, length)}");
        if (length < subnet.Value.PrefixLength || !subnet.Value.Contains(address))
            throw Refuse.Invalid("invalid-ip-range", "ipRange", text, $"it is outside the subnet {subnet}", $"choose a part of {subnet}");
        return Prefixes.Of(address, length);
    }

    private static IPAddress? Gateway(string field, string? text, string subnetField, IPNetwork? subnet, int bits)
    {
        if (text is null)
            return null;
        var address = Names.Address(field, text, bits);
        if (subnet is null)
            throw Refuse.Invalid("invalid-gateway", field, text, "it needs a subnet to be part of", $"give --{subnetField} too");
        if (!subnet.Value.Contains(address))
            throw Refuse.Invalid("invalid-gateway", field, text, $"it is outside the subnet {subnet}", $"choose an address of {subnet}");
        var offset = Prefixes.Offset(subnet.Value, address);
        if (offset == 0 || (bits == 32 && offset == Prefixes.LastOffset(subnet.Value)))
            throw Refuse.Invalid("invalid-gateway", field, text, $"it is the first or last address of {subnet}",
                $"use {Prefixes.At(subnet.Value, 1)}");
        return address;
    }
}
