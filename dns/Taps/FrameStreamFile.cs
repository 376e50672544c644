using System.Buffers.Binary;

namespace OverlayNet.Dns.Taps;

/// <summary>
/// A file of Frame Streams (https://farsightsec.github.io/fstrm/, one direction: START, data, STOP), the container of dnstap. When it has
/// grown to its limit, or an older file is there at the start, that becomes <c>PATH.1</c>: two files at most.
/// </summary>
internal sealed class FrameStreamFile : IDisposable
{
    private const uint Start = 2, Stop = 3, ContentType = 1;

    private readonly string _path;
    private readonly byte[] _contentType;
    private readonly long _most;
    private FileStream? _file;

    /// <param name="contentType">What the frames are; written into START.</param>
    /// <param name="most">Octets after which a new file is begun.</param>
    public FrameStreamFile(string path, ReadOnlySpan<byte> contentType, long most) => (_path, _contentType, _most) = (path, contentType.ToArray(), most);

    /// <exception cref="IOException">The file cannot be written.</exception>
    /// <exception cref="UnauthorizedAccessException">The file may not be written.</exception>
    public void Write(ReadOnlySpan<byte> frame)
    {
        if (_file?.Position >= _most)
            Close();
        _file ??= Open();
        Word((uint)frame.Length);
        _file.Write(frame);
    }

    public void Flush() => _file?.Flush();

    public void Dispose() => Close();

    private FileStream Open()
    {
        if (File.Exists(_path))
            File.Move(_path, _path + ".1", overwrite: true);
        // Who asked for what is nobody else's business.
        _file = new FileStream(_path, new FileStreamOptions { Mode = FileMode.Create, Access = FileAccess.Write, Share = FileShare.Read, UnixCreateMode = UnixFileMode.UserRead | UnixFileMode.UserWrite });
        Control(Start, _contentType);
        return _file;
    }

    private void Close()
    {
        if (_file is null)
            return;
        Control(Stop, []);
        _file.Dispose();
        _file = null;
    }

    /// <summary>A control frame is announced by a length of zero.</summary>
    private void Control(uint type, ReadOnlySpan<byte> contentType)
    {
        Word(0);
        Word(contentType.IsEmpty ? 4 : (uint)(12 + contentType.Length));
        Word(type);
        if (contentType.IsEmpty)
            return;
        Word(ContentType);
        Word((uint)contentType.Length);
        _file!.Write(contentType);
    }

    private void Word(uint value)
    {
        Span<byte> word = stackalloc byte[4];
        BinaryPrimitives.WriteUInt32BigEndian(word, value);
        _file!.Write(word);
    }
}
