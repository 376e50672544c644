using System.Globalization;
using System.Net;
using System.Text.Json;
using OverlayNet.Tools.Cli;

namespace OverlayNet.Tools.Diagnosis.Firewall;

/// <summary>
/// Leads a packet through rules and finds the one that stops it. Pure. Says so only where it is sure: a rule with a match that
/// cannot be decided from the packet alone (a named set, a limit, an extension of iptables) counts as not matching, and one that
/// would accept by such a match keeps a chain's policy from being blamed.
/// </summary>
internal static class RulesetWalk
{
    private const int DeepestJump = 16;

    private enum Outcome
    {
        /// <summary>The end of the chain, or a return.</summary>
        Through,
        Accepted,
        Stopped,
    }

    /// <summary>The first rule of the hooks that stops the packet; null: none surely does.</summary>
    /// <param name="hooks">In nft's words, in the order in which the packet passes them: prerouting, input, ...</param>
    public static Refusal? Stops(Ruleset ruleset, FilteredPacket packet, params IEnumerable<string> hooks)
    {
        foreach (var hook in hooks)
        {
            // What one base chain accepts, the next may still drop.
            foreach (var chain in ruleset.Hooked(hook, packet.IPv6))
            {
                var walk = new Walk(ruleset, packet);
                var outcome = walk.Pass(chain, 0);
                if (outcome == Outcome.Stopped)
                    return walk.Refusal;
                if (outcome == Outcome.Through && chain.DropsByPolicy && !walk.Unsure)
                    return new Refusal(chain.Family, chain.Table, chain.Name, null, "policy drop", chain.Legacy);
            }
        }
        return null;
    }

    private sealed class Walk(Ruleset ruleset, FilteredPacket packet)
    {
        public Refusal? Refusal { get; private set; }

        /// <summary>Some rule may have accepted it.</summary>
        public bool Unsure { get; private set; }

        public Outcome Pass(Ruleset.Chain chain, int depth)
        {
            foreach (var rule in chain.Rules)
            {
                bool? matches = true;
                foreach (var expression in rule.Expressions.EnumerateArray())
                {
                    if (matches == false)
                        break;
                    var statement = expression.EnumerateObject().First();
                    switch (statement.Name)
                    {
                        case "match":
                            matches = And(matches, Matches(statement.Value));
                            break;
                        case "drop" or "reject":
                            if (matches == true)
                                return Stop(rule);
                            break;
                        case "accept":
                            if (matches == true)
                                return Outcome.Accepted;
                            Unsure = true;
                            break;
                        case "return":
                            if (matches == true)
                                return Outcome.Through;
                            Unsure = true;
                            break;
                        case "jump" or "goto":
                            if (Follow(chain, statement, matches, depth) is { } end)
                                return end;
                            break;
                        case "xt" when Target(statement.Value) is "DROP" or "REJECT":
                            if (matches == true)
                                return Stop(rule);
                            break;
                        case "xt" when Target(statement.Value) is null:
                            matches = And(matches, null);
                            break;
                        case "limit" or "vmap" or "queue":
                            Unsure = true;
                            matches = And(matches, null);
                            break;
                    }
                }
            }
            return Outcome.Through;
        }

        /// <summary>Null: go on in this chain.</summary>
        private Outcome? Follow(Ruleset.Chain chain, JsonProperty statement, bool? matches, int depth)
        {
            if (depth >= DeepestJump || ruleset.Find(chain, statement.Value.GetProperty("target").GetString()!) is not { } target)
                return null;
            if (matches is null)
            {
                // It may go there and be accepted.
                Unsure = true;
                return null;
            }
            var outcome = Pass(target, depth + 1);
            return outcome != Outcome.Through || statement.Name == "goto" ? outcome : null;
        }

        private Outcome Stop(Ruleset.Rule rule)
        {
            Refusal = new Refusal(rule.Family, rule.Table, rule.Chain, rule.Handle, rule.ToString(), rule.Legacy is not null);
            return Outcome.Stopped;
        }

        private static string? Target(JsonElement xt) =>
            xt.ValueKind == JsonValueKind.Object && xt.GetProperty("type").GetString() == "target" ? xt.GetProperty("name").GetString() : null;

        private static bool? And(bool? one, bool? two) => one == false || two == false ? false : one is null || two is null ? null : true;

