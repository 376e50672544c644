using System.CommandLine;
using OverlayNet.Contracts;
using OverlayNet.Tools.Api;
using OverlayNet.Tools.Cli;

namespace OverlayNet.Tools.Commands;

/// <summary><c>overlaynet token</c>: what new nodes show when they join.</summary>
internal static class TokenCommand
{
    private static readonly string[] Roles = ["worker", "manager"];

    public static Command Create(Shell shell) => new CliCommand("token", "Show or replace the tokens that new nodes join with", "token show", "token rotate worker", "token create --once worker")
    {
        Show(shell), Rotate(shell), Further(shell), List(shell), Revoke(shell),
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

    private static CliCommand Further(Shell shell)
    {
        var role = Role("What it makes of a node", ArgumentArity.ExactlyOne);
        var ttl = Inputs.Number("--ttl", 1, 366 * 86400, "Seconds until it ends; default: an hour", "SECONDS");
        var once = new Option<bool>("--once") { Description = "It lets in one node, once" };
        var command = new CliCommand("create", "Make a further token, which ends by itself; its secret is shown this once", "token create worker", "token create --once --ttl 600 manager") { role, ttl, once };
        shell.Action(command, async (parsed, api, cancellation) =>
        {
            var body = await api.Post("/v1/tokens", new TokenCreateRequest
            {
                Role = parsed.GetValue(role) == "manager" ? NodeRole.Manager : NodeRole.Worker,
                TtlSeconds = parsed.GetValue(ttl) ?? 0,
                Once = parsed.GetValue(once),
            }, OverlayNetJson.Default.TokenCreateRequest, cancellation).ConfigureAwait(false);
            var output = parsed.InvocationConfiguration.Output;
            if (shell.WantsJson(parsed))
            {
                Shell.WriteJson(output, body);
                return;
            }
            var made = ApiClient.Parse(body, OverlayNetJson.Default.TokenInfo);
            output.WriteLine($"To add a {Text.Word(made.Role)}{(made.Once ? ", one" : "")}, until {made.ExpiresAt?.ToLocalTime():u}: overlaynet join --token {made.Token} HOST");
        });
        return command;
    }

    private static CliCommand List(Shell shell)
    {
        var command = new CliCommand("ls", "List the tokens, without their secrets", "token ls");
        command.Aliases.Add("list");
        shell.Read(command, _ => "/v1/tokens/list", (parsed, body) =>
        {
            var table = new Table("ID", "ROLE", "STATE", "EXPIRES", "ONCE", "USED BY");
            foreach (var token in ApiClient.Parse(body, OverlayNetJson.Default.ListTokenInfo))
                table.Add(token.Id, Text.Word(token.Role), token.State, token.ExpiresAt is { } at ? $"{at.ToLocalTime():yyyy-MM-dd HH:mm:ss}" : "when rotated", token.Once ? "yes" : "no", Text.Or(token.UsedBy ?? ""));
            table.Write(parsed.InvocationConfiguration.Output);
        });
        return command;
    }

    private static CliCommand Revoke(Shell shell)
    {
        var id = new Argument<string>("ID") { Description = "Of a further token, as 'token ls' shows it" };
        var command = new CliCommand("revoke", "End a further token at once; members stay", "token revoke 1a2b3c4d") { id };
        shell.Action(command, async (parsed, api, cancellation) =>
        {
            await api.Delete($"/v1/tokens/{Text.Escape(parsed.GetValue(id)!)}", cancellation).ConfigureAwait(false);
            parsed.InvocationConfiguration.Output.WriteLine(parsed.GetValue(id));
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
