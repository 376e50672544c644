using System.Net;
using System.Text.Json;
using System.Text.Json.Serialization;

namespace OverlayNet.Contracts;

/// <summary>The one way JSON is written and read between nodes, at the API and on disk: camelCase, enums as camelCase strings, addresses as text.</summary>
/// <remarks>
/// Properties with an initial value have <c>set</c>, not <c>init</c>: the source generator assigns every <c>init</c> property, so
/// that a field absent from the text (a person's, or an older peer's) would become null or 0 instead of its initial value.
/// </remarks>
[JsonSourceGenerationOptions(
    PropertyNamingPolicy = JsonKnownNamingPolicy.CamelCase,
    DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull,
    UnmappedMemberHandling = JsonUnmappedMemberHandling.Skip,
    Converters = [
        typeof(IPAddressConverter), typeof(IPNetworkConverter),
        typeof(CamelCaseEnumConverter<NodeRole>), typeof(CamelCaseEnumConverter<NodeAvailability>),
        typeof(CamelCaseEnumConverter<NodeState>), typeof(CamelCaseEnumConverter<EndpointMode>),
        typeof(CamelCaseEnumConverter<PortProtocol>), typeof(CamelCaseEnumConverter<PublishMode>), typeof(CamelCaseEnumConverter<PublishPolicy>),
        typeof(CamelCaseEnumConverter<BalancerKind>), typeof(CamelCaseEnumConverter<EndpointState>),
        typeof(CamelCaseEnumConverter<EndpointKind>), typeof(CamelCaseEnumConverter<CheckKind>), typeof(CamelCaseEnumConverter<CheckOutcome>), typeof(CamelCaseEnumConverter<FloatingVipMode>),
        typeof(CamelCaseEnumConverter<FenceProfile>), typeof(CamelCaseEnumConverter<StoreLoss>),
        typeof(CamelCaseEnumConverter<VipTrackKind>), typeof(CamelCaseEnumConverter<VipLeaseOutcome>),
        typeof(CamelCaseEnumConverter<OnReturn>)])]
