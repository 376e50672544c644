using System.Diagnostics;
using System.Globalization;

namespace OverlayNet.Tools.Cli;

/// <summary>A bar on a terminal while work is long; written over itself, and gone at the end.</summary>
/// <param name="output">Null: nobody looks, nothing is written.</param>
internal sealed class ProgressLine(TextWriter? output) : IDisposable
{
    private const int Width = 30;
    private static readonly TimeSpan Pause = TimeSpan.FromMilliseconds(200);
    private long _shown;
    private int _length;

    /// <param name="done">Of <paramref name="all"/>, in any unit.</param>
    public void Show(long done, long all, string what)
    {
        if (output is null || all <= 0 || (_shown != 0 && Stopwatch.GetElapsedTime(_shown) < Pause))
            return;
        _shown = Stopwatch.GetTimestamp();
        var text = Bar(done, all, what);
        output.Write('\r' + text.PadRight(_length));
        _length = text.Length;
    }

    public void Dispose()
    {
        if (_length > 0)
            output!.Write('\r' + new string(' ', _length) + '\r');
        _length = 0;
    }

    internal static string Bar(long done, long all, string what)
    {
        var share = Math.Clamp((double)done / all, 0, 1);
        var full = (int)(share * Width);
        return string.Create(CultureInfo.InvariantCulture, $"[{new string('#', full)}{new string('-', Width - full)}] {share * 100,3:0} % {what}");
    }
}
