using System.Runtime.InteropServices;
using OverlayNet.Kernel.Netlink;

namespace OverlayNet.UnitTests.Kernel.IpvsFamily;

/// <summary>A kernel that knows one conversation: it insists on the octets it was asked in, and answers as it did then.</summary>
internal sealed class RecordedTransport : INetlinkTransport
{
    private readonly Queue<(bool Sent, byte[] Octets)> script = new();
    private uint shift;

    internal RecordedTransport(params string[] recordings)
    {
        foreach (var recording in recordings)
        {
            var joined = recording.ReplaceLineEndings("").Replace(">", "\n>").Replace("<", "\n<");
            foreach (var line in joined.Split('\n', StringSplitOptions.RemoveEmptyEntries))
                script.Enqueue((line[0] == '>', Convert.FromHexString(line[1..].Trim())));
        }
    }

    /// <summary>Everything recorded was said.</summary>
    internal bool Finished => script.Count == 0;

    public void Send(ReadOnlySpan<byte> datagram)
    {
        var (sent, expected) = script.Dequeue();
        Assert.True(sent, "sent while an answer was waiting");
        // Sequence numbers go on from wherever a socket began; everything else must be the same.
        shift = Sequence(datagram) - Sequence(expected);
        Shift(expected, shift);
        Assert.Equal(Convert.ToHexString(expected), Convert.ToHexString(datagram));
    }

    public int Receive(Span<byte> buffer)
    {
        var (sent, octets) = script.Dequeue();
        Assert.False(sent, "waits for an answer that never came");
        Shift(octets, shift);
        octets.CopyTo(buffer);
        return octets.Length;
    }

    public void Join(uint group) => throw new NotSupportedException();

    public void Stop()
    {
    }

    public void Dispose()
    {
    }

    private static uint Sequence(ReadOnlySpan<byte> message) => MemoryMarshal.Read<uint>(message[8..]);

    private static void Shift(Span<byte> messages, uint by)
    {
        while (messages.Length >= 16)
        {
            MemoryMarshal.Write(messages[8..], Sequence(messages) + by);
            messages = messages[Math.Min((MemoryMarshal.Read<int>(messages) + 3) & ~3, messages.Length)..];
        }
    }
}
