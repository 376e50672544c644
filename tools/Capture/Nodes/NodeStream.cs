using System.Globalization;
using OverlayNet.Contracts;
using OverlayNet.Tools.Capture.Files;

namespace OverlayNet.Tools.Capture.Nodes;

/// <summary>What comes of a <see cref="NodeStream"/>; called on its thread.</summary>
internal interface INodeStreamSink
{
    void Described(NodeStream stream, CapturedInterface point);

    /// <param name="record">Data of its own.</param>
    void Captured(NodeStream stream, CaptureRecord record);

    void Counted(NodeStream stream, CapturedCounts counts);

    /// <param name="problem">Null: it came to its end.</param>
    void Ended(NodeStream stream, string? problem);
}

/// <summary>The capture of another node, read as it comes: points get the node's name in front, and time stamps are this node's.</summary>
internal sealed class NodeStream
{
    private readonly Stream _input;
    private readonly INodeStreamSink _sink;
    private readonly long _shiftNs;
    private Thread? _thread;

    /// <param name="input">pcapng; closed when read to its end. Whoever gave it ends a read that waits.</param>
    /// <param name="clock">Null: not known.</param>
    public NodeStream(int number, string node, Stream input, ClockOffset? clock, INodeStreamSink sink)
    {
        (Number, Node, _input, _sink) = (number, node, input, sink);
        _shiftNs = Shift(clock);
        Comment = Describe(node, clock);
    }

    /// <summary>Among the sources.</summary>
    public int Number { get; }

    public string Node { get; }

    /// <summary>About its clock, for the file.</summary>
    public string Comment { get; }

    /// <summary>What is added to the node's time stamps, nanoseconds: nothing where its clock differs by no more than what the measurement is true to.</summary>
    public static long Shift(ClockOffset? clock) => clock is { } known && Math.Abs(known.OffsetNs) > known.UncertaintyNs ? -known.OffsetNs : 0;

    public static string Describe(string node, ClockOffset? clock) => clock is not { } known
        ? $"the clock of {node} could not be compared: its time stamps are as they came"
        : string.Create(CultureInfo.InvariantCulture, $"the clock of {node} is {Math.Abs(known.OffsetNs) / 1e6:0.000} ms {(known.OffsetNs < 0 ? "behind" : "ahead")}, to within {known.UncertaintyNs / 1e6:0.000} ms; its time stamps are {(Shift(clock) == 0 ? "as they came" : string.Create(CultureInfo.InvariantCulture, $"moved by {Shift(clock) / 1e6:0.000} ms"))}");

    public void Start()
    {
        _thread = new Thread(Run) { IsBackground = true, Name = $"capture of {Node}" };
        _thread.Start();
    }

    /// <summary>Waits for the end of the stream.</summary>
    public void Join() => _thread?.Join();

    private void Run()
    {
        try
        {
            using var reader = CaptureFileReader.Open(_input, Node);
            if (reader is PcapNgReader pcapng)
            {
                pcapng.Described += point => _sink.Described(this, point with { Name = Named(point.Name) });
                pcapng.Counted += counts => _sink.Counted(this, counts with { Name = Named(counts.Name), TimeNs = counts.TimeNs + _shiftNs });
            }
            while (reader.TryRead(out var record))
                _sink.Captured(this, record with { Point = Named(record.Point), TimeNs = record.TimeNs + _shiftNs, Data = record.Data.ToArray() });
            _sink.Ended(this, null);
        }
        catch (Exception e) when (e is IOException or CaptureFileException or ObjectDisposedException or OperationCanceledException or HttpRequestException)
        {
            _sink.Ended(this, e.Message);
        }
    }

    private string Named(string point) => $"{Node}:{point}";
}
