using System.Text.Json.Serialization;

namespace OverlayNet.Daemon.Consul;

// The shapes that Consul's HTTP API gives its clients (https://developer.hashicorp.com/consul/api-docs), as far as they read them.
// Lists are [] and maps {} when empty, never null: clients that are not written in Go stumble over null.

internal sealed record ConsulNode
{
    public required string ID { get; init; }
    public required string Node { get; init; }
    public required string Address { get; init; }
    public required string Datacenter { get; init; }
    public IReadOnlyDictionary<string, string> TaggedAddresses { get; init; } = new Dictionary<string, string>();
    public IReadOnlyDictionary<string, string> Meta { get; init; } = new Dictionary<string, string>();
    public long CreateIndex { get; init; } = 1;
    public long ModifyIndex { get; init; } = 1;
}

internal sealed record ConsulWeights(int Passing, int Warning);

internal sealed record ConsulAddress(string Address, int Port);

internal sealed record ConsulService
{
    public required string ID { get; init; }
    public required string Service { get; init; }
    public IReadOnlyList<string> Tags { get; init; } = [];
    public IReadOnlyDictionary<string, string> Meta { get; init; } = new Dictionary<string, string>();
    public required string Address { get; init; }
    public IReadOnlyDictionary<string, ConsulAddress> TaggedAddresses { get; init; } = new Dictionary<string, ConsulAddress>();
    public int Port { get; init; }
    public required ConsulWeights Weights { get; init; }
    public bool EnableTagOverride { get; init; }
    public string Namespace { get; init; } = "";
    public string Datacenter { get; init; } = "";
    public long CreateIndex { get; init; }
    public long ModifyIndex { get; init; }
}

internal sealed record ConsulCheck
{
    public required string Node { get; init; }
    public required string CheckID { get; init; }
    public required string Name { get; init; }

    /// <summary>passing, warning or critical.</summary>
    public required string Status { get; init; }
    public string Notes { get; init; } = "";
    public string Output { get; init; } = "";
    public string ServiceID { get; init; } = "";
    public string ServiceName { get; init; } = "";
    public IReadOnlyList<string> ServiceTags { get; init; } = [];
    public string Type { get; init; } = "";
    public long CreateIndex { get; init; } = 1;
    public long ModifyIndex { get; init; } = 1;
}

/// <summary>One instance of <c>/v1/health/service/NAME</c>.</summary>
internal sealed record ConsulEntry(ConsulNode Node, ConsulService Service, IReadOnlyList<ConsulCheck> Checks);

/// <summary>One instance of <c>/v1/catalog/service/NAME</c>: node and service in one.</summary>
internal sealed record ConsulCatalogService
{
    public required string ID { get; init; }
    public required string Node { get; init; }
    public required string Address { get; init; }
    public required string Datacenter { get; init; }
    public IReadOnlyDictionary<string, string> TaggedAddresses { get; init; } = new Dictionary<string, string>();
    public IReadOnlyDictionary<string, string> NodeMeta { get; init; } = new Dictionary<string, string>();
    public required string ServiceID { get; init; }
    public required string ServiceName { get; init; }
    public IReadOnlyList<string> ServiceTags { get; init; } = [];
    public required string ServiceAddress { get; init; }
    public IReadOnlyDictionary<string, ConsulAddress> ServiceTaggedAddresses { get; init; } = new Dictionary<string, ConsulAddress>();
    public int ServicePort { get; init; }
    public IReadOnlyDictionary<string, string> ServiceMeta { get; init; } = new Dictionary<string, string>();
    public required ConsulWeights ServiceWeights { get; init; }
    public bool ServiceEnableTagOverride { get; init; }
    public string Namespace { get; init; } = "";
    public long CreateIndex { get; init; }
    public long ModifyIndex { get; init; }
}

internal sealed record ConsulNodeServices(ConsulNode Node, IReadOnlyDictionary<string, ConsulService> Services);

internal sealed record ConsulSelf(ConsulSelfConfig Config, ConsulMember Member, IReadOnlyDictionary<string, string> Meta);

internal sealed record ConsulSelfConfig(string Datacenter, string PrimaryDatacenter, string NodeName, string NodeID, bool Server, string Version);

internal sealed record ConsulMember(string Name, string Addr, int Port, int Status, IReadOnlyDictionary<string, string> Tags);

[JsonSerializable(typeof(ConsulSelf))]
[JsonSerializable(typeof(List<ConsulMember>))]
[JsonSerializable(typeof(List<ConsulNode>))]
[JsonSerializable(typeof(List<ConsulEntry>))]
[JsonSerializable(typeof(List<ConsulCheck>))]
[JsonSerializable(typeof(List<ConsulCatalogService>))]
[JsonSerializable(typeof(ConsulNodeServices))]
[JsonSerializable(typeof(ConsulService))]
[JsonSerializable(typeof(Dictionary<string, ConsulService>))]
[JsonSerializable(typeof(Dictionary<string, ConsulCheck>))]
[JsonSerializable(typeof(SortedDictionary<string, List<string>>))]
[JsonSerializable(typeof(List<string>))]
[JsonSerializable(typeof(string))]
internal sealed partial class ConsulJson : JsonSerializerContext;
