using System.CommandLine;
using OverlayNet.Contracts;
using OverlayNet.Tools.Api;
using OverlayNet.Tools.Cli;

namespace OverlayNet.Tools.Commands;

/// <summary><c>overlaynet token</c>: what new nodes show when they join.</summary>
internal static class TokenCommand
{
    private static readonly string[] Roles = ["worker", "manager"];

    public static Command Create(Shell shell) => new CliCommand("token", "Show or replace the tokens that new nodes join with", "token show", "token rotate worker")
    {
        Show(shell), Rotate(shell),
    };

    private static CliCommand Show(Shell shell)
    {
        var role = Role("Only this role's token", ArgumentArity.ZeroOrOne);
        var quiet = new Option<bool>("--quiet", "-q") { Description = "Print the token alone" };
        var command = new CliCommand("show", "Show the tokens and how to join with them", "token show", "token show --quiet worker") { role, quiet };
        command.Validators.Add(result =>
        {
            if (result.GetValue(quiet) && result.GetValue(role) is null)
                result.AddError(Inputs.Complaint("--quiet needs a role", "say which token: overlaynet token show --quiet worker"));
        });
        shell.Read(command, _ => "/v1/tokens", (parsed, body) => Print(parsed, body, parsed.GetValue(role), parsed.GetValue(quiet)));
        return command;
    }

    private static CliCommand Rotate(Shell shell)
    {
        var role = Role("Whose token to replace", ArgumentArity.ExactlyOne);
        var command = new CliCommand("rotate", "Replace a token: the old one lets nobody in any more, members stay", "token rotate worker") { role };
        shell.Action(command, async (parsed, api, cancellation) =>
        {
            var body = await api.Post($"/v1/tokens/rotate{Text.Query(("role", parsed.GetValue(role)))}", cancellation).ConfigureAwait(false);
            if (shell.WantsJson(parsed))
                Shell.WriteJson(parsed.InvocationConfiguration.Output, body);
            else
                Print(parsed, body, parsed.GetValue(role), quiet: false);
        });
        return command;
    }

    private static Argument<string?> Role(string description, ArgumentArity arity)
    {
        var argument = new Argument<string?>("ROLE") { Description = $"{description}: {string.Join(" or ", Roles)}", Arity = arity };
        argument.Validators.Add(result =>
        {
            if (result.Tokens is [var token] && !Roles.Contains(token.Value))
                result.AddError(Inputs.Complaint($"role '{token.Value}' is unknown", $"say {string.Join(" or ", Roles)}"));
        });
        argument.CompletionSources.Add(Roles);
        return argument;
    }

    private static void Print(ParseResult parsed, byte[] body, string? role, bool quiet)
    {
        var output = parsed.InvocationConfiguration.Output;
        var tokens = ApiClient.Parse(body, OverlayNetJson.Default.TokenBody);
        foreach (var (name, token) in new[] { ("worker", tokens.Worker), ("manager", tokens.Manager) })
        {
            if (role is not null && role != name)
                continue;
            if (quiet)
                output.WriteLine(token);
            else
                output.WriteLine($"To add a {name}: overlaynet join --token {token} HOST");
        }
    }
}
