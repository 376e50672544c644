using System.CommandLine;
using System.CommandLine.Help;
using System.CommandLine.Invocation;

namespace OverlayNet.Tools.Cli;

/// <summary>A command whose help ends with examples.</summary>
internal sealed class CliCommand : Command
{
    public CliCommand(string name, string description, params string[] examples)
        : base(name, description) => Examples = examples;

    /// <summary>Without the program's name in front.</summary>
    public IReadOnlyList<string> Examples { get; }
}

/// <summary>The usual help, then the command's examples.</summary>
internal sealed class HelpWithExamples(HelpAction help) : SynchronousCommandLineAction
{
    public override bool ClearsParseErrors => true;

    public override int Invoke(ParseResult parseResult)
    {
        var code = help.Invoke(parseResult);
        if (parseResult.CommandResult.Command is not CliCommand { Examples.Count: > 0 } command)
            return code;
        var output = parseResult.InvocationConfiguration.Output;
        output.WriteLine("Examples:");
        foreach (var example in command.Examples)
            output.WriteLine($"  overlaynet {example}");
        output.WriteLine();
        return code;
    }
}
