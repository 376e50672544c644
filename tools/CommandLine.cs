using System.CommandLine;
using System.CommandLine.Help;
using System.CommandLine.Invocation;
using System.CommandLine.Parsing;
using OverlayNet.Kernel;
using OverlayNet.Tools.Api;
using OverlayNet.Tools.Cli;
using OverlayNet.Tools.Commands;

namespace OverlayNet.Tools;

/// <summary>The program: parses, runs one command, and turns every failure into a message with a remedy and an exit code.</summary>
internal static class CommandLine
{
    public static async Task<int> Run(string[] args, TextWriter output, TextWriter error, CancellationToken cancellation)
    {
        var parsed = Root().Parse(args);
        if (parsed.Action is ParseErrorAction)
        {
            Complain(error, parsed);
            return ExitCodes.BadInput;
        }
        var configuration = new InvocationConfiguration
        {
            Output = output,
            Error = error,
            EnableDefaultExceptionHandler = false,
            // Ctrl-C ends the program as it ends any other; 'run' has handlers of its own.
            ProcessTerminationTimeout = null,
        };
        try
        {
            return await parsed.InvokeAsync(configuration, cancellation).ConfigureAwait(false);
        }
        catch (CommandFailure failure)
        {
            Complain(error, failure.Message, failure.Remedy);
            return failure.ExitCode;
        }
        catch (DaemonUnreachable failure)
        {
            Complain(error, failure.Message, $"start overlaynetd, or name its socket with --socket or {Shell.SocketVariable}; 'overlaynet status' works without it");
            return ExitCodes.Failed;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or KernelException)
        {
            Complain(error, e.Message, Environment.IsPrivilegedProcess ? null : "run it as root");
            return ExitCodes.Failed;
        }
    }

    internal static RootCommand Root()
    {
        var shell = new Shell();
        var root = new RootCommand("Overlay networks, names and virtual IPs for containers on a few Linux machines.")
        {
            shell.Socket,
            shell.Json,
            InitCommand.Create(shell),
            JoinCommand.Create(shell),
            LeaveCommand.Create(shell),
            TokenCommand.Create(shell),
            AuthorityCommand.Create(shell),
            NodeCommands.Create(shell),
            NetworkCommands.Create(shell),
            ServiceCommands.Create(shell),
            AttachCommand.Create(shell),
            DetachCommand.Create(shell),
            EndpointCommands.Create(shell),
            VipCommands.Create(shell),
            RunCommand.Create(shell),
            DnsCommands.Create(shell),
            StatusCommand.Create(shell),
            EventsCommand.Create(shell),
            DoctorCommand.Create(shell),
            CniCommand.Create(shell),
            NetavarkCommand.Create(shell),
            CaptureCommand.Create(shell),
            TraceCommand.Create(shell),
            TopCommand.Create(shell),
            BundleCommand.Create(shell),
            RecoveryCommands.Backup(shell),
            RecoveryCommands.Restore(shell),
            RecoveryCommands.Recover(shell),
            CompletionCommand.Create(),
        };
        var help = root.Options.OfType<HelpOption>().Single();
        help.Action = new HelpWithExamples((HelpAction)help.Action!);
        return root;
    }

    private static void Complain(TextWriter error, ParseResult parsed)
    {
        // A word that fits nowhere explains the complaint about what is then missing.
        var unknown = parsed.UnmatchedTokens.FirstOrDefault();
        var cause = parsed.Errors.FirstOrDefault(e => unknown is not null && e.Message.Contains($"'{unknown}'", StringComparison.Ordinal)) ?? parsed.Errors[0];
        // The parser's own words for a missing argument do not say which one.
        var message = cause.SymbolResult is ArgumentResult { Tokens.Count: 0 } argument ? $"{argument.Argument.Name} is missing" : cause.Message;
        var first = message.Split('\n', 2);
        Complain(error, first[0], first.Length == 2 ? first[1] : $"see '{Path(parsed.CommandResult.Command)} --help'");
    }

    private static void Complain(TextWriter error, string message, string? remedy)
    {
        error.WriteLine($"overlaynet: {message}");
        if (remedy is { Length: > 0 })
            error.WriteLine($"remedy: {remedy}");
    }

    private static string Path(Command command)
    {
        var names = new List<string>();
        for (Symbol? symbol = command; symbol is not null; symbol = symbol.Parents.FirstOrDefault())
            names.Insert(0, symbol is RootCommand ? "overlaynet" : symbol.Name);
        return string.Join(' ', names);
    }
}
