namespace OverlayNet.Tools.Capture.Files;

/// <summary>Several capture files as one, in the order of time; each file is in its own order already.</summary>
internal sealed class MergedReader(IReadOnlyList<CaptureFileReader> readers) : IDisposable
{
    private readonly CaptureRecord?[] _heads = new CaptureRecord?[readers.Count];
    private readonly IReadOnlyList<CaptureFileReader> _readers = readers;
    private bool _started;
    private int _taken = -1;

    /// <exception cref="CaptureFileException">A file breaks off or contradicts itself.</exception>
    public bool TryRead(out CaptureRecord record)
    {
        // A head is valid until its reader moves on, so the reader moves on only when the next is asked for.
        if (!_started)
        {
            for (var i = 0; i < _readers.Count; i++)
                Advance(i);
            _started = true;
        }
        else if (_taken >= 0)
        {
            Advance(_taken);
        }
        _taken = -1;
        for (var i = 0; i < _heads.Length; i++)
        {
            if (_heads[i] is { } head && (_taken < 0 || head.TimeNs < _heads[_taken]!.Value.TimeNs))
                _taken = i;
        }
        record = _taken < 0 ? default : _heads[_taken]!.Value;
        return _taken >= 0;
    }

    public void Dispose()
    {
        foreach (var reader in _readers)
            reader.Dispose();
    }

    private void Advance(int i) => _heads[i] = _readers[i].TryRead(out var record) ? record : null;
}
