using OverlayNet.Dns.Table;

namespace OverlayNet.Dns.Answer;

/// <summary>Filled while a query is answered, for <see cref="DnsServer.ExplainAsync"/>. Absent on the query path.</summary>
internal sealed class AnswerTrace
{
    public string Rule { get; set; } = "";

    public string? Network { get; private set; }

    /// <summary>The relative name that was found.</summary>
    public string? Entry { get; private set; }

    public void Because(string rule) => Rule = rule;

    public void In(NetworkView network, string rule)
    {
        Network = network.Name;
        Rule = rule;
    }

    public unsafe void Found(NetworkView network, byte* entry, string rule)
    {
        In(network, rule);
        Entry = DnsName.ToText(Table.Entry.Name(entry)).TrimEnd('.');
    }
}
