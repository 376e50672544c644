using System.Buffers.Binary;
using System.Net.Sockets;
using OverlayNet.Dns.Answer;

namespace OverlayNet.Dns.Server;

/// <summary>Forwards queries of connections.</summary>
internal interface IStreamForwarder
{
    /// <summary>The final answer to a query that <see cref="QueryProcessor.Process"/> said to forward.</summary>
    /// <param name="query">The query without the length prefix; not kept.</param>
    /// <param name="client">Who asks.</param>
    /// <param name="view">What the listener answers from.</param>
    ValueTask<byte[]> ForwardAsync(byte[] query, ClientAddress client, ListenerView view);
}

/// <summary>One client's connection.</summary>
internal sealed class TcpConnection(
    Socket socket, ClientAddress client, ListenerSocket listener, WorkerPool workers, IStreamForwarder forwarder, DnsServerOptions options, TimeProvider time)
{
    /// <summary>Forwarded queries of one connection in flight; then it is not read until one is answered.</summary>
    private const int MostInFlight = 32;

    /// <summary>Answers collected before they are sent together.</summary>
    private const int FlushAt = 16384;

    private readonly SemaphoreSlim _writing = new(1);
    private readonly SemaphoreSlim _inFlight = new(MostInFlight);
    private byte[] _input = new byte[2048];
    private byte[] _output = new byte[4096];
    private int _have;
    private int _pending;

    public async Task RunAsync(CancellationToken stop)
    {
        // One timer for the connection's life, pushed back by every complete query.
        using var idle = new CancellationTokenSource(options.TcpIdle, time);
        using var linked = CancellationTokenSource.CreateLinkedTokenSource(idle.Token, stop);
        try
        {
            socket.NoDelay = true;
            while (true)
            {
                var count = await socket.ReceiveAsync(_input.AsMemory(_have), SocketFlags.None, linked.Token).ConfigureAwait(false);
                if (count == 0)
                    break;
                _have += count;
                if (await HandleAsync(linked.Token).ConfigureAwait(false))
                    idle.CancelAfter(options.TcpIdle);
            }

            // The client may have closed its half only and still wait for what is in flight.
            for (var i = 0; i < MostInFlight; i++)
                await _inFlight.WaitAsync(linked.Token).ConfigureAwait(false);
        }
        catch (Exception error) when (error is OperationCanceledException or SocketException or ObjectDisposedException)
        {
            // Idle, stopped or gone: nothing to say to the client.
        }
        finally
        {
            socket.Dispose();
        }
    }

    /// <summary>Answers all complete queries in the buffer; false when there was none.</summary>
    private async ValueTask<bool> HandleAsync(CancellationToken stop)
    {
        var position = 0;
        var any = false;
        while (_have - position >= 2)
        {
            var length = BinaryPrimitives.ReadUInt16BigEndian(_input.AsSpan(position));
            if (_have - position - 2 < length)
            {
                if (length + 2 > _input.Length)
                    Array.Resize(ref _input, length + 2);
                break;
            }

            any = true;
            if (AnswerOwned(_input.AsSpan(position + 2, length)))
            {
                if (_pending >= FlushAt)
                    await FlushAsync(stop).ConfigureAwait(false);
            }
            else
            {
                var query = _input.AsSpan(position + 2, length).ToArray();
                await FlushAsync(stop).ConfigureAwait(false);
                await _inFlight.WaitAsync(stop).ConfigureAwait(false);
                _ = ForwardAsync(query, stop);
            }

            position += 2 + length;
        }

        _input.AsSpan(position, _have - position).CopyTo(_input);
        _have -= position;
        await FlushAsync(stop).ConfigureAwait(false);
        return any;
    }

    /// <summary>Appends the answer to the output; false when the query is to be forwarded.</summary>
    private unsafe bool AnswerOwned(ReadOnlySpan<byte> query)
    {
        var worker = workers.Rent();
        try
        {
            worker.Load(query);
            var length = worker.Processor.Process(worker.Packet, query.Length, tcp: true, client, listener.View);
            if (length == QueryProcessor.Forward)
                return false;
            if (length > 0)
                Append(worker.Answer(length));
            return true;
        }
        finally
        {
            workers.Return(worker);
        }
    }

    private void Append(ReadOnlySpan<byte> answer)
    {
        if (_pending + answer.Length + 2 > _output.Length)
            Array.Resize(ref _output, Math.Max(_output.Length * 2, _pending + answer.Length + 2));
        BinaryPrimitives.WriteUInt16BigEndian(_output.AsSpan(_pending), (ushort)answer.Length);
        answer.CopyTo(_output.AsSpan(_pending + 2));
        _pending += answer.Length + 2;
    }

    private async ValueTask FlushAsync(CancellationToken stop)
    {
        if (_pending == 0)
            return;
        var length = _pending;
        _pending = 0;
        await SendAsync(_output.AsMemory(0, length), stop).ConfigureAwait(false);
    }

    private async Task ForwardAsync(byte[] query, CancellationToken stop)
    {
        try
        {
            var answer = await forwarder.ForwardAsync(query, client, listener.View).ConfigureAwait(false);
            var framed = new byte[answer.Length + 2];
            BinaryPrimitives.WriteUInt16BigEndian(framed, (ushort)answer.Length);
            answer.CopyTo(framed, 2);
            await SendAsync(framed, stop).ConfigureAwait(false);
        }
        catch (Exception error) when (error is OperationCanceledException or SocketException or ObjectDisposedException)
        {
            // The connection went away meanwhile.
        }
        finally
        {
            _inFlight.Release();
        }
    }

    private async ValueTask SendAsync(ReadOnlyMemory<byte> data, CancellationToken stop)
    {
        await _writing.WaitAsync(stop).ConfigureAwait(false);
        try
        {
            while (data.Length > 0)
                data = data[await socket.SendAsync(data, SocketFlags.None, stop).ConfigureAwait(false)..];
        }
        finally
        {
            _writing.Release();
        }
    }
}
