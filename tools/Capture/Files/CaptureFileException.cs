namespace OverlayNet.Tools.Capture.Files;

/// <summary>A capture file that is none, or is broken at a certain place.</summary>
internal sealed class CaptureFileException(string message) : Exception(message);
