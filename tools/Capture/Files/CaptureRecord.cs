using OverlayNet.Tools.Capture.Decode;

namespace OverlayNet.Tools.Capture.Files;

/// <summary>One captured frame. <see cref="Data"/> is valid until the reader moves on.</summary>
/// <param name="Point">Name of the interface it was captured on; empty where the file has none.</param>
/// <param name="TimeNs">Nanoseconds since 1970, UTC.</param>
/// <param name="Length">Octets on the wire.</param>
internal readonly record struct CaptureRecord(string Point, LinkType Link, long TimeNs, int Length, ReadOnlyMemory<byte> Data);
