using OverlayNet.Contracts;
using OverlayNet.Daemon.Registry;

namespace OverlayNet.Daemon.Agent;

/// <summary>
/// What a node does when the registry it knew has been replaced (restored, recovered, converted): it says which of its endpoints live,
/// so that one that came after the backup gets its addresses back before anybody else can have them.
/// </summary>
internal sealed class Reassertion(string nodeId, RegistryClient client, EventLog events)
{
    /// <exception cref="RegistryException">The new registry did not take it; to be repeated.</exception>
    public async Task Assert(Snapshot known, WatchMessage next, CancellationToken cancellation)
    {
        var living = known.Endpoints.Values
            .Where(e => e.NodeId == nodeId && (e.Kind == EndpointKind.Node || File.Exists(e.Netns)))
            .OrderBy(e => e.Id, StringComparer.Ordinal)
            .ToList();
        var answer = await client.Assert(nodeId, new AssertRequest { Incarnation = next.Incarnation, Endpoints = living }, cancellation).ConfigureAwait(false);
        events.Append("registry", "reassert", nodeId,
            $"{living.Count} endpoints told to incarnation {next.Incarnation}, {answer.Restored.Count} of them taken back{(answer.Refused.Count > 0 ? $", refused: {string.Join("; ", answer.Refused)}" : "")}", next.Revision);
    }
}
