namespace OverlayNet.Tools.Capture.Live;

/// <summary>One place to capture at: an interface in a namespace, and what of it.</summary>
/// <param name="Name">How it is called in lines and files: <c>web1</c>, <c>app/vxlan</c>, <c>underlay</c>.</param>
/// <param name="Netns">Path of the namespace; null: the one the command runs in.</param>
/// <param name="Interface">Name inside the namespace.</param>
/// <param name="Filter">In pcap-filter(7)'s words; empty: everything.</param>
/// <param name="Description">What it is, for the file.</param>
internal sealed record CapturePoint(string Name, string? Netns, string Interface, string Filter, string Description);
