using System.Collections.Concurrent;
using OverlayNet.Dns.Answer;
using OverlayNet.Dns.Forward;

namespace OverlayNet.Dns.Server;

/// <summary>
/// Between the servers and the <see cref="Forwarder"/>: takes queries off the UDP threads, holds the caps on what is in
/// flight, and turns what comes back into the client's answer.
/// </summary>
internal sealed class ForwardDispatcher(Forwarder forwarder, WorkerPool workers, DnsServerOptions options) : IForwardSink, IStreamForwarder
{
    private readonly ConcurrentDictionary<ClientAddress, int> _perClient = new();
    private int _inFlight;
    private long _refused;
    private long _cacheHits;

    public int InFlight => Volatile.Read(ref _inFlight);

    /// <summary>Queries answered SERVFAIL because too many were in flight.</summary>
    public long Refused => Interlocked.Read(ref _refused);

    public long CacheHits => Interlocked.Read(ref _cacheHits);

    public unsafe int TryAnswerFromCache(QueryProcessor processor, byte* packet, in ClientAddress client, long now)
    {
        if (!processor.Synced)
            return QueryProcessor.Forward;
        ref var query = ref processor.Query;
        var probe = new CacheProbe(
            query.Name, (RrType)query.Type, query.DnssecOk, (packet[Header.Flags2] & Header.Cd) != 0, (packet[Header.Flags2] & Header.Ad) != 0);
        if (forwarder.Lookup(probe, now, out var stale) is not { } entry)
            return QueryProcessor.Forward;
        _cacheHits++;
        return processor.WriteForwarded(entry.Answer, forwarder.AgeOf(entry, now), stale ? Forwarder.StaleTtl : null, tcp: false, client);
    }

    public bool TrySubmit(ListenerSocket socket, ReadOnlySpan<byte> packet, ReadOnlySpan<byte> address, in ClientAddress client, ListenerView view)
    {
        if (!TryEnter(client))
            return false;
        ThreadPool.UnsafeQueueUserWorkItem(new PendingQuery(this, socket, packet.ToArray(), address.ToArray(), client, view), preferLocal: false);
        return true;
    }

    public async ValueTask<byte[]> ForwardAsync(byte[] query, ClientAddress client, ListenerView view)
    {
        if (!TryEnter(client))
            return Finish(query, tcp: true, client, view, null);
        try
        {
            return await AnswerAsync(query, tcp: true, client, view).ConfigureAwait(false);
        }
        finally
        {
            Leave(client);
        }
    }

    private async Task<byte[]> AnswerAsync(byte[] packet, bool tcp, ClientAddress client, ListenerView view)
    {
        var result = Parse(packet, tcp, client, view) is { } query
            ? await forwarder.ResolveAsync(query).ConfigureAwait(false)
            : (ForwardResult?)null;
        return Finish(packet, tcp, client, view, result);
    }

    private unsafe UpstreamQuery? Parse(byte[] packet, bool tcp, in ClientAddress client, ListenerView view)
    {
        var worker = workers.Rent();
        try
        {
            worker.Load(packet);
            if (worker.Processor.Process(worker.Packet, packet.Length, tcp, client, view, again: true) != QueryProcessor.Forward)
                return null;
            ref var query = ref worker.Processor.Query;
            return new UpstreamQuery(
                query.Name.ToArray(), (RrType)query.Type, query.DnssecOk, (packet[Header.Flags2] & Header.Cd) != 0, (packet[Header.Flags2] & Header.Ad) != 0);
        }
        finally
        {
            workers.Return(worker);
        }
    }

    /// <summary>The answer as the client gets it; SERVFAIL when <paramref name="result"/> is null.</summary>
    private unsafe byte[] Finish(byte[] packet, bool tcp, in ClientAddress client, ListenerView view, ForwardResult? result)
    {
        var worker = workers.Rent();
        try
        {
            worker.Load(packet);
            var processor = worker.Processor;
            // The name may have become ours while the upstream was asked.
            var length = processor.Process(worker.Packet, packet.Length, tcp, client, view, again: true);
            if (length == QueryProcessor.Forward)
            {
                // Before anything is known, an upstream's NXDOMAIN proves nothing about a name that may be ours.
                var unsure = result is { Answer.Rcode: Rcode.NxDomain } && !view.Zone.Synced;
                length = result is not { } known || unsure
                    ? processor.Fail(Rcode.ServFail, tcp, client)
                    : processor.WriteForwarded(known.Answer, known.Age, known.FixedTtl, tcp, client);
            }

            return worker.Answer(length).ToArray();
        }
        finally
        {
            workers.Return(worker);
        }
    }

    private bool TryEnter(in ClientAddress client)
    {
        var mine = _perClient.AddOrUpdate(client, 1, (_, n) => n + 1);
        if (Interlocked.Increment(ref _inFlight) <= options.ForwardsInFlight && mine <= options.ForwardsPerClient)
            return true;
        Leave(client);
        Interlocked.Increment(ref _refused);
        return false;
    }

    private void Leave(in ClientAddress client)
    {
        Release(client);
        Interlocked.Decrement(ref _inFlight);
    }

    private void Release(in ClientAddress client)
    {
        if (_perClient.AddOrUpdate(client, 0, (_, n) => n - 1) <= 0)
            _perClient.TryRemove(new KeyValuePair<ClientAddress, int>(client, 0));
    }

    private sealed class PendingQuery(
        ForwardDispatcher owner, ListenerSocket socket, byte[] packet, byte[] address, ClientAddress client, ListenerView view) : IThreadPoolWorkItem
    {
        public void Execute() => _ = RunAsync();

        private async Task RunAsync()
        {
            try
            {
                var answer = await owner.AnswerAsync(packet, tcp: false, client, view).ConfigureAwait(false);
                if (answer.Length > 0)
                    socket.Send(answer, address);
            }
            finally
            {
                owner.Leave(client);
            }
        }
    }
}
