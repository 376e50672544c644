using System.Globalization;
using System.Runtime.InteropServices;
using System.Text.Json;
using OverlayNet.Contracts;
using OverlayNet.Tools.Capture.Decode;
using OverlayNet.Tools.Capture.Files;
using OverlayNet.Tools.Capture.Findings;
using OverlayNet.Tools.Capture.Live;
using OverlayNet.Tools.Cli;

namespace OverlayNet.Tools.Capture;

/// <summary>What a capture shall do.</summary>
internal sealed record CaptureOptions
{
    public string Filter { get; init; } = "";

    /// <summary>A file, "-" for the standard output, null for none.</summary>
    public string? Write { get; init; }
    public int? MostPackets { get; init; }
    public TimeSpan? Duration { get; init; }
    public int SnapLength { get; init; } = 262144;

    /// <summary>With <see cref="Files"/>: a ring.</summary>
    public long? FileOctets { get; init; }
    public int? Files { get; init; }

    /// <summary>A decoded line for each packet.</summary>
    public bool Lines { get; init; } = true;

    /// <summary>JSON: an object a packet and line, then the findings.</summary>
    public bool Json { get; init; }
}

/// <summary>One run of <c>overlaynet capture</c>: packets come in, go to lines, to a file and to the rules; findings come out.</summary>
internal sealed partial class CaptureSession : IDisposable
{
    private readonly PacketDecoder _decoder = new();
    private readonly TextWriter _error;
    private readonly PacketJson _json = new();
    private readonly CaptureOptions _options;
    private readonly TextWriter _output;
    private readonly FindingRules _rules;
    private readonly PacketText _text;
    private long _packets;

    public CaptureSession(CaptureOptions options, RegistrySnapshot? snapshot, TextWriter output, TextWriter error)
    {
        _options = options;
        _output = options.Write == "-" ? TextWriter.Null : output;
        _error = error;
        _text = new PacketText(snapshot is null ? NoNames.Instance : new SnapshotNames(snapshot));
        _rules = new FindingRules(new Expectations(snapshot));
    }

    private bool Enough => _options.MostPackets is { } most && _packets >= most;

    /// <summary>Decodes files, merged by time. The exit code says whether an error was found.</summary>
    /// <exception cref="CommandFailure">A file is missing, is no capture, or breaks off.</exception>
    public int Read(IReadOnlyList<string> paths, CancellationToken cancellation)
    {
        using var filter = _options.Filter.Length > 0 ? new CaptureFilter(_options.Filter) : null;
        using var sink = CaptureSink.Open(_options);
        var readers = new List<CaptureFileReader>();
        // On a terminal that lines go to as well there is no place for it.
        using var progress = new ProgressLine(!Console.IsErrorRedirected && (!_options.Lines || Console.IsOutputRedirected) ? _error : null);
        try
        {
            long all = 0, records = 0;
            foreach (var path in paths)
            {
                var input = OpenRead(path);
                all += input.CanSeek ? input.Length : 0;
                readers.Add(CaptureFileReader.Open(input, path));
            }
            var size = string.Create(CultureInfo.InvariantCulture, $"of {all / 1e6:0} MB");
            var merged = new MergedReader(readers);
            while (!Enough && !cancellation.IsCancellationRequested && merged.TryRead(out var record))
            {
                if (filter is null || filter.Passes(record))
                    Take(record, sink);
                if (++records % 4096 == 0)
                    progress.Show(readers.Sum(reader => reader.Position), all, size);
            }
        }
        catch (CaptureFileException e)
        {
            throw new CommandFailure(ExitCodes.BadInput, e.Message, "give pcap or pcapng files, as tcpdump, tshark and 'overlaynet capture --write' make them");
        }
        finally
        {
            foreach (var reader in readers)
                reader.Dispose();
        }
        return Finish("");
    }

