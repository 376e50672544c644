using System.Globalization;
using System.Net;
using System.Net.Sockets;
using OverlayNet.Contracts;
using OverlayNet.Vip.Vrrp;

namespace OverlayNet.Daemon.Registry;

/// <summary>Reads a request for a floating VIP: everything that can be refused without knowing what else there is.</summary>
internal static class VipSpec
{
    private const int MaxLinkLocalPrefix = 64;

    /// <exception cref="RegistryException">Names the field, its value and the remedy.</exception>
    public static FloatingVip Parse(VipCreateRequest request, string id)
    {
        var addresses = request.Addresses.Select(Address).ToList();
        if (addresses.Count == 0)
            throw Refuse.Invalid("missing-field", "addresses", null, "a floating VIP has an address", "give one with --address 192.0.2.100/24");
        if (addresses.GroupBy(a => a.Address).FirstOrDefault(g => g.Count() > 1) is { } twice)
            throw Refuse.Invalid("duplicate-address", "addresses", twice.Key.ToString(), "it is listed twice", "list it once");
        if (request.Vrid is < 1 or > 255)
            throw Refuse.Invalid("invalid-vrid", "vrid", Names.Text(request.Vrid), request.Vrid == 0 ? "0 is reserved (RFC 9568 section 5.2.3)" : "it is out of range",
                "choose 1 to 255, one that nobody else uses on the segment");
        if (request.Mode == FloatingVipMode.Vrrp && request.StoreLoss != StoreLoss.Release)
            throw Refuse.Invalid("invalid-field", "storeLoss", Word(request.StoreLoss), "plain VRRP has no lease to lose", "leave --store-loss out, or use --mode fenced");
        var vip = new FloatingVip
        {
            Id = id,
            Name = Names.Label("name", request.Name),
            Addresses = [.. addresses.Select(a => a.ToString())],
            Vrid = request.Vrid,
            Interface = Names.Interface(request.Interface),
            Mode = request.Mode,
            NodeLabels = Names.UserLabels(request.NodeLabels),
            AdvertMs = request.AdvertMs,
            Version = request.Version,
            Unicast = request.Unicast,
            Profile = request.Profile,
            StoreLoss = request.StoreLoss,
            Preempt = request.Preempt,
            PreemptDelayMs = request.PreemptDelayMs is >= 0 and <= 3_600_000 ? request.PreemptDelayMs : throw Refuse.Invalid(
                "invalid-field", "preemptDelayMs", Names.Text(request.PreemptDelayMs), "it is out of range", "use 0 to 3600000 ms"),
            SyncGroup = request.SyncGroup is null ? null : Names.Label("syncGroup", request.SyncGroup),
            Tracks = [.. (request.Tracks ?? []).Select(Track)],
            Notify = Program("notify", request.Notify),
            Macvlan = request.Macvlan,
            Ports = [.. (request.Ports ?? []).Select(Port)],
            Labels = Names.UserLabels(request.Labels),
        };
        CheckWire(vip, addresses);
        CheckPorts(vip, request);
        return vip;
    }