[JsonSerializable(typeof(Node))]
[JsonSerializable(typeof(Network))]
[JsonSerializable(typeof(Service))]
[JsonSerializable(typeof(Endpoint))]
[JsonSerializable(typeof(List<Node>))]
[JsonSerializable(typeof(List<Network>))]
[JsonSerializable(typeof(List<Service>))]
[JsonSerializable(typeof(List<Endpoint>))]
[JsonSerializable(typeof(ErrorBody))]
[JsonSerializable(typeof(NetworkCreateRequest))]
[JsonSerializable(typeof(ServiceCreateRequest))]
[JsonSerializable(typeof(ServiceUpdateRequest))]
[JsonSerializable(typeof(AttachRequest))]
[JsonSerializable(typeof(AttachResponse))]
[JsonSerializable(typeof(DetachRequest))]
[JsonSerializable(typeof(CniRequest))]
[JsonSerializable(typeof(EndpointCreateRequest))]
[JsonSerializable(typeof(EndpointUpdateRequest))]
[JsonSerializable(typeof(NetworkUpdateRequest))]
[JsonSerializable(typeof(NodeUpdateRequest))]
[JsonSerializable(typeof(HeartbeatRequest))]
[JsonSerializable(typeof(HeartbeatResponse))]
[JsonSerializable(typeof(JoinRequest))]
[JsonSerializable(typeof(JoinResponse))]
[JsonSerializable(typeof(InitRequest))]
[JsonSerializable(typeof(JoinClusterRequest))]
[JsonSerializable(typeof(TokenBody))]
[JsonSerializable(typeof(TokenCreateRequest))]
[JsonSerializable(typeof(TokenInfo))]
[JsonSerializable(typeof(List<TokenInfo>))]
[JsonSerializable(typeof(AuthorityReport))]
[JsonSerializable(typeof(WatchMessage))]
[JsonSerializable(typeof(RegistrySnapshot))]
[JsonSerializable(typeof(ClusterEvent))]
[JsonSerializable(typeof(List<ClusterEvent>))]
[JsonSerializable(typeof(StatusReport))]
[JsonSerializable(typeof(PeerClock))]
[JsonSerializable(typeof(ClockOffset))]
[JsonSerializable(typeof(PathProbeRequest))]
[JsonSerializable(typeof(PathProbeStarted))]
[JsonSerializable(typeof(PathProbeSeen))]
[JsonSerializable(typeof(PathReport))]
[JsonSerializable(typeof(DoctorReport))]
[JsonSerializable(typeof(TraceReport))]
[JsonSerializable(typeof(TopReport))]
[JsonSerializable(typeof(List<BackendReport>))]
[JsonSerializable(typeof(List<VipConnection>))]
[JsonSerializable(typeof(DnsQueryReport))]
[JsonSerializable(typeof(List<DnsTableEntry>))]
[JsonSerializable(typeof(List<DnsCacheEntry>))]
[JsonSerializable(typeof(HealthReport))]
[JsonSerializable(typeof(ProbeTasks))]
[JsonSerializable(typeof(HealthReports))]
[JsonSerializable(typeof(CheckWord))]
[JsonSerializable(typeof(DrainReport))]
[JsonSerializable(typeof(List<string>))]
[JsonSerializable(typeof(FloatingVip))]
[JsonSerializable(typeof(List<FloatingVip>))]
[JsonSerializable(typeof(VipHolder))]
[JsonSerializable(typeof(List<VipHolder>))]
[JsonSerializable(typeof(VipCreateRequest))]
[JsonSerializable(typeof(VipMoveRequest))]
[JsonSerializable(typeof(VipLease))]
[JsonSerializable(typeof(VipPromiseQuestion))]
[JsonSerializable(typeof(VipPromiseAnswer))]
[JsonSerializable(typeof(VipLeaseReading))]
[JsonSerializable(typeof(VipLeaseCommit))]
[JsonSerializable(typeof(VipLeaseCommitted))]
[JsonSerializable(typeof(VipBid))]
[JsonSerializable(typeof(VipLeaseEvent))]
[JsonSerializable(typeof(List<VipExplanation>))]
public sealed partial class OverlayNetJson : JsonSerializerContext;

/// <summary>Enums as camelCase words.</summary>
public sealed class CamelCaseEnumConverter<TEnum>() : JsonStringEnumConverter<TEnum>(JsonNamingPolicy.CamelCase, allowIntegerValues: false)
    where TEnum : struct, Enum;

/// <summary>IP addresses of either family in their usual text form.</summary>
/// <remarks>Written without <see cref="IPAddress.ToString()"/>, whose result each address keeps: of fifty thousand that is megabytes.</remarks>
public sealed class IPAddressConverter : JsonConverter<IPAddress>
{
    public override IPAddress Read(ref Utf8JsonReader reader, Type typeToConvert, JsonSerializerOptions options) =>
        IPAddress.TryParse(reader.GetString(), out var address)
            ? address
            : throw new JsonException($"'{reader.GetString()}' is not an IP address");

    public override void Write(Utf8JsonWriter writer, IPAddress value, JsonSerializerOptions options)
    {
        // An IPv6 address with a scope has at most 65 characters (INET6_ADDRSTRLEN and a number).
        Span<byte> text = stackalloc byte[65];
        value.TryFormat(text, out var length);
        writer.WriteStringValue(text[..length]);
    }
}

/// <summary>Prefixes in CIDR form.</summary>
public sealed class IPNetworkConverter : JsonConverter<IPNetwork>
{
    public override IPNetwork Read(ref Utf8JsonReader reader, Type typeToConvert, JsonSerializerOptions options) =>
        IPNetwork.TryParse(reader.GetString(), out var prefix)
            ? prefix
            : throw new JsonException($"'{reader.GetString()}' is not a prefix in CIDR form");

    public override void Write(Utf8JsonWriter writer, IPNetwork value, JsonSerializerOptions options) =>
        writer.WriteStringValue(value.ToString());
}
