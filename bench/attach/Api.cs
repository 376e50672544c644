using System.Net.Sockets;
using System.Text;
using System.Text.Json.Nodes;

namespace OverlayNet.Bench.Attach;

/// <summary>A daemon's API without the CLI's start-up time in the figure.</summary>
internal sealed class Api(string socketPath)
{
    private readonly HttpClient _http = new(new SocketsHttpHandler
    {
        ConnectCallback = async (_, cancellation) =>
        {
            var socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
            await socket.ConnectAsync(new UnixDomainSocketEndPoint(socketPath), cancellation).ConfigureAwait(false);
            return new NetworkStream(socket, ownsSocket: true);
        },
    });

    public JsonNode Post(string path, JsonObject body)
    {
        using var response = _http.PostAsync($"http://localhost{path}", new StringContent(body.ToJsonString(), Encoding.UTF8, "application/json")).GetAwaiter().GetResult();
        var text = response.Content.ReadAsStringAsync().GetAwaiter().GetResult();
        if (!response.IsSuccessStatusCode)
            throw new InvalidOperationException($"{path}: {(int)response.StatusCode} {text}");
        return text.Length > 0 ? JsonNode.Parse(text)! : new JsonObject();
    }
}
