using System.CommandLine;
using System.CommandLine.Completions;
using System.Text.Json;
using OverlayNet.Tools.Api;
using OverlayNet.Tools.Cli;

namespace OverlayNet.Tools.Commands;

/// <summary>What commands on named objects share: arguments that complete from the registry, inspect and rm.</summary>
internal static class Objects
{
    // Somebody waits at a prompt: no suggestions are better than late ones.
    private static readonly TimeSpan CompletionTimeout = TimeSpan.FromMilliseconds(500);

    public static Argument<string> Reference(string name, string noun, string listPath, Shell shell)
    {
        var argument = new Argument<string>(name) { Description = $"Name, id or beginning of an id of a {noun}" };
        argument.CompletionSources.Add(context => Names(context, listPath, shell));
        return argument;
    }

    public static Argument<string[]> References(string name, string noun, string listPath, Shell shell)
    {
        var argument = new Argument<string[]>(name) { Description = $"Names, ids or beginnings of ids of {noun}s", Arity = ArgumentArity.OneOrMore };
        argument.CompletionSources.Add(context => Names(context, listPath, shell));
        return argument;
    }

    public static Option<string?> ReferenceOption(string option, string description, string listPath, Shell shell)
    {
        var result = Inputs.Text(option, description, "NAME|ID");
        result.CompletionSources.Add(context => Names(context, listPath, shell));
        return result;
    }

    /// <summary>Prints the objects as a JSON array, as Docker's inspect does.</summary>
    public static CliCommand Inspect(Shell shell, string noun, string path, string example, Option<string?>? network = null)
    {
        var references = References(noun.ToUpperInvariant(), noun, path, shell);
        var command = new CliCommand("inspect", $"Show everything about {noun}s as JSON", example) { references };
        if (network is not null)
            command.Options.Add(network);
        shell.Action(command, async (parsed, api, cancellation) =>
        {
            var objects = new List<byte[]>();
            foreach (var reference in parsed.GetValue(references)!)
                objects.Add(await api.Get(PathOf(path, reference, parsed, network), cancellation).ConfigureAwait(false));
            Shell.WriteJson(parsed.InvocationConfiguration.Output, Array(objects));
        });
        return command;
    }

    /// <param name="force">What <c>--force</c> does; null: there is no such flag.</param>
    public static CliCommand Remove(Shell shell, string noun, string path, string description, string example, Option<string?>? network = null, string? force = null)
    {
        var forced = new Option<bool>("--force", "-f") { Description = force };
        var references = References(noun.ToUpperInvariant(), noun, path, shell);
        var command = new CliCommand("rm", description, example) { references };
        command.Aliases.Add("remove");
        if (network is not null)
            command.Options.Add(network);
        if (force is not null)
            command.Options.Add(forced);
        shell.Action(command, (parsed, api, cancellation) => Each(parsed, parsed.GetValue(references)!, reference =>
            api.Delete(PathOf(path, reference, parsed, network, force is not null && parsed.GetValue(forced)), cancellation)));
        return command;
    }

    /// <summary>Does the same with every reference and prints each when done, as Docker does; one that fails does not keep the rest back.</summary>
    public static async Task Each(ParseResult parsed, IReadOnlyList<string> references, Func<string, Task> action)
    {
        CommandFailure? first = null;
        foreach (var reference in references)
        {
            try
            {
                await action(reference).ConfigureAwait(false);
                parsed.InvocationConfiguration.Output.WriteLine(reference);
            }
            catch (CommandFailure failure) when (references.Count > 1)
            {
                if (first is not null)
                    parsed.InvocationConfiguration.Error.WriteLine($"overlaynet: {failure.Message}");
                first ??= failure;
            }
        }
        if (first is not null)
            throw first;
    }

    public static string PathOf(string path, string reference, ParseResult parsed, Option<string?>? network, bool force = false) =>
        $"{path}/{Text.Escape(reference)}{Text.Query(("network", network is null ? null : parsed.GetValue(network)), ("force", force ? "true" : null))}";

    private static byte[] Array(List<byte[]> objects)
    {
        using var buffer = new MemoryStream();
        buffer.Write("["u8);
        for (var i = 0; i < objects.Count; i++)
        {
            if (i > 0)
                buffer.Write(","u8);
            buffer.Write(objects[i]);
        }
        buffer.Write("]"u8);
        return buffer.ToArray();
    }

    public static IEnumerable<CompletionItem> Names(CompletionContext context, string listPath, Shell shell)
    {
        try
        {
            using var api = new ApiClient(context.ParseResult.GetValue(shell.Socket)!, CompletionTimeout);
            using var list = JsonDocument.Parse(api.Get(listPath, CancellationToken.None).GetAwaiter().GetResult());
            return [.. list.RootElement.EnumerateArray().Select(item => new CompletionItem(item.GetProperty("name").GetString()!))];
        }
        catch (Exception e) when (e is CommandFailure or DaemonUnreachable or JsonException or InvalidOperationException or KeyNotFoundException)
        {
            return [];
        }
    }
}
