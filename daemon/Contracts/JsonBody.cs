using System.Net.Http.Headers;
using System.Text.Json;
using System.Text.Json.Serialization.Metadata;

namespace OverlayNet.Contracts;

/// <summary>JSON as the body of a request, with its length, which not every server can do without.</summary>
public static class JsonBody
{
    public static ByteArrayContent Of<T>(T value, JsonTypeInfo<T> type) => Of(JsonSerializer.SerializeToUtf8Bytes(value, type));

    /// <param name="json">Written already.</param>
    public static ByteArrayContent Of(byte[] json) => new(json) { Headers = { ContentType = new MediaTypeHeaderValue("application/json") } };
}
