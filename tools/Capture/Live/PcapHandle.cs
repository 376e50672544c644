using OverlayNet.Kernel;
using OverlayNet.Tools.Capture.Decode;
using OverlayNet.Tools.Cli;

namespace OverlayNet.Tools.Capture.Live;

/// <summary>A running capture at one point. Not thread-safe.</summary>
internal sealed unsafe class PcapHandle : IDisposable
{
    private const int BufferOctets = 8 * 1024 * 1024, PollMilliseconds = 20;
    private nint _handle;

    private PcapHandle(CapturePoint point, nint handle)
    {
        Point = point;
        _handle = handle;
        Fd = LibPcap.SelectableFd(handle);
        Link = (LinkType)LibPcap.DataLink(handle);
    }

    public CapturePoint Point { get; }

    /// <summary>For poll(2).</summary>
    public int Fd { get; }

    public LinkType Link { get; }

    /// <summary>Packets that passed the filter, and those of them the kernel had no room for.</summary>
    public (long Received, long Dropped) Counts
    {
        get
        {
            LibPcap.Statistics statistics;
            return LibPcap.Stats(_handle, &statistics) == 0 ? (statistics.Received, statistics.Dropped) : (0, 0);
        }
    }

    /// <param name="snapLength">Octets kept of a frame.</param>
    /// <exception cref="CommandFailure">No such interface, no permission, a filter that is none.</exception>
    public static PcapHandle Open(CapturePoint point, int snapLength)
    {
        if (point.Netns is not { } path)
            return Activate(point, snapLength);
        using var netns = OpenNamespace(path);
        return netns.Run(() => Activate(point, snapLength));
    }

    /// <summary>The next packet that waits. <paramref name="data"/> is valid until the next call.</summary>
    public bool TryNext(out long timeNs, out int length, out ReadOnlySpan<byte> data)
    {
        LibPcap.PacketHeader* header;
        byte* octets;
        if (LibPcap.Next(_handle, &header, &octets) != 1)
        {
            timeNs = 0;
            length = 0;
            data = default;
            return false;
        }
        timeNs = (long)header->Seconds * 1_000_000_000 + header->Fraction;
        length = (int)header->Length;
        data = new ReadOnlySpan<byte>(octets, (int)header->Captured);
        return true;
    }

    public void Dispose()
    {
        if (_handle != 0)
            LibPcap.Close(_handle);
        _handle = 0;
    }

    private static NetworkNamespace OpenNamespace(string path) =>
        path.StartsWith(NamedNamespaces.Directory + "/", StringComparison.Ordinal)
            ? NamedNamespaces.OpenPinned(path[(NamedNamespaces.Directory.Length + 1)..])
            : NetworkNamespace.Open(path);

    private static PcapHandle Activate(CapturePoint point, int snapLength)
    {
        var error = stackalloc byte[LibPcap.ErrorLength];
        var handle = LibPcap.Create(point.Interface, error);
        if (handle == 0)
            throw Failure(point, System.Runtime.InteropServices.Marshal.PtrToStringUTF8((nint)error) ?? "");
        try
        {
            _ = LibPcap.SetSnapLength(handle, snapLength);
            _ = LibPcap.SetPromiscuous(handle, 1);
            _ = LibPcap.SetTimeout(handle, PollMilliseconds);
            _ = LibPcap.SetBufferSize(handle, BufferOctets);
            _ = LibPcap.SetPrecision(handle, LibPcap.TimestampNanoseconds);
            var status = LibPcap.Activate(handle);
            if (status < 0)
                throw Failure(point, LibPcap.ErrorOf(handle) is { Length: > 0 } text ? text : LibPcap.Describe(status));
            if (point.Filter.Length > 0)
            {
                LibPcap.Program program;
                if (LibPcap.Compile(handle, &program, point.Filter, 1, LibPcap.NetmaskUnknown) != 0)
                    throw CaptureFilter.Refusal(point.Filter, LibPcap.ErrorOf(handle));
                var set = LibPcap.SetFilter(handle, &program);
                LibPcap.FreeCode(&program);
                if (set != 0)
                    throw Failure(point, LibPcap.ErrorOf(handle));
            }
            if (LibPcap.SetNonBlocking(handle, 1, error) != 0)
                throw Failure(point, LibPcap.ErrorOf(handle));
            var opened = new PcapHandle(point, handle);
            handle = 0;
            return opened;
        }
        finally
        {
            if (handle != 0)
                LibPcap.Close(handle);
        }
    }

    private static CommandFailure Failure(CapturePoint point, string reason) =>
        new(ExitCodes.Failed, $"capture on {point.Interface}{(point.Netns is { } netns ? $" in {netns}" : "")}: {reason}", Environment.IsPrivilegedProcess ? null : "run it as root (CAP_NET_RAW)");
}
