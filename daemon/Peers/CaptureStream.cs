using System.Buffers;
using System.Diagnostics;
using System.Globalization;
using OverlayNet.Contracts;
using OverlayNet.Daemon.Agent;
using OverlayNet.Daemon.Api;
using OverlayNet.Daemon.Registry;

namespace OverlayNet.Daemon.Peers;

/// <summary>
/// A capture on this node for a manager: <c>overlaynet capture</c> as a process of its own, whose pcapng goes to the caller as it comes. It ends with the caller, at its
/// limit of time or octets, or with the daemon, whose pipe it writes to.
/// </summary>
/// <param name="socket">The daemon's own, by which the program knows this node's objects.</param>
/// <param name="state">The daemon's state directory.</param>
internal sealed class CaptureStream(string socket, string state)
{
    public const string ContentType = "application/x-pcapng";

    /// <summary>The most at once, of all callers.</summary>
    public const int Most = 4;
    public const int LongestSeconds = 3600, DefaultMegabytes = 256, MostMegabytes = 4096;
    private const int LongestFrame = 262144, LeastSnap = 64, LongestText = 2000, Chunk = 1 << 16;
    private static readonly string[] Objects = ["service", "endpoint", "network", "node", "vip"];
    private readonly SemaphoreSlim _places = new(Most, Most);

    /// <exception cref="RegistryException">400: a value that is none; 409: too many captures, or the program refused.</exception>
    public async Task Answer(ApiCall call, NodeAgent agent)
    {
        var arguments = Arguments(call.Query);
        var most = Limit("megabytes", call.Query("megabytes"), 1, MostMegabytes, DefaultMegabytes) * 1_000_000L;
        if (!await _places.WaitAsync(TimeSpan.Zero, call.Aborted).ConfigureAwait(false))
            throw Refuse.Conflict("too-many-captures", "node", agent.Membership.NodeName, string.Create(CultureInfo.InvariantCulture, $"{Most} captures run on it already"), "end one of them");
        try
        {
            using var ends = CancellationTokenSource.CreateLinkedTokenSource(call.Aborted, call.Context.RequestServices.GetRequiredService<IHostApplicationLifetime>().ApplicationStopping);
            using var process = Start(arguments);
            try
            {
                agent.Events.Append("capture", "start", agent.Membership.NodeName, $"for {call.By} from {call.From}: {string.Join(' ', arguments)}");
                await Pass(process, call.Context.Response, most, agent.Membership.NodeName, ends.Token).ConfigureAwait(false);
            }
            finally
            {
                process.Kill();
                await process.WaitForExitAsync(CancellationToken.None).ConfigureAwait(false);
                agent.Events.Append("capture", "end", agent.Membership.NodeName, $"for {call.By}");
            }
        }
        catch (OperationCanceledException)
        {
            // The caller has gone, or the daemon stops.
        }
        finally
        {
            _places.Release();
        }
    }

    /// <summary>What is asked for as the program's options. Pure: the caller's words become values of known options, and nothing else.</summary>
    /// <exception cref="RegistryException">400: a value that is none.</exception>
    internal static List<string> Arguments(Func<string, string?> query)
    {
        List<string> arguments =
        [
            $"--duration={Text(Limit("seconds", query("seconds"), 1, LongestSeconds, LongestSeconds))}",
            $"--snap={Text(Limit("snap", query("snap"), LeastSnap, LongestFrame, LongestFrame))}",
        ];
        foreach (var name in (string[])[.. Objects, "filter"])
        {
            if (query(name) is not { } value)
                continue;
            if (value.Length > LongestText || value.Any(char.IsControl))
                throw Refuse.Invalid("invalid-query", name, null, "it is too long, or has control characters", string.Create(CultureInfo.InvariantCulture, $"give at most {LongestText} characters"));
            arguments.Add($"--{name}={value}");
        }
        return arguments;
    }

    private static int Limit(string name, string? text, int least, int most, int otherwise) => text is null ? otherwise
        : int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out var number) && number >= least && number <= most ? number
        : throw Refuse.Invalid("invalid-query", name, text, "it is out of range", string.Create(CultureInfo.InvariantCulture, $"give {least} to {most}"));

    private Process Start(List<string> arguments)
    {
        var program = Path.Combine(AppContext.BaseDirectory, "overlaynet");
        // Its own port is left out: what is sent to the caller would be captured in turn.
        var start = new ProcessStartInfo(program, ["--socket", socket, "capture", "--state", state, "--write", "-", "--quiet", "--without-api", .. arguments])
        {
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };
        try
        {
            return Process.Start(start)!;
        }
        catch (System.ComponentModel.Win32Exception e)
        {
            throw Refuse.Conflict("no-program", "node", null, $"{program} cannot be started: {e.Message}", "install overlaynet beside overlaynetd");
        }
    }

    private static async Task Pass(Process process, HttpResponse response, long most, string node, CancellationToken cancel)
    {
        process.StandardInput.Close();
        var said = process.StandardError.ReadToEndAsync(cancel);
        var output = process.StandardOutput.BaseStream;
        var buffer = ArrayPool<byte>.Shared.Rent(Chunk);
        try
        {
            long sent = 0;
            int read;
            while ((read = await output.ReadAsync(buffer, cancel).ConfigureAwait(false)) > 0 && sent + read <= most)
            {
                if (sent == 0)
                    response.ContentType = ContentType;
                await response.Body.WriteAsync(buffer.AsMemory(0, read), cancel).ConfigureAwait(false);
                sent += read;
            }
            // Before the first octet a refusal can still be said.
            if (sent == 0)
                throw Refused(node, await said.ConfigureAwait(false));
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(buffer);
        }
    }

    /// <summary>The program's complaint: <c>overlaynet: what is wrong</c>, then <c>remedy: what to do</c>.</summary>
    private static RegistryException Refused(string node, string said)
    {
        var lines = said.Split('\n', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries);
        string? Line(string start) => lines.FirstOrDefault(line => line.StartsWith(start, StringComparison.Ordinal))?[start.Length..];
        return Refuse.Conflict("capture-refused", "node", node, Line("overlaynet: ") ?? lines.FirstOrDefault() ?? "its capture ended at once", Line("remedy: ") ?? "run 'overlaynet capture' on that node");
    }

    private static string Text(int value) => value.ToString(CultureInfo.InvariantCulture);
}