        private bool? Matches(JsonElement match)
        {
            var right = match.GetProperty("right");
            var equal = Value(match.GetProperty("left")) is { } value ? Is(value, right) : null;
            return match.GetProperty("op").GetString() switch
            {
                "==" or "in" => equal,
                "!=" => !equal,
                _ => null,
            };
        }

        /// <summary>What the packet has there: text for names and addresses, "" where the header is not in it; null: unknown.</summary>
        private string? Value(JsonElement left)
        {
            if (left.ValueKind != JsonValueKind.Object)
                return null;
            var part = left.EnumerateObject().First();
            if (part.Name == "payload" && part.Value.TryGetProperty("protocol", out var header))
            {
                var field = part.Value.GetProperty("field").GetString();
                return (header.GetString(), field) switch
                {
                    ("tcp" or "udp" or "th", "dport" or "sport") => IsTransport(header.GetString()!) ? Text.Number(field == "dport" ? packet.DestinationPort : packet.SourcePort) : "",
                    ("ip", _) when packet.IPv6 => "",
                    ("ip6", _) when !packet.IPv6 => "",
                    (_, "saddr") when header.GetString() is "ip" or "ip6" => packet.Source.ToString(),
                    (_, "daddr") when header.GetString() is "ip" or "ip6" => packet.Destination.ToString(),
                    ("ip", "protocol") or ("ip6", "nexthdr") => Text.Number(packet.Protocol),
                    _ => null,
                };
            }
            return part.Name switch
            {
                "meta" => part.Value.GetProperty("key").GetString() switch
                {
                    "l4proto" => Text.Number(packet.Protocol),
                    "nfproto" or "protocol" => packet.IPv6 ? "ipv6" : "ipv4",
                    "iifname" or "iif" => packet.Input,
                    "oifname" or "oif" => packet.Output,
                    _ => null,
                },
                // Every packet that is asked about begins a flow, where flows are followed at all.
                "ct" when part.Value.GetProperty("key").GetString() == "state" => "new",
                _ => null,
            };
        }

        private bool IsTransport(string header) => header switch
        {
            "tcp" => packet.Protocol == FilteredPacket.Tcp,
            "udp" => packet.Protocol == FilteredPacket.Udp,
            _ => packet.Protocol is FilteredPacket.Tcp or FilteredPacket.Udp,
        };

        private static bool? Is(string value, JsonElement right)
        {
            switch (right.ValueKind)
            {
                case JsonValueKind.Number:
                    return value == right.GetRawText();
                case JsonValueKind.String:
                    var text = right.GetString()!;
                    // A named set's elements are elsewhere.
                    return text.StartsWith('@') ? null : text.EndsWith('*') ? value.StartsWith(text[..^1], StringComparison.Ordinal) : value == text || value == ProtocolNumber(text) || SameAddress(value, text);
                case JsonValueKind.Array:
                    return right.EnumerateArray().Select(one => Is(value, one)).Aggregate((bool?)false, Or);
                case JsonValueKind.Object:
                    break;
                default:
                    return null;
            }
            var part = right.EnumerateObject().First();
            switch (part.Name)
            {
                case "set":
                    return part.Value.EnumerateArray().Select(one => Is(value, one)).Aggregate((bool?)false, Or);
                case "range":
                    return long.TryParse(value, NumberStyles.None, CultureInfo.InvariantCulture, out var number) && part.Value[0].TryGetInt64(out var from) && part.Value[1].TryGetInt64(out var to)
                        ? number >= from && number <= to
                        : null;
                case "prefix":
                    return value.Length == 0 ? false
                        : IPAddress.TryParse(value, out var address) && IPNetwork.TryParse(string.Create(CultureInfo.InvariantCulture, $"{part.Value.GetProperty("addr").GetString()}/{part.Value.GetProperty("len").GetInt32()}"), out var prefix)
                            ? prefix.Contains(address)
                            : null;
                default:
                    return null;
            }
        }

        private static bool? Or(bool? one, bool? two) => one == true || two == true ? true : one is null || two is null ? null : false;

        private static bool SameAddress(string one, string two) => IPAddress.TryParse(one, out var a) && IPAddress.TryParse(two, out var b) && a.Equals(b);

        private static string? ProtocolNumber(string name) => name switch
        {
            "icmp" => "1",
            "tcp" => "6",
            "udp" => "17",
            "ipv6-icmp" or "icmpv6" => "58",
            "vrrp" => "112",
            _ => null,
        };
    }
}
