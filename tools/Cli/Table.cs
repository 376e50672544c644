namespace OverlayNet.Tools.Cli;

/// <summary>Columns aligned with three spaces between them, as Docker's commands print.</summary>
internal sealed class Table(params string[] headers)
{
    private const string Gap = "   ";
    private readonly List<string[]> _rows = [headers];

    public void Add(params string[] cells)
    {
        if (cells.Length != headers.Length)
            throw new ArgumentException($"{cells.Length} cells for {headers.Length} columns", nameof(cells));
        _rows.Add(cells);
    }

    public void Write(TextWriter output, string indent = "")
    {
        var widths = Enumerable.Range(0, headers.Length).Select(column => _rows.Max(row => row[column].Length)).ToArray();
        foreach (var row in _rows)
            output.WriteLine((indent + string.Join(Gap, row.Select((cell, column) => cell.PadRight(widths[column])))).TrimEnd());
    }
}
