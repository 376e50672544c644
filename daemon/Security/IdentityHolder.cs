namespace OverlayNet.Daemon.Security;

/// <summary>This node's identity of the moment; whoever needs it asks at each use, so that a new certificate takes effect by itself.</summary>
public sealed class IdentityHolder(NodeIdentity first) : IDisposable
{
    private NodeIdentity _current = first;

    public NodeIdentity Current => Volatile.Read(ref _current);

    /// <remarks>The old one is not disposed of: a connection being made may still show it.</remarks>
    public void Replace(NodeIdentity next) => Volatile.Write(ref _current, next);

    public void Dispose() => Current.Dispose();
}
