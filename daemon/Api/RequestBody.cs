using System.Globalization;
using System.Text;
using System.Text.Json;
using System.Text.Json.Serialization.Metadata;
using OverlayNet.Contracts;
using OverlayNet.Daemon.Registry;

namespace OverlayNet.Daemon.Api;

/// <summary>Reads JSON bodies so that each mistake is told where it is and what would be right.</summary>
public static class RequestBody
{
    public const int MaxBytes = 1 << 20;

    /// <summary>Reads and checks the body of a request.</summary>
    /// <param name="strict">Unknown fields are mistakes (a person's request) rather than news from a newer peer.</param>
    /// <exception cref="RegistryException">400, or 413 for a body over <see cref="MaxBytes"/>.</exception>
    public static async Task<T> ReadAsync<T>(HttpRequest request, JsonTypeInfo<T> type, bool strict, CancellationToken cancel)
    {
        using var body = new MemoryStream();
        var buffer = new byte[8192];
        int read;
        while ((read = await request.Body.ReadAsync(buffer, cancel).ConfigureAwait(false)) > 0)
        {
            body.Write(buffer, 0, read);
            if (body.Length > MaxBytes)
                throw new RegistryException(StatusCodes.Status413PayloadTooLarge, Error(
                    "body-too-large", "body", $"it has more than {MaxBytes} bytes", "send a smaller request"));
        }
        return Parse(body.ToArray(), type, strict);
    }

    /// <exception cref="RegistryException">400: malformed, unknown, missing or mistyped; the message names line and position.</exception>
    public static T Parse<T>(ReadOnlySpan<byte> body, JsonTypeInfo<T> type, bool strict)
    {
        var fields = Fields(body);
        var known = type.Properties.Select(p => p.Name).ToList();
        if (strict && fields.FirstOrDefault(f => !known.Contains(f.Name)) is { Name: not null } unknown)
            throw Bad("unknown-field", unknown.Name, $"line {unknown.Line}, position {unknown.Position}: there is no such field",
                $"known fields: {string.Join(", ", known)}");
        foreach (var property in type.Properties)
        {
            if (property.IsRequired && fields.All(f => f.Name != property.Name))
                throw Bad("missing-field", property.Name, "it is missing", $"add \"{property.Name}\": ... to the request");
        }
        try
        {
            return JsonSerializer.Deserialize(body, type)
                ?? throw Bad("malformed-json", "body", "it is null", "send a JSON object");
        }
        catch (JsonException e)
        {
            throw Mistyped(body, type, e);
        }
    }

    private static List<(string Name, long Line, long Position)> Fields(ReadOnlySpan<byte> body)
    {
        var fields = new List<(string, long, long)>();
        var reader = new Utf8JsonReader(body);
        try
        {
            if (!reader.Read() || reader.TokenType != JsonTokenType.StartObject)
                throw Bad("malformed-json", "body", "line 1: it is not a JSON object", "send an object: {\"field\": \"value\", ...}");
            while (reader.Read())
            {
                if (reader.TokenType != JsonTokenType.PropertyName || reader.CurrentDepth != 1)
                    continue;
                var (line, position) = Place(body, reader.TokenStartIndex);
                fields.Add((reader.GetString()!, line, position));
            }
        }
        catch (JsonException e)
        {
            var why = e.Message;
            if (why.IndexOf(" LineNumber:", StringComparison.Ordinal) is var detail and > 0)
                why = why[..detail];
            throw Bad("malformed-json", "body",
                string.Create(CultureInfo.InvariantCulture, $"line {e.LineNumber + 1}, position {e.BytePositionInLine + 1}: {why}"),
                "mend the JSON there");
        }
        return fields;
    }

    private static (long Line, long Position) Place(ReadOnlySpan<byte> body, long at)
    {
        var before = body[..(int)at];
        return (before.Count((byte)'\n') + 1, at - before.LastIndexOf((byte)'\n'));
    }

    private static RegistryException Mistyped(ReadOnlySpan<byte> body, JsonTypeInfo type, JsonException error)
    {
        var field = (error.Path ?? "$").TrimStart('$', '.');
        var name = field.Split('.', '[')[0];
        var property = type.Properties.FirstOrDefault(p => p.Name == name);
        var value = RawValue(body, name);
        var expected = property is null ? "another kind of value" : Expected(property.PropertyType);
        return new RegistryException(StatusCodes.Status400BadRequest, new ErrorBody
        {
            Code = "invalid-field",
            Message = $"{field} '{value}': line {error.LineNumber + 1}, position {error.BytePositionInLine + 1}: it is not {expected}",
            Field = field,
            Value = value,
            Remedy = $"give {expected}",
        });
    }

    private static string RawValue(ReadOnlySpan<byte> body, string name)
    {
        using var document = JsonDocument.Parse(Encoding.UTF8.GetString(body));
        return document.RootElement.TryGetProperty(name, out var value) ? value.ToString() : "";
    }

    private static string Expected(Type type)
    {
        type = Nullable.GetUnderlyingType(type) ?? type;
        if (type.IsEnum)
            return "one of " + string.Join(", ", Enum.GetNames(type).Select(n => JsonNamingPolicy.CamelCase.ConvertName(n)));
        if (type == typeof(string))
            return "a string";
        if (type == typeof(bool))
            return "true or false";
        if (type == typeof(int) || type == typeof(long))
            return "a whole number";
        if (type == typeof(System.Net.IPAddress))
            return "an IP address, such as \"192.0.2.1\"";
        if (type.IsAssignableTo(typeof(IEnumerable<KeyValuePair<string, string>>)))
            return "an object of strings";
        return type.IsAssignableTo(typeof(System.Collections.IEnumerable)) ? "a list" : "a value of the right kind";
    }

    private static RegistryException Bad(string code, string field, string problem, string remedy) =>
        new(StatusCodes.Status400BadRequest, Error(code, field, problem, remedy));

    private static ErrorBody Error(string code, string field, string problem, string remedy) => new()
    {
        Code = code,
        Message = $"{field}: {problem}",
        Field = field,
        Remedy = remedy,
    };
}