    /// <summary>Captures until enough, until the time is over, or until interrupted.</summary>
    /// <exception cref="CommandFailure">A point cannot be captured at.</exception>
    public int Live(IReadOnlyList<CapturePoint> points, CancellationToken cancellation)
    {
        var handles = new List<PcapHandle>();
        using var stop = CancellationTokenSource.CreateLinkedTokenSource(cancellation);
        // Ctrl-C ends the capture, not the report.
        using var interrupt = PosixSignalRegistration.Create(PosixSignal.SIGINT, context => Stop(context, stop));
        using var terminate = PosixSignalRegistration.Create(PosixSignal.SIGTERM, context => Stop(context, stop));
        try
        {
            foreach (var point in points)
                handles.Add(PcapHandle.Open(point, _options.SnapLength));
            using var sink = CaptureSink.Open(_options);
            foreach (var handle in handles)
                sink?.Describe(handle.Point.Name, handle.Point.Description, handle.Link, handle.Point.Filter);
            _error.WriteLine($"capturing at {string.Join(", ", points.Select(point => point.Name))}");
            if (_options.Duration is { } duration)
                stop.CancelAfter(duration);
            IEnumerable<(string Point, long Received, long Dropped)> Counts() => handles.Select(handle => (handle.Point.Name, handle.Counts.Received, handle.Counts.Dropped));
            new LiveCapture(handles, (_, record) => Take(record, sink), reachedNs => sink?.Mark(reachedNs, Counts)).Run(() => Enough, stop.Token);
            var counts = handles.Select(handle => (handle.Point.Name, handle.Counts)).ToList();
            foreach (var (name, (received, dropped)) in counts)
                sink?.Count(name, received, dropped);
            return Finish(Dropped(counts));
        }
        catch (IOException e) when (_options.Write == "-")
        {
            throw new CommandFailure(ExitCodes.Failed, $"the standard output is read no more: {e.Message}", null);
        }
        finally
        {
            foreach (var handle in handles)
                handle.Dispose();
        }
    }

    public void Dispose() => _json.Dispose();

    private static void Stop(PosixSignalContext context, CancellationTokenSource stop)
    {
        context.Cancel = true;
        stop.Cancel();
    }

    private static Stream OpenRead(string path)
    {
        try
        {
            return new BufferedStream(path == "-" ? Console.OpenStandardInput() : new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite), 1 << 20);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new CommandFailure(ExitCodes.BadInput, $"--read '{path}': {e.Message}", "name a file that exists and may be read");
        }
    }

    private void Take(in CaptureRecord record, CaptureSink? sink)
    {
        _packets++;
        var packet = _decoder.Decode(record.Link, record.Data.Span, record.Length, record.TimeNs, record.Point);
        _rules.See(packet);
        if (_options.Lines)
            _output.WriteLine(_options.Json ? _json.Line(packet) : _text.Line(packet));
        sink?.Write(record, packet.Malformed);
    }

    private static string Dropped(IReadOnlyList<(string Name, (long Received, long Dropped) Counts)> points) =>
        $", {Text.Number(points.Sum(point => point.Counts.Dropped))} dropped by the kernel{string.Concat(points.Where(point => point.Counts.Dropped > 0).Select(point => $" ({point.Name}: {Text.Number(point.Counts.Dropped)})"))}";

    private int Finish(string dropped)
    {
        var findings = _rules.End();
        var report = new DoctorReport { Node = Environment.MachineName, Checked = ["capture"], Findings = findings };
        if (_options.Json)
        {
            _output.WriteLine(JsonSerializer.Serialize(report, OverlayNetJson.Default.DoctorReport));
        }
        else
        {
            FindingsView.Write(_output, findings);
        }
        _error.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{_packets} packets{dropped}, {findings.Count(f => f.Severity == "error")} errors, {findings.Count(f => f.Severity == "warning")} warnings"));
        _output.Flush();
        return findings.Any(finding => finding.Severity == "error") ? ExitCodes.Failed : ExitCodes.Ok;
    }
}
