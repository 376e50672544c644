using System.Runtime.InteropServices;

namespace OverlayNet.Tools.Capture.Live;

/// <summary>libpcap's calls (pcap/pcap.h, 1.9 or newer) that capture and filter compilation need.</summary>
internal static unsafe partial class LibPcap
{
    private const string Library = "libpcap.so.0.8";
    internal const int ErrorLength = 256, TimestampNanoseconds = 1;
    internal const uint NetmaskUnknown = 0xffffffff;

    /// <summary>struct pcap_pkthdr; with <see cref="TimestampNanoseconds"/> the fraction is in nanoseconds.</summary>
    internal struct PacketHeader
    {
        public nint Seconds;
        public nint Fraction;
        public uint Captured;
        public uint Length;
    }

    /// <summary>struct bpf_program.</summary>
    internal struct Program
    {
        public uint Length;
        public void* Instructions;
    }

    /// <summary>struct pcap_stat.</summary>
    internal struct Statistics
    {
        public uint Received;
        public uint Dropped;
        public uint InterfaceDropped;
    }

    [LibraryImport(Library, EntryPoint = "pcap_create", StringMarshalling = StringMarshalling.Utf8)]
    internal static partial nint Create(string source, byte* error);

    [LibraryImport(Library, EntryPoint = "pcap_open_dead")]
    internal static partial nint OpenDead(int linkType, int snapLength);

    [LibraryImport(Library, EntryPoint = "pcap_set_snaplen")]
    internal static partial int SetSnapLength(nint handle, int length);

    [LibraryImport(Library, EntryPoint = "pcap_set_timeout")]
    internal static partial int SetTimeout(nint handle, int milliseconds);

    [LibraryImport(Library, EntryPoint = "pcap_set_promisc")]
    internal static partial int SetPromiscuous(nint handle, int on);

    [LibraryImport(Library, EntryPoint = "pcap_set_buffer_size")]
    internal static partial int SetBufferSize(nint handle, int octets);

    [LibraryImport(Library, EntryPoint = "pcap_set_tstamp_precision")]
    internal static partial int SetPrecision(nint handle, int precision);

    [LibraryImport(Library, EntryPoint = "pcap_activate")]
    internal static partial int Activate(nint handle);

    [LibraryImport(Library, EntryPoint = "pcap_setnonblock")]
    internal static partial int SetNonBlocking(nint handle, int on, byte* error);

    [LibraryImport(Library, EntryPoint = "pcap_datalink")]
    internal static partial int DataLink(nint handle);

    [LibraryImport(Library, EntryPoint = "pcap_compile", StringMarshalling = StringMarshalling.Utf8)]
    internal static partial int Compile(nint handle, Program* program, string filter, int optimize, uint netmask);

    [LibraryImport(Library, EntryPoint = "pcap_setfilter")]
    internal static partial int SetFilter(nint handle, Program* program);

    [LibraryImport(Library, EntryPoint = "pcap_freecode")]
    internal static partial void FreeCode(Program* program);

    [LibraryImport(Library, EntryPoint = "pcap_offline_filter")]
    internal static partial int OfflineFilter(Program* program, PacketHeader* header, byte* data);

    [LibraryImport(Library, EntryPoint = "pcap_next_ex")]
    internal static partial int Next(nint handle, PacketHeader** header, byte** data);

    [LibraryImport(Library, EntryPoint = "pcap_get_selectable_fd")]
    internal static partial int SelectableFd(nint handle);

    [LibraryImport(Library, EntryPoint = "pcap_stats")]
    internal static partial int Stats(nint handle, Statistics* statistics);

    [LibraryImport(Library, EntryPoint = "pcap_geterr")]
    private static partial byte* GetError(nint handle);

    [LibraryImport(Library, EntryPoint = "pcap_statustostr")]
    private static partial byte* StatusText(int status);

    [LibraryImport(Library, EntryPoint = "pcap_close")]
    internal static partial void Close(nint handle);

    internal static string ErrorOf(nint handle) => Marshal.PtrToStringUTF8((nint)GetError(handle)) ?? "";

    internal static string Describe(int status) => Marshal.PtrToStringUTF8((nint)StatusText(status)) ?? "";
}
