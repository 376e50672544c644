using System.Globalization;
using System.Net;
using OverlayNet.Tools.Capture.Decode;

namespace OverlayNet.Tools.Capture.Findings;

/// <summary>TCP openings that nobody answers, with the last place where they were seen; resets; and retransmissions to one server.</summary>
internal sealed class ConnectionRule : FindingRule
{
    private const long AnswerNs = 1_000_000_000;
    private const int FewRetransmissions = 3;
    private readonly Dictionary<Flow, Opening> _openings = [];
    private readonly Dictionary<(Flow Flow, string Point), (uint Sequence, int Length)> _last = [];
    private readonly Dictionary<IPEndPoint, (int Count, string Point)> _retransmitted = [];

    public override void See(DecodedPacket packet)
    {
        foreach (var layer in packet.Layers())
        {
            // What an ICMP error quotes was not sent again.
            if (layer.Icmp is not null)
                return;
            if (layer is { Tcp: { } tcp, Ip: { } ip })
                See(packet, ip, tcp);
        }
    }

    public override void End(long nowNs)
    {
        foreach (var (flow, opening) in _openings)
            Judge(flow, opening, nowNs);
        foreach (var (server, (count, point)) in _retransmitted)
        {
            if (count >= FewRetransmissions)
                Report("warning", "tcp.retransmissions", server.ToString(), string.Create(CultureInfo.InvariantCulture, $"{count} segments were sent again, seen at {point}"), "compare with other backends ('overlaynet service backends'); look for loss or an MTU fault on the path to this one");
        }
    }

    private void See(DecodedPacket packet, IpHeader ip, TcpHeader tcp)
    {
        var from = new IPEndPoint(ip.Source, tcp.SourcePort);
        var to = new IPEndPoint(ip.Destination, tcp.DestinationPort);
        if (tcp.Flags.HasFlag(TcpFlags.Syn) && !tcp.Flags.HasFlag(TcpFlags.Ack))
        {
            var flow = new Flow(from, to);
            if (_openings.TryGetValue(flow, out var known) && !known.Answered)
                known.Seen(packet.Point);
            else
                Follow(flow, packet);
            return;
        }
        if (_openings.TryGetValue(new Flow(to, from), out var asked))
        {
            if (tcp.Flags.HasFlag(TcpFlags.Rst) && !asked.Answered)
                Report("warning", "tcp.refused", from.ToString(), "connections are refused (RST)", "nothing listens there, or a firewall rejects: check the server, and the service's target port", packet);
            asked.Answered = true;
        }
        Retransmission(packet, new Flow(from, to), to, tcp);
    }

    private void Retransmission(DecodedPacket packet, Flow flow, IPEndPoint to, TcpHeader tcp)
    {
        if (tcp.PayloadLength == 0)
            return;
        var key = (flow, packet.Point);
        // One octet of an old sequence number is a keep-alive probe.
        if (_last.TryGetValue(key, out var last) && tcp.PayloadLength > 1 && tcp.Sequence == last.Sequence && tcp.PayloadLength == last.Length)
        {
            if (_retransmitted.Count < MostFollowed)
                _retransmitted[to] = (_retransmitted.GetValueOrDefault(to).Count + 1, Place(packet));
        }
        if (_last.Count >= MostFollowed)
            _last.Clear();
        _last[key] = (tcp.Sequence, tcp.PayloadLength);
    }

    private void Follow(Flow flow, DecodedPacket packet)
    {
        if (_openings.Count >= MostFollowed)
        {
            foreach (var answered in _openings.Where(entry => entry.Value.Answered).Select(entry => entry.Key).ToList())
                _openings.Remove(answered);
            // Many at a time, or each new one would cost a look at all.
            if (_openings.Count >= MostFollowed * 3 / 4)
            {
                foreach (var (oldest, opening) in _openings.OrderBy(entry => entry.Value.FirstNs).Take(MostFollowed / 4).ToList())
                {
                    Judge(oldest, opening, packet.TimeNs);
                    _openings.Remove(oldest);
                }
            }
        }
        _openings[flow] = new Opening(packet.TimeNs, Place(packet));
    }

    private void Judge(Flow flow, Opening opening, long nowNs)
    {
        if (opening.Answered || nowNs - opening.FirstNs <= AnswerNs)
            return;
        Report("error", "tcp.no-answer", flow.Server.ToString(), $"SYNs from {flow.Client.Address} are not answered; last seen at {opening.LastPoint}",
            opening.Points.Count > 1 ? $"seen at {string.Join(", then ", opening.Points)}: look behind {opening.LastPoint}" : $"capture behind {opening.LastPoint}, or run 'overlaynet trace' to {flow.Server.Address}",
            detail: string.Create(CultureInfo.InvariantCulture, $"{opening.Count} SYNs from {flow.Client}"));
    }

    private readonly record struct Flow(IPEndPoint Client, IPEndPoint Server);

    private sealed class Opening(long firstNs, string point)
    {
        public long FirstNs { get; } = firstNs;
        public List<string> Points { get; } = [point];
        public string LastPoint => Points[^1];
        public int Count { get; private set; } = 1;
        public bool Answered { get; set; }

        public void Seen(string point)
        {
            if (point.Length > 0 && !Points.Contains(point))
                Points.Add(point);
            else
                Count++;
        }
    }
}
