using OverlayNet.Dns.Table;

namespace OverlayNet.Dns;

/// <summary>Reads the answer table back into text.</summary>
internal static unsafe class TableDump
{
    /// <summary>Adds every record of a view; names without records are listed with an empty type.</summary>
    public static void Add(NetworkView view, List<DnsTableRecord> records)
    {
        var table = view.Table;
        table.ForEach(entry =>
        {
            var name = DnsName.ToText(Entry.Name(entry)).TrimEnd('.');
            if (entry[Entry.SetsAt] == 0)
                records.Add(new DnsTableRecord(view.Name, name, "", 0, ""));
            var set = Entry.FirstSet(entry);
            for (var n = entry[Entry.SetsAt]; n > 0; n--)
            {
                AddSet(view.Name, name, Entry.Name(entry), set, records);
                set += Entry.SetSize(set);
            }
        });
    }

    private static void AddSet(string network, string name, ReadOnlySpan<byte> wireName, byte* set, List<DnsTableRecord> records)
    {
        // A message around the records, so that their pointers to the question mean something.
        var writer = new MessageWriter();
        for (var i = 0; i < Header.Size; i++)
            writer.U8(0);
        writer.Bytes(wireName);
        writer.U8(0);
        writer.U16(Entry.Type(set));
        writer.U16(ClassCode.In);
        var start = writer.Length;
        writer.Bytes(new ReadOnlySpan<byte>(Entry.Data(set), Entry.DataSize(set)));
        var reader = new MessageReader(writer.Written) { Position = start };
        for (var n = Entry.Count(set); n > 0 && reader.TryReadRecord(out var record); n--)
            records.Add(new DnsTableRecord(network, name, RecordText.Type(record.Type), record.Ttl, RecordText.Data(reader, record)));
    }
}
