namespace OverlayNet.ClusterTests.Harness;

/// <summary>tcpdump in a namespace, written packet by packet.</summary>
public sealed class Capture : IDisposable
{
    private readonly BackgroundProcess _tcpdump;
    private readonly string _file;

    private Capture(BackgroundProcess tcpdump, string file) => (_tcpdump, _file) = (tcpdump, file);

    /// <summary>Returns once packets are seen.</summary>
    /// <param name="filter">A pcap filter expression; empty: everything.</param>
    public static Capture Start(string netns, string device, string filter = "")
    {
        var file = Path.Combine(Path.GetTempPath(), $"overlaynet-test-{Guid.NewGuid():N}.pcap");
        var tcpdump = BackgroundProcess.In(netns, "tcpdump", ["-i", device, "-n", "-U", "-Z", "root", "--immediate-mode", "-w", file, .. filter.Length > 0 ? [filter] : Array.Empty<string>()]);
        tcpdump.Says("listening on");
        return new Capture(tcpdump, file);
    }

    /// <summary>Ends the capture and reads it with a display filter of tshark.</summary>
    /// <returns>One line a packet, the fields separated by tabs.</returns>
    public IReadOnlyList<string> Finish(string displayFilter, params IEnumerable<string> fields)
    {
        if (!_tcpdump.Ended)
            _tcpdump.End();
        return Commands.Run("tshark", ["-r", _file, "-n", .. displayFilter.Length > 0 ? ["-Y", displayFilter] : Array.Empty<string>(), "-T", "fields", .. fields.SelectMany(field => (string[])["-e", field])]).Succeeded().Lines;
    }

    public void Dispose()
    {
        _tcpdump.Dispose();
        File.Delete(_file);
    }
}
