using OverlayNet.Contracts;
using OverlayNet.Tools.Capture.Decode;

namespace OverlayNet.Tools.Capture.Findings;

/// <summary>
/// One kind of fault that packets show. Sees every packet in the order of time and says at any moment what it has found
/// so far. Memory is bounded whatever is on the wire.
/// </summary>
internal abstract class FindingRule
{
    /// <summary>The most flows, addresses or questions a rule follows at once; the oldest give way.</summary>
    protected const int MostFollowed = 65536;

    private readonly Dictionary<(string Check, string Object), Account> _found = [];

    public abstract void See(DecodedPacket packet);

    /// <summary>What needs the end of the capture to be known, such as an answer that never came.</summary>
    /// <param name="nowNs">Time of the last packet.</param>
    public virtual void End(long nowNs)
    {
    }

    public IEnumerable<Finding> Findings => _found.Values.Select(account => account.ToFinding());

    /// <summary>Notes a fault; the same check and object again only counts.</summary>
    protected void Report(string severity, string check, string subject, string message, string remedy, DecodedPacket? evidence = null, string? detail = null)
    {
        if (_found.TryGetValue((check, subject), out var known))
        {
            known.Count++;
            return;
        }
        if (_found.Count < MostFollowed)
        {
            _found[(check, subject)] = new Account(new Finding
            {
                Severity = severity,
                Check = check,
                Object = subject,
                Message = message,
                Evidence = detail ?? (evidence is null ? null : new PacketText(NoNames.Instance).Line(evidence)),
                Remedy = remedy,
            });
        }
    }

    protected static string Place(DecodedPacket packet) => packet.Point.Length > 0 ? packet.Point : "the capture";

    private sealed class Account(Finding first)
    {
        public int Count { get; set; } = 1;

        public Finding ToFinding() => Count == 1 ? first : first with { Message = $"{first.Message} ({Count.ToString(System.Globalization.CultureInfo.InvariantCulture)} times)" };
    }
}
