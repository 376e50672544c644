using OverlayNet.Dns.Answer;

namespace OverlayNet.Dns.Server;

/// <summary>Where the UDP threads leave what is not theirs to answer. Must not block.</summary>
internal interface IForwardSink
{
    /// <summary>Answers in place from the cache, or returns <see cref="QueryProcessor.Forward"/>.</summary>
    unsafe int TryAnswerFromCache(QueryProcessor processor, byte* packet, in ClientAddress client, long now);

    /// <summary>Takes a copy and answers later through the socket. False: too much in flight.</summary>
    bool TrySubmit(ListenerSocket socket, ReadOnlySpan<byte> packet, ReadOnlySpan<byte> address, in ClientAddress client, ListenerView view);
}
