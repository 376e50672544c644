using System.Globalization;
using System.Net;
using OverlayNet.Tools.Capture.Decode;

namespace OverlayNet.Tools.Capture.Findings;

/// <summary>Queries without an answer, answers that say SERVFAIL, and owned names that are answered differently at different places.</summary>
internal sealed class DnsRule : FindingRule
{
    private const long AnswerNs = 2_000_000_000;
    private readonly Dictionary<(IPEndPoint Client, IPEndPoint Server, int Id, string Name, string Type), long> _open = [];
    private readonly Dictionary<(string Name, string Type), Dictionary<string, (string Answer, string Server)>> _answers = [];

    public override void See(DecodedPacket packet)
    {
        foreach (var layer in packet.Layers())
        {
            if (layer.Icmp is not null)
                return;
            if (layer is not { Dns: { } dns, Ip: { } ip })
                continue;
            var source = new IPEndPoint(ip.Source, layer.Udp?.SourcePort ?? layer.Tcp!.SourcePort);
            var destination = new IPEndPoint(ip.Destination, layer.Udp?.DestinationPort ?? layer.Tcp!.DestinationPort);
            var name = dns.Name.ToLowerInvariant();
            if (!dns.Response)
            {
                if (_open.Count >= MostFollowed)
                    Expire(packet.TimeNs);
                _open.TryAdd((source, destination, dns.Id, name, dns.Type), packet.TimeNs);
                continue;
            }
            _open.Remove((destination, source, dns.Id, name, dns.Type));
            if (dns.Rcode == "SERVFAIL")
                Report("warning", "dns.servfail", $"{name} {dns.Type}", $"{source.Address} answers SERVFAIL", $"see 'overlaynet dns query --explain {name}' on the node that answered", packet);
            Compare(packet, source.Address, name, dns);
        }
    }

    public override void End(long nowNs) => Expire(nowNs);

    private void Compare(DecodedPacket packet, IPAddress server, string name, DnsMessage dns)
    {
        // Of what we own only: an authoritative answer about one virtual address. Lists of tasks rotate.
        if (!dns.Authoritative || dns.Type is not ("A" or "AAAA") || dns.AnswerCount > 1 || _answers.Count >= MostFollowed)
            return;
        var key = (name, dns.Type);
        if (!_answers.TryGetValue(key, out var known))
            _answers[key] = known = [];
        var answer = dns.AnswerCount == 0 ? dns.Rcode : dns.Answers[0];
        foreach (var (point, other) in known)
        {
            if (point != packet.Point && other.Answer != answer)
            {
                Report("error", "dns.views-differ", $"{name} {dns.Type}", $"{other.Answer} at {point}, {answer} at {Place(packet)}",
                    "one node lags behind: compare revisions with 'overlaynet status' on both", packet);
            }
        }
        if (known.Count < byte.MaxValue)
            known[packet.Point] = (answer, server.ToString());
    }

    private void Expire(long nowNs)
    {
        foreach (var (question, since) in _open.Where(entry => nowNs - entry.Value > AnswerNs).ToList())
        {
            _open.Remove(question);
            Report("error", "dns.no-answer", question.Server.Address.ToString(), string.Create(CultureInfo.InvariantCulture, $"queries are not answered, such as {question.Type} {question.Name} from {question.Client.Address}"),
                "check that the server runs and that UDP and TCP 53 pass; 'overlaynet doctor' on its node", detail: string.Create(CultureInfo.InvariantCulture, $"#{question.Id} {question.Type} {question.Name} from {question.Client} at {DateTimeOffset.UnixEpoch.AddTicks(since / 100):HH:mm:ss.fff}"));
        }
        if (_open.Count >= MostFollowed)
            _open.Clear();
    }
}
