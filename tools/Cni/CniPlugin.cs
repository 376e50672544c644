using System.Text.Json;

namespace OverlayNet.Tools.Cni;

/// <summary>
/// The CNI plugin: takes a call from environment and standard input to the daemon and its answer to standard output.
/// Everything else is the daemon's, so that this starts in milliseconds (it is also compiled to a program of its own).
/// </summary>
internal static class CniPlugin
{
    private const string NewestVersion = "1.1.0";
    private const int InvalidEnvironment = 4, Io = 5, Decode = 6, TryAgain = 11, NotAvailable = 50;
    private static readonly string[] Versions = ["0.3.0", "0.3.1", "0.4.0", "1.0.0", NewestVersion];

    /// <summary>Serves one call.</summary>
    /// <param name="environment">Gives a variable, null when it is not set.</param>
    /// <returns>The exit code: 0, or 1 with an error object on standard output.</returns>
    public static int Run(Func<string, string?> environment, Stream input, Stream output)
    {
        var command = environment("CNI_COMMAND");
        if (string.IsNullOrEmpty(command))
            return Fail(output, NewestVersion, InvalidEnvironment, "CNI_COMMAND is missing", "this is a CNI plugin: container runtimes call it; by hand use 'overlaynet attach'");
        var config = ReadAll(input);
        string? version, socket;
        try
        {
            // VERSION may come with no configuration at all.
            (version, socket) = config.Length == 0 && command == "VERSION" ? (null, null) : Inspect(config);
        }
        catch (JsonException e)
        {
            return Fail(output, NewestVersion, Decode, $"standard input is not a network configuration in JSON: {e.Message}", "");
        }
        if (command == "VERSION")
            return Write(output, 0, json => WriteVersions(json, version ?? NewestVersion));
        var path = socket ?? environment("OVERLAYNET_SOCKET") ?? "/run/overlaynet/overlaynet.sock";
        try
        {
            var (status, body) = DaemonCall.Post(path, "/v1/cni", Request(command, environment, config));
            output.Write(body);
            return status == 200 ? 0 : 1;
        }
        catch (DaemonCallException e)
        {
            var code = command == "STATUS" ? NotAvailable : e.Away ? TryAgain : Io;
            var known = Array.IndexOf(Versions, version) >= 0 ? version! : NewestVersion;
            return Fail(output, known, code, $"the OverlayNet daemon does not answer on {path}: {e.Message}",
                "start overlaynetd ('systemctl start overlaynetd'), or name its socket in the configuration (\"socket\") or OVERLAYNET_SOCKET");
        }
    }

    private static (string? Version, string? Socket) Inspect(byte[] config)
    {
        string? version = null, socket = null;
        var reader = new Utf8JsonReader(config);
        if (!reader.Read() || reader.TokenType != JsonTokenType.StartObject)
            throw new JsonException("it is not an object");
        while (reader.Read())
        {
            if (reader.TokenType != JsonTokenType.PropertyName || reader.CurrentDepth != 1)
                continue;
            if (reader.ValueTextEquals("cniVersion"))
                version = Text(ref reader);
            else if (reader.ValueTextEquals("socket"))
                socket = Text(ref reader);
        }
        return (version, socket);
    }

    private static string? Text(ref Utf8JsonReader reader) => reader.Read() && reader.TokenType == JsonTokenType.String ? reader.GetString() : null;

    private static byte[] Request(string command, Func<string, string?> environment, byte[] config)
    {
        using var buffer = new MemoryStream();
        using (var json = new Utf8JsonWriter(buffer))
        {
            json.WriteStartObject();
            json.WriteString("command", command);
            Optional("containerId", "CNI_CONTAINERID");
            Optional("netns", "CNI_NETNS");
            Optional("ifName", "CNI_IFNAME");
            Optional("args", "CNI_ARGS");
            json.WritePropertyName("config");
            // Inspected: it is well formed.
            json.WriteRawValue(config, skipInputValidation: true);
            json.WriteEndObject();

            void Optional(string name, string variable)
            {
                if (environment(variable) is { } value)
                    json.WriteString(name, value);
            }
        }
        return buffer.ToArray();
    }

    private static void WriteVersions(Utf8JsonWriter json, string version)
    {
        json.WriteStartObject();
        json.WriteString("cniVersion", version);
        json.WriteStartArray("supportedVersions");
        foreach (var supported in Versions)
            json.WriteStringValue(supported);
        json.WriteEndArray();
        json.WriteEndObject();
    }

    private static int Fail(Stream output, string version, int code, string message, string details) => Write(output, 1, json =>
    {
        json.WriteStartObject();
        json.WriteString("cniVersion", version);
        json.WriteNumber("code", code);
        json.WriteString("msg", message);
        if (details.Length > 0)
            json.WriteString("details", details);
        json.WriteEndObject();
    });

    private static int Write(Stream output, int exitCode, Action<Utf8JsonWriter> write)
    {
        using (var json = new Utf8JsonWriter(output))
            write(json);
        output.Flush();
        return exitCode;
    }

    private static byte[] ReadAll(Stream input)
    {
        using var buffer = new MemoryStream();
        input.CopyTo(buffer);
        return buffer.ToArray();
    }
}
