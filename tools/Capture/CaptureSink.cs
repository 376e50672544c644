using System.Globalization;
using Microsoft.Win32.SafeHandles;
using OverlayNet.Tools.Capture.Decode;
using OverlayNet.Tools.Capture.Files;
using OverlayNet.Tools.Cli;

namespace OverlayNet.Tools.Capture;

/// <summary>Where packets are written: one file, the standard output, or a ring of files of limited size. Files are readable by their owner only.</summary>
internal sealed class CaptureSink : IDisposable
{
    private const UnixFileMode OwnerOnly = UnixFileMode.UserRead | UnixFileMode.UserWrite;
    private readonly Dictionary<(string Point, LinkType Link), int> _numbers = [];
    private const int PipeBuffer = 1 << 16;
    private static readonly long BetweenMarks = (long)TimeSpan.FromMilliseconds(50).TotalNanoseconds;
    private readonly List<(string Name, string Description, LinkType Link, string Filter, string? Comment)> _described = [];
    private readonly CaptureOptions _options;
    private int _file;
    private long _lastNs, _markedNs;
    private PcapNgWriter _writer;

    private CaptureSink(CaptureOptions options)
    {
        _options = options;
        _writer = Start();
    }

    /// <summary>Null when nothing is to be written.</summary>
    /// <exception cref="CommandFailure">The file cannot be made.</exception>
    public static CaptureSink? Open(CaptureOptions options) => options.Write is null ? null : new CaptureSink(options);

    /// <summary>Names a capture point before its first packet.</summary>
    public void Describe(string name, string description, LinkType link, string filter, string? comment = null)
    {
        _described.Add((name, description, link, filter, comment));
        _numbers[(name, link)] = _writer.AddInterface(name, description, link, _options.SnapLength, filter, comment);
    }

    public void Write(in CaptureRecord record, string? comment)
    {
        if (_options.FileOctets is { } limit && _writer.Written > limit)
            Next();
        if (!_numbers.TryGetValue((record.Point, record.Link), out var number))
            _numbers[(record.Point, record.Link)] = number = _writer.AddInterface(record.Point, "", record.Link, _options.SnapLength, "");
        _lastNs = record.TimeNs;
        _writer.Packet(number, record.TimeNs, record.Data.Span, record.Length, comment);
    }

    /// <summary>
    /// Whoever reads along is told up to when everything has been written, by the kernel's counts at that time: without that, silence and delay could not be told apart.
    /// </summary>
    /// <param name="counts">Asked for when it is time for a mark.</param>
    public void Mark(long reachedNs, Func<IEnumerable<(string Point, long Received, long Dropped)>> counts)
    {
        if (_options.Write != "-" || reachedNs - _markedNs < BetweenMarks)
            return;
        _markedNs = reachedNs;
        foreach (var (point, received, dropped) in counts())
            Count(point, received, dropped, reachedNs);
        _writer.Flush();
    }

    /// <summary>The kernel's counts of a point.</summary>
    /// <param name="timeNs">Null: at the end.</param>
    public void Count(string name, long received, long dropped, long? timeNs = null)
    {
        foreach (var (key, number) in _numbers)
        {
            if (key.Point == name)
                _writer.Statistics(number, timeNs ?? _lastNs, received, dropped);
        }
    }

    public void Dispose()
    {
        _writer.Flush();
        _writer.Dispose();
    }

    private void Next()
    {
        _writer.Dispose();
        _file = _options.Files is { } count ? (_file + 1) % count : _file + 1;
        _writer = Start();
        _numbers.Clear();
        foreach (var (name, description, link, filter, comment) in _described)
            _numbers[(name, link)] = _writer.AddInterface(name, description, link, _options.SnapLength, filter, comment);
    }

    private PcapNgWriter Start()
    {
        var path = _options.Write!;
        try
        {
            // Not the console's stream, which goes on as if nothing were when its reader has gone.
            var stream = path == "-" ? new FileStream(new SafeFileHandle(1, ownsHandle: false), FileAccess.Write, PipeBuffer) : new FileStream(PathOf(path), new FileStreamOptions
            {
                Mode = FileMode.Create,
                Access = FileAccess.Write,
                Share = FileShare.Read,
                BufferSize = 1 << 16,
                UnixCreateMode = OwnerOnly,
            });
            return new PcapNgWriter(stream, "overlaynet capture");
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new CommandFailure(ExitCodes.BadInput, $"--write '{path}': {e.Message}", "name a file in a directory that exists and may be written");
        }
    }

    /// <summary>Of a ring: <c>NAME-3.pcapng</c>.</summary>
    private string PathOf(string path) => _options.FileOctets is null
        ? path
        : Path.Combine(Path.GetDirectoryName(path) ?? "", $"{Path.GetFileNameWithoutExtension(path)}-{_file.ToString(CultureInfo.InvariantCulture)}{Path.GetExtension(path)}");
}
