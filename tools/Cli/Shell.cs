using System.CommandLine;
using System.Text.Json;
using OverlayNet.Tools.Api;

namespace OverlayNet.Tools.Cli;

/// <summary>What every command shares: the daemon's socket, the choice of JSON, and one way to run against the daemon.</summary>
internal sealed class Shell
{
    public const string DefaultSocket = "/run/overlaynet/overlaynet.sock";
    public const string SocketVariable = "OVERLAYNET_SOCKET";

    public Option<string> Socket { get; } = new("--socket")
    {
        Description = $"Unix socket of the daemon (also {SocketVariable})",
        HelpName = "PATH",
        Recursive = true,
        DefaultValueFactory = _ => Environment.GetEnvironmentVariable(SocketVariable) is { Length: > 0 } path ? path : DefaultSocket,
    };

    public Option<bool> Json { get; } = new("--json")
    {
        Description = "Print the daemon's answer as JSON",
        Recursive = true,
    };

    public ApiClient Connect(ParseResult parsed) => new(parsed.GetValue(Socket)!);

    public bool WantsJson(ParseResult parsed) => parsed.GetValue(Json);

    /// <summary>Makes a command whose action talks to the daemon and then is done.</summary>
    public void Action(Command command, Func<ParseResult, ApiClient, CancellationToken, Task> action) =>
        command.SetAction(async (parsed, cancellation) =>
        {
            using var api = Connect(parsed);
            await action(parsed, api, cancellation).ConfigureAwait(false);
            return ExitCodes.Ok;
        });

    /// <summary>A read: the daemon's own JSON when asked for (fields that this program does not know included), else a rendering.</summary>
    public void Read(Command command, Func<ParseResult, string> path, Action<ParseResult, byte[]> render) =>
        Action(command, async (parsed, api, cancellation) =>
        {
            var body = await api.Get(path(parsed), cancellation).ConfigureAwait(false);
            if (WantsJson(parsed))
                WriteJson(parsed.InvocationConfiguration.Output, body);
            else
                render(parsed, body);
        });

    /// <summary>Prints an answer indented.</summary>
    public static void WriteJson(TextWriter output, byte[] body)
    {
        using var document = JsonDocument.Parse(body.Length == 0 ? "null"u8.ToArray() : body);
        using var buffer = new MemoryStream();
        using (var writer = new Utf8JsonWriter(buffer, new JsonWriterOptions { Indented = true }))
            document.WriteTo(writer);
        output.WriteLine(System.Text.Encoding.UTF8.GetString(buffer.GetBuffer(), 0, (int)buffer.Length));
    }
}
