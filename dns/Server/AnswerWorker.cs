using System.Collections.Concurrent;
using System.Runtime.CompilerServices;
using OverlayNet.Dns.Answer;
using OverlayNet.Dns.Taps;

namespace OverlayNet.Dns.Server;

/// <summary>A processor with a buffer for the largest message, for work away from the UDP threads.</summary>
internal sealed unsafe class AnswerWorker
{
    private readonly byte[] _array = GC.AllocateUninitializedArray<byte>(Limits.Tcp + 2 * QueryProcessor.Slack, pinned: true);

    public AnswerWorker(QueryProcessor processor)
    {
        Processor = processor;
        Packet = (byte*)Unsafe.AsPointer(ref _array[0]);
    }

    public QueryProcessor Processor { get; }

    public byte* Packet { get; }

    /// <summary>Copies a query in; false when it is too long to be one.</summary>
    public bool Load(ReadOnlySpan<byte> query)
    {
        if (query.Length > Limits.Tcp)
            return false;
        query.CopyTo(_array);
        return true;
    }

    public ReadOnlySpan<byte> Answer(int length) => _array.AsSpan(0, length);
}

/// <summary>Workers that are not in use, and the counters of all there ever were.</summary>
internal sealed class WorkerPool(ServerCookies cookies, QueryTap[] taps)
{
    private readonly ConcurrentBag<AnswerWorker> _idle = [];
    private readonly ConcurrentBag<DnsCounters> _counters = [];

    public IEnumerable<DnsCounters> Counters => _counters;

    public AnswerWorker Rent()
    {
        if (_idle.TryTake(out var worker))
            return worker;
        worker = new AnswerWorker(new QueryProcessor(cookies, taps));
        _counters.Add(worker.Processor.Counters);
        return worker;
    }

    public void Return(AnswerWorker worker) => _idle.Add(worker);
}
