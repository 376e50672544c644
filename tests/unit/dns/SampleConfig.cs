using System.Net;
using OverlayNet.Dns;

namespace OverlayNet.UnitTests.Dns;

/// <summary>A small cluster that the tests ask about.</summary>
internal static class SampleConfig
{
    public static readonly DnsEndpoint Web1 = Endpoint("e1", "web-1", "10.1.0.11", "fd01::11") with { Node = "node-a" };
    public static readonly DnsEndpoint Web2 = Endpoint("e2", "web-2", "10.1.0.12", "fd01::12") with { State = DnsEndpointState.Recovering, Eighths = 2 };
    public static readonly DnsEndpoint Web3 = Endpoint("e3", "web-3", "10.1.0.13", "fd01::13") with { State = DnsEndpointState.Unhealthy };

    public static readonly DnsService Web = new()
    {
        Name = "web",
        Aliases = ["www"],
        VipV4 = IPAddress.Parse("10.1.0.2"),
        VipV6 = IPAddress.Parse("fd01::2"),
        Ports = [new("http", "tcp", 8080, 80)],
        Endpoints = [Web1, Web2, Web3],
    };

    public static readonly DnsService Db = new()
    {
        Name = "db",
        Mode = DnsServiceMode.RoundRobin,
        Endpoints = [Endpoint("d1", "db-1", "10.1.0.21"), Endpoint("d2", "db-2", "10.1.0.22"), Endpoint("d3", "db-3", "10.1.0.23")],
    };

    public static readonly DnsNetwork Front = new()
    {
        Id = "n1",
        Name = "front",
        Subnets = [IPNetwork.Parse("10.1.0.0/16"), IPNetwork.Parse("fd01::/64")],
        ListenerAddresses = [IPAddress.Parse("10.1.0.1")],
        Services = [Web, Db, new DnsService { Name = "empty", Mode = DnsServiceMode.RoundRobin }],
        Endpoints = [Endpoint("l1", "lone", "10.1.0.50") with { Aliases = ["solo", "shared"] }, Endpoint("l2", "other", "10.1.0.51") with { Aliases = ["shared"] }],
    };

    public static readonly DnsNetwork Back = new()
    {
        Id = "n2",
        Name = "back",
        Subnets = [IPNetwork.Parse("10.2.0.0/16")],
        Services =
        [
            new DnsService { Name = "web", VipV4 = IPAddress.Parse("10.2.0.2") },
            new DnsService { Name = "store", VipV4 = IPAddress.Parse("10.2.0.3") },
        ],
    };

    public static readonly DnsConfig Config = new()
    {
        Synced = true,
        Revision = 7,
        NodeName = "node-a",
        Networks = [Front, Back],
        Nodes = [new("node-a", [IPAddress.Parse("192.0.2.1")]), new("node-b", [IPAddress.Parse("192.0.2.2"), IPAddress.Parse("2001:db8::2")])],
    };

    public static DnsEndpoint Endpoint(string id, string name, params string[] addresses) =>
        new() { Id = id, Name = name, Addresses = [.. addresses.Select(IPAddress.Parse)] };
}
