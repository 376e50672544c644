using System.Text;
using System.Text.RegularExpressions;

namespace OverlayNet.ClusterTests.Harness;

/// <summary>The kernel's state of namespaces as text that only differs when something was changed.</summary>
public static partial class Dump
{
    public static string Of(IEnumerable<string> namespaces)
    {
        var text = new StringBuilder();
        foreach (var netns in namespaces)
        {
            text.Append("### ").Append(netns).Append('\n');
            foreach (var command in (string[][])
                     [
                         ["ip", "-d", "link", "show"], ["ip", "address", "show"], ["ip", "-4", "route", "show", "table", "all"], ["ip", "-6", "route", "show", "table", "all"],
                         ["ip", "rule", "show"], ["ip", "neigh", "show", "nud", "permanent"], ["bridge", "fdb", "show"], ["bridge", "-d", "link", "show"], ["nft", "-s", "-a", "list", "ruleset"],
                     ])
            {
                text.Append("# ").AppendJoin(' ', command).Append('\n');
                // Order is the kernel's hash tables' and may change without any change of state.
                var lines = Commands.In(netns, command[0], command[1..]).Succeeded().Lines.Select(Steady);
                text.AppendJoin('\n', command[0] == "nft" ? lines : lines.Order(StringComparer.Ordinal)).Append('\n');
            }
        }
        return text.ToString();
    }

    /// <summary>Without what moves by itself: bridge timers, and the queue state of a device.</summary>
    private static string Steady(string line) => Moving().Replace(line, "");

    [GeneratedRegex(@"(hello|tcn|topology_change|gc)_timer +[0-9.]+|expires [0-9]+(s|sec|ms)( |$)|counter packets \d+ bytes \d+")]
    private static partial Regex Moving();
}
