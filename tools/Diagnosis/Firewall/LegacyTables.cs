using System.Diagnostics;
using System.Text;
using System.Text.Json.Nodes;
using OverlayNet.Kernel;

namespace OverlayNet.Tools.Diagnosis.Firewall;

/// <summary>
/// Rules of the older packet filter (<c>ip_tables</c>, which <c>iptables-legacy</c> writes and <c>nft</c> does not show), as <c>iptables-legacy-save</c> prints them,
/// in the form in which <see cref="RulesetWalk"/> reads nftables' rules.
/// </summary>
internal static class LegacyTables
{
    // Priorities of the tables' hooks (linux/netfilter_ipv4.h, enum nf_ip_hook_priorities). NAT tables drop nothing.
    private static readonly Dictionary<string, int> Priorities = new() { ["raw"] = -300, ["mangle"] = -150, ["filter"] = 0, ["security"] = 50 };

    // Matches that say no more than the options that come with them.
    private static readonly HashSet<string> Plain = ["udp", "tcp", "multiport", "comment", "conntrack", "state"];

    /// <summary>Of both families; empty where the kernel has no such tables.</summary>
    public static IEnumerable<(Ruleset.Chain Chain, IReadOnlyList<Ruleset.Rule> Rules)> Read(NetworkNamespace netns)
    {
        foreach (var (family, names, program) in new[] { ("ip", "ip_tables_names", "iptables-legacy-save"), ("ip6", "ip6_tables_names", "ip6tables-legacy-save") })
        {
            if (Save(netns, names, program) is not { } saved)
                continue;
            foreach (var chain in Parse(family, saved))
                yield return chain;
        }
    }

    /// <summary>Pure.</summary>
    /// <param name="family">ip or ip6.</param>
    /// <param name="saved">What <c>iptables-save</c> prints (iptables-save(8)).</param>
    public static IEnumerable<(Ruleset.Chain Chain, IReadOnlyList<Ruleset.Rule> Rules)> Parse(string family, string saved)
    {
        var table = "";
        var chains = new List<Ruleset.Chain>();
        var rules = new List<Ruleset.Rule>();
        foreach (var line in saved.Split('\n', StringSplitOptions.TrimEntries))
        {
            if (line.StartsWith('*'))
            {
                table = line[1..];
            }
            else if (line.StartsWith(':') && line[1..].Split(' ') is [var name, var policy, ..] && Priorities.TryGetValue(table, out var priority))
            {
                // A chain of somebody's own has no policy, and no hook.
                var isBase = policy != "-";
                chains.Add(new Ruleset.Chain(family, table, name, isBase ? name.ToLowerInvariant() : null, priority, policy == "DROP", []) { Legacy = true });
            }
            else if (line.StartsWith("-A ", StringComparison.Ordinal) && Priorities.ContainsKey(table) && Words(line) is [_, var chain, .. var specification])
            {
                rules.Add(new Ruleset.Rule(family, table, chain, 0, Expressions(family, specification)) { Legacy = line[(line.IndexOf(chain, StringComparison.Ordinal) + chain.Length)..].TrimStart() });
            }
        }
        return chains.Select(chain => (chain, (IReadOnlyList<Ruleset.Rule>)[.. rules.Where(rule => rule.Table == chain.Table && rule.Chain == chain.Name)]));
    }

    private static string? Save(NetworkNamespace netns, string names, string program)
    {
        try
        {
            return netns.Run(() =>
            {
                // The program would be started in vain, and where the module is not loaded it would load it.
                if (File.ReadAllText($"/proc/thread-self/net/{names}").Length == 0)
                    return null;
                using var process = Process.Start(new ProcessStartInfo(program) { RedirectStandardOutput = true, RedirectStandardError = true })!;
                var error = process.StandardError.ReadToEndAsync();
                var saved = process.StandardOutput.ReadToEnd();
                process.WaitForExit();
                error.Wait();
                return process.ExitCode == 0 ? saved : null;
            });
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or System.ComponentModel.Win32Exception)
        {
            return null;
        }
    }

