using System.CommandLine;
using OverlayNet.Contracts;
using OverlayNet.Tools.Api;
using OverlayNet.Tools.Cli;

namespace OverlayNet.Tools.Commands;

/// <summary><c>overlaynet dns</c>: what this node's resolver would answer, and why.</summary>
internal static class DnsCommands
{
    private static readonly string[] Types = ["A", "AAAA", "SRV", "PTR", "TXT", "SOA", "NS", "ANY"];

    public static Command Create(Shell shell) => new CliCommand("dns", "What this node's resolver would answer, and why", "dns query web", "dns table --network app")
    {
        Query(shell),
        OwnRecords(shell),
        Cache(shell),
        Flush(shell),
    };

    private static CliCommand Query(Shell shell)
    {
        var name = new Argument<string>("NAME") { Description = "Name to look up; an address for its PTR" };
        var type = Inputs.Word("--type", "Record type; default A (PTR for an address)", Types);
        var from = Inputs.Text("--from", "Endpoint (name, id or address) to ask as; default: the node itself", "ENDPOINT");
        var explain = new Option<bool>("--explain") { Description = "Also print who asks, where it was searched, and all sections of the answer" };
        var command = new CliCommand("query", "Ask this node's resolver, as an endpoint would", "dns query web", "dns query --explain _http._tcp.web --type SRV --from client") { type, from, explain, name };
        shell.Read(command, parsed => "/v1/dns/query" + Text.Query(("name", parsed.GetValue(name)), ("type", parsed.GetValue(type)?.ToUpperInvariant() ?? DefaultType(parsed.GetValue(name)!)), ("from", parsed.GetValue(from))), (parsed, body) =>
        {
            var report = ApiClient.Parse(body, OverlayNetJson.Default.DnsQueryReport);
            var output = parsed.InvocationConfiguration.Output;
            output.WriteLine($"{report.Name} {report.Type}: {report.Rcode}");
            foreach (var answer in report.Answers)
                output.WriteLine($"  {answer}");
            output.WriteLine($"why: {Text.Or(report.Why)} (revision {Text.Number(report.Revision)})");
            if (parsed.GetValue(explain))
                Explain(report, output);
        });
        return command;
    }

    private static void Explain(DnsQueryReport report, TextWriter output)
    {
        output.WriteLine($"asked as: {report.Source}");
        output.WriteLine($"searched: {Text.Or(string.Join(", ", report.Networks))}");
        output.WriteLine($"answered from: {report.Origin}{(report.Age > 0 ? $", {Text.Number(report.Age)} s old" : "")}");
        if (report.InKernel)
            output.WriteLine("given by: the kernel, without the daemon");
        if (report.Candidates.Count > 0)
            output.WriteLine($"forwarded to: {string.Join(", ", report.Candidates)}");
        foreach (var record in report.Authority)
            output.WriteLine($"authority: {record}");
        foreach (var record in report.Additional)
            output.WriteLine($"additional: {record}");
    }

    private static CliCommand OwnRecords(Shell shell)
    {
        var network = Objects.ReferenceOption("--network", "Only this network's names", NetworkCommands.ListPath, shell);
        var command = new CliCommand("table", "List every record this node answers from the registry", "dns table", "dns table --network app --json") { network };
        shell.Read(command, parsed => "/v1/dns/table" + Text.Query(("network", parsed.GetValue(network))), (parsed, body) =>
        {
            var table = new Table("NETWORK", "NAME", "TTL", "TYPE", "DATA");
            foreach (var record in ApiClient.Parse(body, OverlayNetJson.Default.ListDnsTableEntry))
                table.Add(record.Network, record.Name, Text.Number(record.Ttl), record.Type, record.Data);
            table.Write(parsed.InvocationConfiguration.Output);
        });
        return command;
    }

    private static CliCommand Cache(Shell shell)
    {
        var command = new CliCommand("cache", "List every answer of an upstream server that this node remembers", "dns cache", "dns cache --json");
        shell.Read(command, _ => "/v1/dns/cache", (parsed, body) =>
        {
            var table = new Table("NAME", "TYPE", "RCODE", "EXPIRES", "UPSTREAM", "HITS", "BYTES");
            foreach (var answer in ApiClient.Parse(body, OverlayNetJson.Default.ListDnsCacheEntry))
            {
                var expires = answer.SecondsLeft >= 0 ? $"in {Text.Number(answer.SecondsLeft)} s" : $"{Text.Number(-answer.SecondsLeft)} s ago (stale)";
                table.Add(answer.Name, answer.Type, answer.Rcode, expires, Text.Or(answer.Upstream), Text.Number(answer.Hits), Text.Number(answer.Bytes));
            }
            table.Write(parsed.InvocationConfiguration.Output);
        });
        return command;
    }

    private static CliCommand Flush(Shell shell)
    {
        var domain = new Argument<string?>("DOMAIN") { Description = "Only answers at and below this domain", Arity = ArgumentArity.ZeroOrOne };
        var command = new CliCommand("flush", "Forget cached answers of the upstream servers", "dns flush", "dns flush corp.example") { domain };
        shell.Action(command, async (parsed, api, cancellation) =>
        {
            await api.Post("/v1/dns/flush" + Text.Query(("domain", parsed.GetValue(domain))), cancellation).ConfigureAwait(false);
            parsed.InvocationConfiguration.Output.WriteLine("Cache flushed.");
        });
        return command;
    }

    private static string DefaultType(string name) => Inputs.IsAddress(name, out _) ? "PTR" : "A";
}
