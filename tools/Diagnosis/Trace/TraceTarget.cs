using System.Globalization;
using System.Net;
using System.Net.Sockets;
using OverlayNet.Contracts;
using OverlayNet.Tools.Cli;

namespace OverlayNet.Tools.Diagnosis.Trace;

/// <summary>Where a trace goes: a name or an address, and a port.</summary>
/// <param name="Address">Null: <paramref name="Name"/> has to be looked up.</param>
/// <param name="Port">0: the first port of the service, else an echo request.</param>
internal sealed record TraceTarget(string Name, IPAddress? Address, int Port)
{
    /// <summary>Reads <c>NAME[:PORT]</c>, <c>A.B.C.D[:PORT]</c>, <c>X:Y::Z</c> or <c>[X:Y::Z]:PORT</c>.</summary>
    /// <exception cref="CommandFailure">It is none of these.</exception>
    public static TraceTarget Parse(string text)
    {
        if (Inputs.IsAddress(text, out var bare))
            return new TraceTarget(text, bare, 0);
        var colon = text.LastIndexOf(':');
        var name = colon < 0 ? text : text[..colon];
        var port = 0;
        if (colon >= 0 && (!int.TryParse(text.AsSpan(colon + 1), NumberStyles.None, CultureInfo.InvariantCulture, out port) || port is < 1 or > 65535))
            throw Wrong(text, $"'{text[(colon + 1)..]}' is no port");
        if (name.StartsWith('[') && name.EndsWith(']') && IPAddress.TryParse(name[1..^1], out var six) && six.AddressFamily == AddressFamily.InterNetworkV6)
            return new TraceTarget(name[1..^1], six, port);
        if (Inputs.IsAddress(name, out var address) && address.AddressFamily == AddressFamily.InterNetwork)
            return new TraceTarget(name, address, port);
        // 253 octets are what fits a message (RFC 1035 section 2.3.4).
        if (name.Length is 0 or > 253 || name.Split('.').Any(label => label.Length > 63) || name.Any(c => char.IsWhiteSpace(c) || c is ':' or '/' or '[' or ']'))
            throw Wrong(text, $"'{name}' is neither a name nor an address");
        return new TraceTarget(name, null, port);
    }

    private static CommandFailure Wrong(string text, string why) =>
        new(ExitCodes.BadInput, $"NAME[:PORT] '{text}': {why}", "write a name, an address or [an IPv6 address], with :PORT (1-65535) behind it where one is meant, such as web:80");
}

/// <summary>What is at an address: the VIP of a service, an endpoint, or nothing of ours.</summary>
internal sealed record TraceDestination(IPAddress Address, Service? Service, IReadOnlyList<Endpoint> Backends)
{
    public static TraceDestination Of(RegistrySnapshot snapshot, string networkId, IPAddress address)
    {
        if (snapshot.Services.FirstOrDefault(service => service.NetworkId == networkId && (address.Equals(service.Vip4) || address.Equals(service.Vip6))) is { } service)
        {
            return new TraceDestination(address, service,
                [.. snapshot.Endpoints.Where(endpoint => endpoint.ServiceId == service.Id && IsUsed(endpoint)).OrderBy(endpoint => endpoint.Name, StringComparer.Ordinal)]);
        }
        return new TraceDestination(address, null, [.. snapshot.Endpoints.Where(endpoint => endpoint.NetworkId == networkId && (address.Equals(endpoint.Address4) || address.Equals(endpoint.Address6)))]);
    }

    /// <summary>Gets new connections.</summary>
    public static bool IsUsed(Endpoint endpoint) => endpoint is { Kind: EndpointKind.Container, Weight: > 0, State: EndpointState.Healthy or EndpointState.Recovering };

    public IPAddress? AddressOf(Endpoint endpoint) => Address.AddressFamily == AddressFamily.InterNetwork ? endpoint.Address4 : endpoint.Address6;
}
