using OverlayNet.Dns;

namespace OverlayNet.Tools.Capture.Decode;

/// <summary>DNS messages (RFC 1035) with the server's own codec.</summary>
internal static class DnsDecoder
{
    private const int MostAnswers = 64;

    /// <summary>Null when it is no message, or the question or an answer cannot be read.</summary>
    public static DnsMessage? Decode(ReadOnlySpan<byte> data)
    {
        if (data.Length < Header.Size)
            return null;
        var reader = new MessageReader(data);
        Span<byte> name = stackalloc byte[Limits.NameLength];
        var questions = reader.Count(Header.QdCount);
        var nameText = "";
        var typeText = "";
        for (var i = 0; i < questions; i++)
        {
            if (!reader.TryReadQuestion(name, out var length, out var type, out _))
                return null;
            if (i == 0)
                (nameText, typeText) = (DnsName.ToText(name[..length]) is { Length: > 1 } text ? text[..^1] : ".", RecordText.Type(type));
        }
        var answers = new List<string>();
        var count = reader.Count(Header.AnCount);
        for (var i = 0; i < count; i++)
        {
            if (!reader.TryReadRecord(out var record))
                return null;
            if (answers.Count < MostAnswers)
                answers.Add($"{RecordText.Type(record.Type)} {RecordText.Data(reader, record)}");
        }
        var flags1 = data[Header.Flags1];
        var rcode = (Rcode)reader.Rcode;
        return new DnsMessage(
            reader.Id, reader.IsResponse, (flags1 & Header.OpcodeMask) >> 3,
            Enum.IsDefined(rcode) ? rcode.ToString().ToUpperInvariant() : $"RCODE{(int)rcode}",
            reader.Truncated, (flags1 & Header.Aa) != 0, nameText, typeText, answers, count,
            reader.Count(Header.NsCount), reader.Count(Header.ArCount));
    }
}