    private static System.Text.Json.JsonElement Expressions(string family, IReadOnlyList<string> words)
    {
        var expressions = new JsonArray();
        void Take(JsonNode expression) => expressions.Add(expression);
        var negated = false;
        JsonNode? verdict = null;
        for (var i = 0; i < words.Count; i++)
        {
            string Value() => i + 1 < words.Count ? words[++i] : "";
            switch (words[i])
            {
                case "!":
                    negated = true;
                    continue;
                case "-s" or "--source":
                    Take(Match(Payload(family, "saddr"), Prefix(Value()), negated));
                    break;
                case "-d" or "--destination":
                    Take(Match(Payload(family, "daddr"), Prefix(Value()), negated));
                    break;
                case "-p" or "--protocol":
                    Take(Match(Meta("l4proto"), Value(), negated));
                    break;
                case "-i" or "--in-interface":
                    Take(Match(Meta("iifname"), Interface(Value()), negated));
                    break;
                case "-o" or "--out-interface":
                    Take(Match(Meta("oifname"), Interface(Value()), negated));
                    break;
                case "--dport" or "--dports" or "--destination-port" or "--destination-ports":
                    Take(Match(Payload("th", "dport"), Ports(Value()), negated));
                    break;
                case "--sport" or "--sports" or "--source-port" or "--source-ports":
                    Take(Match(Payload("th", "sport"), Ports(Value()), negated));
                    break;
                case "--ctstate" or "--state":
                    Take(Match(new JsonObject { ["ct"] = new JsonObject { ["key"] = "state" } }, Set(Value().ToLowerInvariant().Split(',').Select(state => (JsonNode)state)), negated));
                    break;
                case "-m" or "--match" when i + 1 < words.Count && Plain.Contains(words[i + 1]):
                case "--comment" or "--reject-with":
                    i++;
                    break;
                case "-j" or "--jump":
                    verdict = Verdict(Value(), "jump");
                    break;
                case "-g" or "--goto":
                    verdict = Verdict(Value(), "goto");
                    break;
                default:
                    // Of a target, or of a match that cannot be decided from the packet alone.
                    if (verdict is null)
                        Take(new JsonObject { ["xt"] = new JsonObject { ["type"] = "match", ["name"] = words[i] } });
                    while (i + 1 < words.Count && !words[i + 1].StartsWith('-') && words[i + 1] != "!")
                        i++;
                    break;
            }
            negated = false;
        }
        if (verdict is not null)
            Take(verdict);
        return System.Text.Json.JsonDocument.Parse(expressions.ToJsonString()).RootElement;
    }

    private static JsonObject? Verdict(string target, string way) => target switch
    {
        "DROP" => new JsonObject { ["drop"] = null },
        "REJECT" => new JsonObject { ["reject"] = null },
        "ACCEPT" => new JsonObject { ["accept"] = null },
        "RETURN" => new JsonObject { ["return"] = null },
        "NFQUEUE" or "QUEUE" => new JsonObject { ["queue"] = null },
        // Targets that let the packet go on.
        "LOG" or "NFLOG" or "MARK" or "CONNMARK" or "TRACE" or "CT" or "NOTRACK" or "TCPMSS" or "CLASSIFY" or "DSCP" or "TOS" or "TTL" or "HL" or "SET" or "CHECKSUM" or "AUDIT" => null,
        _ => new JsonObject { [way] = new JsonObject { ["target"] = target } },
    };

    private static JsonObject Match(JsonObject left, JsonNode right, bool negated) =>
        new() { ["match"] = new JsonObject { ["op"] = negated ? "!=" : "==", ["left"] = left, ["right"] = right } };

    private static JsonObject Payload(string protocol, string field) => new() { ["payload"] = new JsonObject { ["protocol"] = protocol, ["field"] = field } };

    private static JsonObject Meta(string key) => new() { ["meta"] = new JsonObject { ["key"] = key } };

    private static JsonObject Set(IEnumerable<JsonNode> members) => new() { ["set"] = new JsonArray([.. members]) };

    private static string Interface(string name) => name.EndsWith('+') ? name[..^1] + "*" : name;

    private static JsonNode Prefix(string text) => text.Split('/') is [var address, var length] && int.TryParse(length, out var bits)
        ? new JsonObject { ["prefix"] = new JsonObject { ["addr"] = address, ["len"] = bits } }
        : text;

    private static JsonObject Ports(string text) => Set(text.Split(',').Select(part => part.Split(':') is [var from, var to]
        ? new JsonObject { ["range"] = new JsonArray(Port(from, 0), Port(to, ushort.MaxValue)) }
        : (JsonNode)Port(part, 0)));

    private static int Port(string text, int otherwise) => int.TryParse(text, out var port) ? port : otherwise;

    /// <summary>As a shell splits them; quotes hold a comment together.</summary>
    private static List<string> Words(string line)
    {
        var words = new List<string>();
        var word = new StringBuilder();
        var quoted = false;
        for (var i = 0; i < line.Length; i++)
        {
            if (line[i] == '\\' && i + 1 < line.Length)
                word.Append(line[++i]);
            else if (line[i] == '"')
                quoted = !quoted;
            else if (line[i] != ' ' || quoted)
                word.Append(line[i]);
            else if (word.Length > 0)
            {
                words.Add(word.ToString());
                word.Clear();
            }
        }
        if (word.Length > 0)
            words.Add(word.ToString());
        return words;
    }
}
