using System.Net;
using System.Text.Json.Nodes;
using System.Text.Json.Schema;
using System.Text.Json.Serialization.Metadata;
using System.Text.RegularExpressions;
using OverlayNet.Contracts;

namespace OverlayNet.Daemon.Api;

/// <summary>The OpenAPI 3.1 document of the API, made from the table of routes and the JSON contracts.</summary>
internal static partial class OpenApiDocument
{
    private static readonly JsonSchemaExporterOptions SchemaOptions = new()
    {
        TreatNullObliviousAsNonNullable = true,
        TransformSchemaNode = DescribeAddresses,
    };

    private static readonly Lazy<string> Lazily = new(() => Build(ManagerRoutes.All).ToJsonString());

    public static string Text => Lazily.Value;

    public static JsonObject Build(IEnumerable<ApiRoute> routes)
    {
        var paths = new JsonObject();
        var schemas = new JsonObject { ["ErrorBody"] = Schema(OverlayNetJson.Default.ErrorBody) };
        foreach (var route in routes)
        {
            if (paths[route.Path] is not JsonObject path)
                paths[route.Path] = path = [];
            path[route.Method.ToLowerInvariant()] = Operation(route, schemas);
        }
        return new JsonObject
        {
            ["openapi"] = "3.1.0",
            ["info"] = new JsonObject
            {
                ["title"] = "OverlayNet API",
                ["version"] = Protocol.Release,
                ["description"] = $"Over the daemon's unix socket, or TLS 1.3 with a certificate of the cluster. Header {Protocol.Header} "
                    + $"carries the protocol version ({Protocol.Version}); answers carry the registry's revision in {Protocol.RevisionHeader}.",
            },
            ["paths"] = paths,
            ["components"] = new JsonObject
            {
                ["schemas"] = schemas,
                ["securitySchemes"] = new JsonObject { ["clusterCertificate"] = new JsonObject { ["type"] = "mutualTLS" } },
            },
        };
    }

    private static JsonObject Operation(ApiRoute route, JsonObject schemas)
    {
        var parameters = new JsonArray();
        foreach (Match match in PathParameter().Matches(route.Path))
            parameters.Add((JsonNode)Parameter(match.Groups[1].Value, "path", match.Groups[1].Value == "ref" ? "name or id" : "id"));
        foreach (var (name, meaning) in route.Query)
            parameters.Add((JsonNode)Parameter(name, "query", meaning));
        var operation = new JsonObject
        {
            ["summary"] = route.Summary,
            ["description"] = route.Access switch
            {
                Access.Anyone => "For anyone.",
                Access.Read => "For every member of the cluster.",
                Access.Local => "Only at the node's own unix socket.",
                Access.OwnNode => "For a worker as far as it is about itself; for managers and the local socket.",
                _ => "For managers and the local socket.",
            },
            ["parameters"] = parameters,
            ["responses"] = new JsonObject
            {
                [Registry.Names.Text(route.Success)] = Content("Done", route.ContentType, Reference(route.Response, schemas)),
                ["default"] = Content("Refused", "application/json", new JsonObject { ["$ref"] = "#/components/schemas/ErrorBody" }),
            },
            ["security"] = route.Access == Access.Anyone ? new JsonArray() : new JsonArray(new JsonObject { ["clusterCertificate"] = new JsonArray() }),
        };
        if (route.Request is not null)
        {
            operation["requestBody"] = new JsonObject
            {
                ["required"] = true,
                ["content"] = new JsonObject { ["application/json"] = new JsonObject { ["schema"] = Reference(route.Request, schemas) } },
            };
        }
        return operation;
    }

    private static JsonObject Parameter(string name, string place, string meaning) => new()
    {
        ["name"] = name,
        ["in"] = place,
        ["required"] = place == "path",
        ["description"] = meaning,
        ["schema"] = new JsonObject { ["type"] = "string" },
    };

    private static JsonObject Content(string description, string contentType, JsonNode? schema) => new()
    {
        ["description"] = description,
        ["content"] = new JsonObject { [contentType] = schema is null ? new JsonObject() : new JsonObject { ["schema"] = schema } },
    };

    private static JsonNode? Reference(JsonTypeInfo? type, JsonObject schemas)
    {
        if (type is null)
            return null;
        if (type is { Kind: JsonTypeInfoKind.Enumerable, ElementType: { } element })
            return new JsonObject
            {
                ["type"] = "array",
                ["items"] = Reference(OverlayNetJson.Default.GetTypeInfo(element), schemas),
            };
        var name = type.Type.Name;
        if (!schemas.ContainsKey(name))
            schemas[name] = Schema(type);
        return new JsonObject { ["$ref"] = $"#/components/schemas/{name}" };
    }

    // References inside an exported schema count from its own root; exported apart, they have to be told where it lies.
    private static JsonNode Schema(JsonTypeInfo type)
    {
        var schema = type.GetJsonSchemaAsNode(SchemaOptions);
        Rebase(schema, $"#/components/schemas/{type.Type.Name}");
        return schema;
    }

    private static void Rebase(JsonNode? node, string root)
    {
        if (node is JsonArray array)
        {
            foreach (var item in array)
                Rebase(item, root);
        }
        if (node is not JsonObject objectNode)
            return;
        if (objectNode["$ref"]?.GetValueKind() == System.Text.Json.JsonValueKind.String)
            objectNode["$ref"] = root + objectNode["$ref"]!.GetValue<string>()[1..];
        foreach (var (_, child) in objectNode)
            Rebase(child, root);
    }

    private static JsonNode DescribeAddresses(JsonSchemaExporterContext context, JsonNode schema)
    {
        var type = Nullable.GetUnderlyingType(context.TypeInfo.Type) ?? context.TypeInfo.Type;
        if (type == typeof(IPAddress))
            return new JsonObject { ["type"] = new JsonArray("string", "null"), ["description"] = "IPv4 or IPv6 address" };
        if (type == typeof(IPNetwork))
            return new JsonObject { ["type"] = new JsonArray("string", "null"), ["description"] = "prefix in CIDR form" };
        return schema;
    }

    [GeneratedRegex(@"\{(\w+)\}")]
    private static partial Regex PathParameter();
}
