using OverlayNet.Tools.Capture.Decode;
using OverlayNet.Tools.Capture.Files;
using OverlayNet.Tools.Cli;

namespace OverlayNet.Tools.Capture.Live;

/// <summary>A filter in pcap-filter(7)'s words, compiled to classic BPF; used on packets of a file. Not thread-safe.</summary>
internal sealed unsafe class CaptureFilter : IDisposable
{
    private readonly Dictionary<LinkType, nint> _programs = [];
    private readonly string _text;

    /// <exception cref="CommandFailure">The words are no filter; libpcap says where.</exception>
    public CaptureFilter(string text)
    {
        _text = text;
        Program(LinkType.Ethernet);
    }

    public bool Passes(in CaptureRecord record)
    {
        var program = (LibPcap.Program*)Program(record.Link);
        var header = new LibPcap.PacketHeader { Captured = (uint)record.Data.Length, Length = (uint)record.Length };
        fixed (byte* data = record.Data.Span)
            return LibPcap.OfflineFilter(program, &header, data) != 0;
    }

    public void Dispose()
    {
        foreach (var program in _programs.Values)
        {
            LibPcap.FreeCode((LibPcap.Program*)program);
            System.Runtime.InteropServices.NativeMemory.Free((void*)program);
        }
        _programs.Clear();
    }

    internal static CommandFailure Refusal(string filter, string reason) =>
        new(ExitCodes.BadInput, $"filter '{filter}': {reason}", "write it as for tcpdump, such as 'tcp port 80' or 'host 10.10.0.2' (man pcap-filter)");

    private nint Program(LinkType link)
    {
        if (_programs.TryGetValue(link, out var known))
            return known;
        var handle = LibPcap.OpenDead((int)link, 262144);
        try
        {
            var program = (LibPcap.Program*)System.Runtime.InteropServices.NativeMemory.AllocZeroed((nuint)sizeof(LibPcap.Program));
            if (LibPcap.Compile(handle, program, _text, 1, LibPcap.NetmaskUnknown) != 0)
            {
                System.Runtime.InteropServices.NativeMemory.Free(program);
                throw Refusal(_text, LibPcap.ErrorOf(handle));
            }
            return _programs[link] = (nint)program;
        }
        finally
        {
            LibPcap.Close(handle);
        }
    }
}
