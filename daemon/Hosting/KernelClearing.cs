using OverlayNet.Daemon.Agent;
using OverlayNet.Daemon.Configuration;
using OverlayNet.Daemon.Diagnosis;
using OverlayNet.Daemon.Managers;
using OverlayNet.Daemon.Registry;
using OverlayNet.Daemon.Security;

namespace OverlayNet.Daemon.Hosting;

/// <summary><c>overlaynetd clear</c>: takes everything of this node out of the kernel, for a package that is removed. Membership and state stay.</summary>
internal static class KernelClearing
{
    /// <exception cref="StateLockedException">The daemon runs.</exception>
    public static async Task Run(DaemonOptions options, TimeProvider time, ILoggerFactory loggers)
    {
        using var locked = StateLock.Acquire(options.State);
        if (NodeIdentity.Load(options.State) is not { } identity)
            return;
        using (identity)
        using (var events = EventLog.Open(options.State, identity.Membership.NodeName, time))
        using (var http = new HttpClient())
        {
            // No manager is asked: what this node had made is in its own snapshot and in the kernel.
            var nobody = new ManagerSelector(() => [], identity.Membership.NodeId, () => null, time);
            var agent = new NodeAgent(options, identity.Membership, new RegistryClient(http, nobody, time), events, time, loggers);
            await using (agent.ConfigureAwait(false))
                await agent.Remove().ConfigureAwait(false);
            // A manager's etcd outlives the daemon, but not the package.
            var membership = identity.Membership;
            await new EtcdProcess(new EtcdPlace(options.State, membership.NodeId, membership.Address, options.EtcdClientPort, options.EtcdPeerPort)).StopAsync().ConfigureAwait(false);
        }
    }
}
