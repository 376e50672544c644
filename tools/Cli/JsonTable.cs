using System.Text.Json;

namespace OverlayNet.Tools.Cli;

/// <summary>An array of flat JSON objects as a table: one column a member, in the order of their first appearance.</summary>
internal static class JsonTable
{
    public static void Write(TextWriter output, byte[] body)
    {
        using var document = JsonDocument.Parse(body);
        var rows = document.RootElement.EnumerateArray().ToList();
        var columns = rows.SelectMany(row => row.EnumerateObject().Select(member => member.Name)).Distinct().ToArray();
        if (columns.Length == 0)
            return;
        var table = new Table([.. columns.Select(column => column.ToUpperInvariant())]);
        foreach (var row in rows)
            table.Add([.. columns.Select(column => row.TryGetProperty(column, out var value) ? Cell(value) : "-")]);
        table.Write(output);
    }

    private static string Cell(JsonElement value) => value.ValueKind == JsonValueKind.Array
        ? string.Join(", ", value.EnumerateArray().Select(Cell))
        : Text.Or(value.ToString());
}
