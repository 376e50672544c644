using System.Net;
using System.Threading.Channels;
using Microsoft.Extensions.Logging;
using OverlayNet.Dns.Answer;

namespace OverlayNet.Dns.Taps;

/// <summary>Logs every n-th query.</summary>
internal sealed partial class QueryLog : QueryTap
{
    private const int MostWaiting = 256;

    private readonly ILogger _logger;
    private readonly Channel<Sample> _samples = Channel.CreateBounded<Sample>(
        new BoundedChannelOptions(MostWaiting) { FullMode = BoundedChannelFullMode.DropWrite, SingleReader = true });

    private readonly record struct Sample(IPAddress Client, byte[] Name, RrType Type, Rcode Rcode);

    public QueryLog(ILogger logger, int every)
        : base(every)
    {
        _logger = logger;
        _ = RunAsync();
    }

    public override void Take(in ClientAddress client, bool tcp, in ParsedQuery query, Rcode rcode, ReadOnlySpan<byte> answer) =>
        _samples.Writer.TryWrite(new Sample(client.ToIPAddress(), query.Name.ToArray(), (RrType)query.Type, rcode));

    public override void Dispose() => _samples.Writer.TryComplete();

    private async Task RunAsync()
    {
        await foreach (var sample in _samples.Reader.ReadAllAsync().ConfigureAwait(false))
            Log.Query(_logger, sample.Client, DnsName.ToText(sample.Name), RecordText.Type(sample.Type), sample.Rcode);
    }

    private static partial class Log
    {
        [LoggerMessage(Level = LogLevel.Information, Message = "DNS query from {Client}: {Name} {Type} {Rcode}")]
        public static partial void Query(ILogger logger, IPAddress client, string name, string type, Rcode rcode);
    }
}
