using System.Net;
using System.Net.Sockets;
using System.Text.Json;
using System.Text.Json.Nodes;
using OverlayNet.Contracts;

namespace OverlayNet.Daemon.Runtimes.Cni;

/// <summary>What ADD answers, in the form of the configuration's version.</summary>
public static class CniResult
{
    /// <param name="endpoint">The container's attachment.</param>
    /// <param name="netns">As the runtime named the namespace.</param>
    /// <param name="mtu">In bytes.</param>
    public static byte[] Write(CniConfig config, Endpoint endpoint, Network network, string clusterDomain, string netns, string ifName, int mtu)
    {
        // A plugin adds to what those before it did.
        var result = config.PreviousResult is { } previous ? JsonObject.Create(previous)! : [];
        result["cniVersion"] = config.CniVersion;
        var interfaces = List(result, "interfaces");
        var index = interfaces.Count;
        var @interface = new JsonObject { ["name"] = ifName, ["mac"] = endpoint.Mac, ["sandbox"] = netns };
        if (CniVersions.AtLeast(config.CniVersion, "1.1.0"))
            @interface["mtu"] = mtu;
        interfaces.Add((JsonNode)@interface);
        var (ips, routes) = (List(result, "ips"), List(result, "routes"));
        Family(endpoint.Address4, network.Subnet4, network.Gateway4);
        Family(endpoint.Address6, network.Subnet6, network.Gateway6);
        result["dns"] = new JsonObject
        {
            ["nameservers"] = Strings([.. new[] { network.Gateway4, network.Gateway6 }.OfType<IPAddress>().Select(address => address.ToString())]),
            ["search"] = Strings($"{network.Name}.{clusterDomain}"),
            // As in Docker: 'web' is asked for as it stands.
            ["options"] = Strings("ndots:0"),
        };
        return System.Text.Encoding.UTF8.GetBytes(result.ToJsonString());

        void Family(IPAddress? address, IPNetwork? subnet, IPAddress? gateway)
        {
            if (address is null || subnet is null)
                return;
            var ip = new JsonObject { ["address"] = $"{address}/{subnet.Value.PrefixLength}", ["interface"] = index };
            if (gateway is not null)
                ip["gateway"] = gateway.ToString();
            // Dropped in 1.0.0.
            if (!CniVersions.AtLeast(config.CniVersion, "1.0.0"))
                ip["version"] = address.AddressFamily == AddressFamily.InterNetwork ? "4" : "6";
            ips.Add((JsonNode)ip);
            if (!network.Internal && gateway is not null)
                routes.Add((JsonNode)new JsonObject { ["dst"] = address.AddressFamily == AddressFamily.InterNetwork ? "0.0.0.0/0" : "::/0", ["gw"] = gateway.ToString() });
        }
    }

    /// <summary>The body of a failed call.</summary>
    public static byte[] WriteError(string version, int code, string message, string details)
    {
        var error = new JsonObject { ["cniVersion"] = version, ["code"] = code, ["msg"] = message };
        if (details.Length > 0)
            error["details"] = details;
        return System.Text.Encoding.UTF8.GetBytes(error.ToJsonString());
    }

    /// <summary>The addresses that a result of ADD gives to an interface inside a namespace.</summary>
    /// <returns>Null: it has no such interface.</returns>
    public static (string? Mac, IReadOnlyList<string> Addresses)? Find(JsonElement result, string ifName)
    {
        if (!result.TryGetProperty("interfaces", out var interfaces) || interfaces.ValueKind != JsonValueKind.Array)
            return null;
        var index = 0;
        foreach (var entry in interfaces.EnumerateArray())
        {
            if (Text(entry, "name") == ifName && !string.IsNullOrEmpty(Text(entry, "sandbox")))
                return (Text(entry, "mac"), AddressesAt(result, index));
            index++;
        }
        return null;
    }

    private static List<string> AddressesAt(JsonElement result, int index) => result.TryGetProperty("ips", out var ips) && ips.ValueKind == JsonValueKind.Array
        ? [.. ips.EnumerateArray()
            .Where(ip => ip.TryGetProperty("interface", out var at) && at.ValueKind == JsonValueKind.Number && at.GetInt32() == index)
            .Select(ip => Text(ip, "address")).OfType<string>()]
        : [];

    private static string? Text(JsonElement element, string name) =>
        element.ValueKind == JsonValueKind.Object && element.TryGetProperty(name, out var value) && value.ValueKind == JsonValueKind.String ? value.GetString() : null;

    private static JsonArray List(JsonObject result, string name)
    {
        if (result[name] is JsonArray list)
            return list;
        var made = new JsonArray();
        result[name] = made;
        return made;
    }

    private static JsonArray Strings(params string[] values) => new([.. values.Select(value => (JsonNode)JsonValue.Create(value)!)]);
}
