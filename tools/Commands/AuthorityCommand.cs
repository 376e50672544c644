using System.CommandLine;
using OverlayNet.Contracts;
using OverlayNet.Tools.Api;
using OverlayNet.Tools.Cli;

namespace OverlayNet.Tools.Commands;

/// <summary><c>overlaynet ca</c>: the cluster's own certificate authority.</summary>
internal static class AuthorityCommand
{
    private static readonly TimeSpan Look = TimeSpan.FromMilliseconds(500);

    public static Command Create(Shell shell) => new CliCommand("ca", "The CA that signs the nodes' certificates", "ca show", "ca rotate")
    {
        Show(shell), Rotate(shell),
    };

    private static CliCommand Show(Shell shell)
    {
        var command = new CliCommand("show", "Show the CA, and how far its replacement is", "ca show");
        shell.Read(command, _ => "/v1/ca/rotation", (parsed, body) => Print(parsed, body));
        return command;
    }

    private static CliCommand Rotate(Shell shell)
    {
        var wait = new Option<bool>("--wait") { Description = "Until every node has a certificate of the new CA and the old one is not trusted any more" };
        var command = new CliCommand("rotate", "Replace the CA under way: first every node trusts the new one too, then it signs; join tokens become new", "ca rotate --wait") { wait };
        shell.Action(command, async (parsed, api, cancellation) =>
        {
            var body = await api.Post("/v1/ca/rotate", cancellation).ConfigureAwait(false);
            while (parsed.GetValue(wait) && ApiClient.Parse(body, OverlayNetJson.Default.AuthorityReport).Phase != "stable")
            {
                await Task.Delay(Look, cancellation).ConfigureAwait(false);
                body = await api.Get("/v1/ca/rotation", cancellation).ConfigureAwait(false);
            }
            if (shell.WantsJson(parsed))
                Shell.WriteJson(parsed.InvocationConfiguration.Output, body);
            else
                Print(parsed, body);
        });
        return command;
    }

    private static void Print(ParseResult parsed, byte[] body)
    {
        var output = parsed.InvocationConfiguration.Output;
        var report = ApiClient.Parse(body, OverlayNetJson.Default.AuthorityReport);
        output.WriteLine($"CA {report.Signer} signs, until {report.SignerExpiresAt:u}");
        foreach (var trusted in report.Trusted.Where(ca => ca != report.Signer))
            output.WriteLine($"CA {trusted} is trusted too");
        output.WriteLine(report.Phase switch
        {
            "trusting" => $"Being replaced, phase 1 of 2: every node is told to trust the new one; waits for: {Names(report)}",
            "renewing" => $"Being replaced, phase 2 of 2: every node gets a certificate of the new one; waits for: {Names(report)}",
            _ => "It is not being replaced",
        });
    }

    private static string Names(AuthorityReport report) => report.WaitsFor.Count > 0 ? string.Join(", ", report.WaitsFor) : "nobody, it goes on in a moment";
}
