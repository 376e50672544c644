using System.CommandLine;
using OverlayNet.Tools.Cli;

namespace OverlayNet.Tools.Commands;

/// <summary><c>overlaynet completion</c>: a script for the shell; it asks this program itself, so that names of objects complete too.</summary>
internal static class CompletionCommand
{
    private const string Bash =
        """
        # overlaynet completion for bash
        _overlaynet() {
            local line
            COMPREPLY=()
            while IFS= read -r line; do
                COMPREPLY+=("$line")
            done < <("${COMP_WORDS[0]}" "[suggest:${COMP_POINT}]" "${COMP_LINE}" 2>/dev/null)
            COMPREPLY=($(compgen -W "${COMPREPLY[*]}" -- "${COMP_WORDS[COMP_CWORD]}"))
        }
        complete -o default -F _overlaynet overlaynet
        """;

    private const string Zsh =
        """
        #compdef overlaynet
        # overlaynet completion for zsh
        _overlaynet() {
            local -a suggestions
            suggestions=("${(@f)$("${words[1]}" "[suggest:${CURSOR}]" "${BUFFER}" 2>/dev/null)}")
            compadd -a suggestions
        }
        compdef _overlaynet overlaynet
        """;

    public static Command Create() => new CliCommand("completion", "Print a completion script for a shell", "completion bash > /etc/bash_completion.d/overlaynet", "completion zsh > \"${fpath[1]}/_overlaynet\"")
    {
        Print("bash", Bash), Print("zsh", Zsh),
    };

    private static CliCommand Print(string name, string script)
    {
        var command = new CliCommand(name, $"Print the script for {name}");
        command.SetAction(parsed => parsed.InvocationConfiguration.Output.WriteLine(script));
        return command;
    }
}
