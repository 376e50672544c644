using System.Threading.Channels;
using Microsoft.Extensions.Logging;
using OverlayNet.Dns.Answer;

namespace OverlayNet.Dns.Taps;

/// <summary>Writes every n-th answer to a dnstap file. What the disk is too slow for is lost and counted; a disk that fails is said once and tried again.</summary>
internal sealed partial class Dnstap : QueryTap
{
    private const int MostWaiting = 4096;
    private const long MostOctets = 64 << 20;

    private readonly string _path, _identity;
    private readonly ILogger _logger;
    private readonly TimeProvider _time;
    private readonly FrameStreamFile _file;
    private readonly Channel<Sample> _samples = Channel.CreateBounded<Sample>(
        new BoundedChannelOptions(MostWaiting) { FullMode = BoundedChannelFullMode.Wait, SingleReader = true });

    private readonly Task _writer;
    private long _lost;
    private bool _failing;

    private readonly record struct Sample(ClientAddress Client, bool Tcp, DateTimeOffset At, byte[] Answer);

    public Dnstap(string path, string identity, int every, ILogger logger, TimeProvider time)
        : base(every)
    {
        (_path, _identity, _logger, _time) = (path, identity, logger, time);
        _file = new FrameStreamFile(path, "protobuf:dnstap.Dnstap"u8, MostOctets);
        _writer = Task.Run(RunAsync);
    }

    /// <summary>Answers that were not written.</summary>
    public long Lost => Interlocked.Read(ref _lost);

    public override void Take(in ClientAddress client, bool tcp, in ParsedQuery query, Rcode rcode, ReadOnlySpan<byte> answer)
    {
        if (!_samples.Writer.TryWrite(new Sample(client, tcp, _time.GetUtcNow(), answer.ToArray())))
            Interlocked.Increment(ref _lost);
    }

    public override void Dispose()
    {
        _samples.Writer.TryComplete();
        _writer.Wait();
        _file.Dispose();
    }

    private async Task RunAsync()
    {
        while (await _samples.Reader.WaitToReadAsync().ConfigureAwait(false))
        {
            try
            {
                while (_samples.Reader.TryRead(out var sample))
                    _file.Write(DnstapMessage.Encode(_identity, sample.Client.ToIPAddress(), sample.Tcp, sample.At, sample.Answer));
                _file.Flush();
                _failing = false;
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException)
            {
                Interlocked.Increment(ref _lost);
                if (!_failing)
                    Log.Failed(_logger, _path, e.Message);
                _failing = true;
            }
        }
    }

    private static partial class Log
    {
        [LoggerMessage(Level = LogLevel.Warning, Message = "dnstap: {Path} cannot be written: {Message}")]
        public static partial void Failed(ILogger logger, string path, string message);
    }
}