    /// <summary><c>N</c> or <c>NODE=N</c>.</summary>
    public static (string? Node, int Priority) Priority(string spec)
    {
        var equals = spec.LastIndexOf('=');
        var text = spec[(equals + 1)..];
        if (!int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out var priority) || priority > 254 || (equals < 0 && priority == 0))
            throw Refuse.Invalid("invalid-priority", "priorities", spec, "it is not [NODE=]PRIORITY", "use 1 to 254, such as 100 or node1=150; NODE=0 keeps a node out");
        return (equals < 0 ? null : spec[..equals], priority);
    }

    private static VirtualAddress Address(string text)
    {
        const string remedy = "write it as 192.0.2.100/24 or 2001:db8::100/64";
        var slash = text.IndexOf('/', StringComparison.Ordinal);
        if (Prefixes.ParseAddress(slash < 0 ? text : text[..slash]) is not { } address)
            throw Refuse.Invalid("invalid-address", "addresses", text, "it is not an IP address", remedy);
        if (address.Equals(IPAddress.Any) || address.Equals(IPAddress.IPv6Any) || IPAddress.IsLoopback(address) || address.IsIPv6Multicast || address.GetAddressBytes() is [>= 224, _, _, _])
            throw Refuse.Invalid("invalid-address", "addresses", text, "no node can own it", "choose an address of the interface's subnet");
        var length = address.IsIPv6LinkLocal ? MaxLinkLocalPrefix : Prefixes.Bits(address);
        if (slash >= 0 && (!int.TryParse(text.AsSpan(slash + 1), NumberStyles.None, CultureInfo.InvariantCulture, out length) || length < 1 || length > Prefixes.Bits(address)))
            throw Refuse.Invalid("invalid-address", "addresses", text, $"its prefix length is not 1 to {Prefixes.Bits(address)}", remedy);
        return new VirtualAddress(address, length);
    }

    // What the virtual routers themselves refuse, in their own words: version, interval, number of addresses.
    private static void CheckWire(FloatingVip vip, IReadOnlyList<VirtualAddress> addresses)
    {
        if (vip.AdvertMs % 10 != 0)
            throw Refuse.Invalid("invalid-advert", "advertMs", Names.Text(vip.AdvertMs), "the wire carries hundredths of a second", "choose a multiple of 10 ms");
        foreach (var family in addresses.GroupBy(a => a.Address.AddressFamily))
        {
            try
            {
                new VrrpConfig
                {
                    VirtualRouterId = (byte)vip.Vrid,
                    Version = (VrrpVersion)vip.Version,
                    AdvertisementIntervalCs = vip.AdvertMs / 10,
                    Addresses = [.. family],
                }.Validate();
            }
            catch (ArgumentException e)
            {
                var (field, problem) = e.Message.Split(": ", 2) is [var first, var rest] ? (first, rest) : ("vip", e.Message);
                var parts = problem.Split("; ", 2);
                throw Refuse.Invalid($"invalid-{field}", field, null, parts[0], parts.Length == 2 ? parts[1] : "see 'overlaynet vip create --help'");
            }
        }
    }

    private static void CheckPorts(FloatingVip vip, VipCreateRequest request)
    {
        if (request.Service is null && vip.Ports.Count > 0)
            throw Refuse.Invalid("missing-field", "service", null, "ports belong to a service", "name it with --service, or leave --port out");
        if (request.Service is not null && vip.Ports.Count == 0)
            throw Refuse.Invalid("missing-field", "ports", null, "a service is answered on ports", "name them with --port 80");
        if (vip.Ports.GroupBy(port => (port.Protocol, port.Port)).FirstOrDefault(group => group.Count() > 1) is { } twice)
            throw Refuse.Invalid("duplicate-port", "ports", Names.Text(twice.Key.Port), "it is listed twice", "list it once");
    }

    private static FloatingVipPort Port(string spec)
    {
        var parsed = PortSpecs.Parse(spec, PublishMode.Ingress);
        return new FloatingVipPort { Protocol = parsed.Protocol, Port = parsed.Published == 0 ? parsed.Target : parsed.Published, Target = parsed.Target };
    }

    private static string? Program(string field, string? path) => path is null or ['/', ..] ? path : throw Refuse.Invalid(
        "invalid-program", field, path, "it is not an absolute path", "write it as /usr/local/sbin/moved, the same on every node");

    private static VipTrack Track(string spec)
    {
        const string remedy = "write KIND:TARGET[,weight=N][,interval=MS][,rise=N][,fall=N], such as interface:eth1, process:haproxy,weight=-20, script:/usr/bin/check or route:0.0.0.0/0";
        var colon = spec.IndexOf(':', StringComparison.Ordinal);
        if (colon < 1 || !Enum.TryParse<VipTrackKind>(spec[..colon], ignoreCase: true, out var kind) || !Enum.IsDefined(kind))
            throw Refuse.Invalid("invalid-track", "tracks", spec, "it does not begin with interface:, process:, script: or route:", remedy);
        var parts = spec[(colon + 1)..].Split(',');
        var track = new VipTrack { Kind = kind, Target = parts[0] };
        foreach (var part in parts.Skip(1))
        {
            var pair = part.Split('=', 2);
            if (pair.Length != 2 || !int.TryParse(pair[1], NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out var number))
                throw Refuse.Invalid("invalid-track", "tracks", spec, $"'{part}' is not NAME=NUMBER", remedy);
            track = (pair[0], number) switch
            {
                ("weight", >= -253 and <= 253) => track with { Weight = number },
                ("interval", >= 100 and <= 3_600_000) => track with { IntervalMs = number },
                ("rise", >= 1 and <= 100) => track with { Rise = number },
                ("fall", >= 1 and <= 100) => track with { Fall = number },
                _ => throw Refuse.Invalid("invalid-track", "tracks", spec, $"'{part}' is unknown or out of range", remedy),
            };
        }
        switch (kind)
        {
            case VipTrackKind.Interface:
                Names.Interface(track.Target);
                break;
            case VipTrackKind.Script:
                Program("tracks", track.Target);
                break;
            case VipTrackKind.Route when Prefixes.Parse(track.Target) is null:
                throw Refuse.Invalid("invalid-track", "tracks", spec, $"'{track.Target}' is not a prefix", remedy);
            case VipTrackKind.Process when track.Target.Length is 0 or > 15:
                throw Refuse.Invalid("invalid-track", "tracks", spec, "a process's name (its comm) has 1 to 15 characters", remedy);
        }
        return track;
    }

    private static string Word(StoreLoss value) => value == StoreLoss.HoldAll ? "hold-all" : value.ToString().ToLowerInvariant();
}
