using System.Diagnostics;
using System.Globalization;
using System.Text.Json;
using OverlayNet.Kernel;

namespace OverlayNet.Tools.Diagnosis.Firewall;

/// <summary>The rules of one network namespace, as <c>nft -j list ruleset</c> gives them; iptables-nft's are among them, and those of the older tables are added.</summary>
internal sealed class Ruleset
{
    private readonly List<Chain> _chains = [];

    /// <exception cref="JsonException">It is not what libnftables-json(5) describes.</exception>
    public static Ruleset Parse(string json)
    {
        var ruleset = new Ruleset();
        using var document = JsonDocument.Parse(json);
        var rules = new List<Rule>();
        foreach (var item in document.RootElement.GetProperty("nftables").EnumerateArray())
        {
            if (item.TryGetProperty("chain", out var chain))
            {
                ruleset._chains.Add(new Chain(
                    Text(chain, "family"), Text(chain, "table"), Text(chain, "name"), chain.TryGetProperty("hook", out var hook) ? hook.GetString() : null,
                    chain.TryGetProperty("prio", out var priority) && priority.TryGetInt32(out var number) ? number : 0,
                    chain.TryGetProperty("policy", out var policy) && policy.GetString() == "drop", []));
            }
            else if (item.TryGetProperty("rule", out var rule))
            {
                rules.Add(new Rule(Text(rule, "family"), Text(rule, "table"), Text(rule, "chain"), rule.GetProperty("handle").GetInt64(), rule.GetProperty("expr").Clone()));
            }
        }
        foreach (var rule in rules)
            ruleset._chains.FirstOrDefault(chain => chain.Family == rule.Family && chain.Table == rule.Table && chain.Name == rule.Chain)?.Rules.Add(rule);
        return ruleset;
    }

    /// <summary>Reads them with the programs nft and iptables-legacy-save.</summary>
    /// <returns>Null where there is no nft, or it cannot list them, and there are no older tables.</returns>
    public static Ruleset? Read(NetworkNamespace netns)
    {
        var ruleset = ReadNft(netns);
        foreach (var (chain, rules) in LegacyTables.Read(netns))
        {
            ruleset ??= new Ruleset();
            ruleset.Add(chain, rules);
        }
        return ruleset;
    }

    /// <summary>Adds a chain of the older tables.</summary>
    public void Add(Chain chain, IEnumerable<Rule> rules)
    {
        chain.Rules.AddRange(rules);
        _chains.Add(chain);
    }

    private static Ruleset? ReadNft(NetworkNamespace netns)
    {
        try
        {
            return netns.Run(() =>
            {
                using var process = Process.Start(new ProcessStartInfo("nft", ["-j", "list", "ruleset"]) { RedirectStandardOutput = true, RedirectStandardError = true })!;
                var error = process.StandardError.ReadToEndAsync();
                var json = process.StandardOutput.ReadToEnd();
                process.WaitForExit();
                error.Wait();
                return process.ExitCode == 0 ? Parse(json) : null;
            });
        }
        catch (Exception e) when (e is System.ComponentModel.Win32Exception or JsonException or KeyNotFoundException)
        {
            return null;
        }
    }

    /// <summary>Base chains of a hook that packets of an IP family pass, in the order they pass them.</summary>
    public IEnumerable<Chain> Hooked(string hook, bool ipv6) => _chains
        .Where(chain => chain.Hook == hook && (chain.Family == "inet" || chain.Family == (ipv6 ? "ip6" : "ip")))
        .OrderBy(chain => chain.Priority);

    /// <summary>Whether a chain has a rule with a statement.</summary>
    public bool Has(string family, string table, string chain, string statement) => _chains
        .Where(one => one.Family == family && one.Table == table && one.Name == chain)
        .SelectMany(one => one.Rules).Any(rule => rule.Expressions.EnumerateArray().Any(expression => expression.TryGetProperty(statement, out _)));

    public Chain? Find(Chain from, string name) => _chains.FirstOrDefault(chain => chain.Family == from.Family && chain.Table == from.Table && chain.Name == name && chain.Legacy == from.Legacy);

    private static string Text(JsonElement element, string name) => element.GetProperty(name).GetString() ?? "";

    /// <param name="Hook">Null: only reached by a jump.</param>
    internal sealed record Chain(string Family, string Table, string Name, string? Hook, int Priority, bool DropsByPolicy, List<Rule> Rules)
    {
        /// <summary>Of the older tables.</summary>
        public bool Legacy { get; init; }
    }

    internal sealed record Rule(string Family, string Table, string Chain, long Handle, JsonElement Expressions)
    {
        /// <summary>Of the older tables: its specification, in iptables' words.</summary>
        public string? Legacy { get; init; }

        public override string ToString() => Legacy ?? string.Join(' ', Expressions.EnumerateArray().Select(Words).Where(words => words.Length > 0));

        private static string Words(JsonElement expression)
        {
            var statement = expression.EnumerateObject().First();
            return statement.Name switch
            {
                "match" => $"{Side(statement.Value.GetProperty("left"))} {(statement.Value.GetProperty("op").GetString() is var op && op is "==" or "in" ? "" : op + " ")}{Side(statement.Value.GetProperty("right"))}",
                "counter" => "counter",
                "jump" or "goto" => $"{statement.Name} {statement.Value.GetProperty("target").GetString()}",
                "xt" => statement.Value.ValueKind == JsonValueKind.Object ? $"{statement.Value.GetProperty("type").GetString()} {statement.Value.GetProperty("name").GetString()}" : "xt",
                _ => statement.Name,
            };
        }

        private static string Side(JsonElement side)
        {
            switch (side.ValueKind)
            {
                case JsonValueKind.String:
                    return side.GetString()!;
                case JsonValueKind.Array:
                    return string.Join(',', side.EnumerateArray().Select(Side));
                case JsonValueKind.Object:
                    break;
                default:
                    return side.GetRawText();
            }
            var part = side.EnumerateObject().First();
            return part.Name switch
            {
                "payload" when part.Value.TryGetProperty("protocol", out var protocol) => $"{protocol.GetString()} {part.Value.GetProperty("field").GetString()}",
                "meta" or "ct" => $"{part.Name} {part.Value.GetProperty("key").GetString()}",
                "set" => $"{{ {string.Join(", ", part.Value.EnumerateArray().Select(Side))} }}",
                "range" => $"{Side(part.Value[0])}-{Side(part.Value[1])}",
                "prefix" => string.Create(CultureInfo.InvariantCulture, $"{Side(part.Value.GetProperty("addr"))}/{part.Value.GetProperty("len").GetInt32()}"),
                _ => part.Name,
            };
        }
    }
}
