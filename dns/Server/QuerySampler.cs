using System.Net;
using System.Threading.Channels;
using Microsoft.Extensions.Logging;
using OverlayNet.Dns.Answer;

namespace OverlayNet.Dns.Server;

/// <summary>Takes every n-th query off the answering threads and logs it elsewhere. When the log is slow, samples are lost, not time.</summary>
internal sealed partial class QuerySampler : IDisposable
{
    private const int MostWaiting = 256;

    private readonly ILogger _logger;
    private readonly Channel<Sample> _samples = Channel.CreateBounded<Sample>(
        new BoundedChannelOptions(MostWaiting) { FullMode = BoundedChannelFullMode.DropWrite, SingleReader = true });

    private readonly record struct Sample(IPAddress Client, byte[] Name, RrType Type, Rcode Rcode);

    public QuerySampler(ILogger logger, int every)
    {
        _logger = logger;
        Every = every;
        _ = RunAsync();
    }

    public int Every { get; }

    public void Take(in ClientAddress client, ReadOnlySpan<byte> name, RrType type, Rcode rcode) =>
        _samples.Writer.TryWrite(new Sample(client.ToIPAddress(), name.ToArray(), type, rcode));

    public void Dispose() => _samples.Writer.TryComplete();

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
