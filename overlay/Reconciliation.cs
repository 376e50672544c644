using OverlayNet.Kernel;
using OverlayNet.Kernel.Netlink;

namespace OverlayNet.Overlay;

/// <summary>
/// One pass over desired state and kernel: differences go through here, which mends them (or only names them, in a
/// plan) and keeps the account. A refusal of the kernel is one error in the account, never the end of the pass.
/// </summary>
internal sealed class Reconciliation(bool dryRun)
{
    private const int ENOENT = 2, ENODEV = 19;
    private readonly List<OverlayChange> changes = [];
    private readonly List<OverlayError> errors = [];
    private readonly Dictionary<string, EndpointReport> endpoints = [];

    /// <summary>True: name differences, change nothing.</summary>
    internal bool DryRun => dryRun;

    internal ApplyReport Report => new() { Changes = changes, Errors = errors, Endpoints = endpoints };

    /// <summary>Mends one difference.</summary>
    /// <returns>False when it was refused, or in a plan.</returns>
    internal bool Mend(string network, string what, Action action)
    {
        changes.Add(new OverlayChange(network, what));
        return !dryRun && Try(network, what, action);
    }

    /// <summary>Sends changes, many in flight.</summary>
    /// <returns>False when one was refused, or in a plan.</returns>
    internal bool Send(string network, NetlinkSocket socket, IReadOnlyList<RouteRequest> requests) => Send(network, socket, requests, result => result.Ok);

    /// <summary>Takes away what may be gone already.</summary>
    /// <returns>False when one was refused for another reason, or in a plan.</returns>
    internal bool SendRemovals(string network, NetlinkSocket socket, IReadOnlyList<RouteRequest> requests) =>
        Send(network, socket, requests, result => result.Ok || result.Errno is ENOENT or ENODEV);

    private bool Send(string network, NetlinkSocket socket, IReadOnlyList<RouteRequest> requests, Func<NetlinkResult, bool> isFine)
    {
        foreach (var request in requests)
            changes.Add(new OverlayChange(network, request.What));
        if (dryRun || requests.Count == 0)
            return !dryRun;
        var results = RouteRequest.SendAll(socket, requests);
        var fine = true;
        for (var i = 0; i < results.Length; i++)
        {
            if (isFine(results[i]))
                continue;
            fine = false;
            Fail(network, requests[i].What, new NetlinkException(requests[i].What, results[i].Errno, results[i].Detail).Message);
        }
        return fine;
    }

    /// <summary>Runs something whose kernel errors belong in the account.</summary>
    internal bool Try(string network, string what, Action action)
    {
        try
        {
            action();
            return true;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or InvalidDataException)
        {
            Fail(network, what, e.Message);
            return false;
        }
    }

    internal void Fail(string network, string what, string message) => errors.Add(new OverlayError(network, what, message));

    internal void Endpoint(string id, EndpointOutcome outcome, string? @interface = null) => endpoints[id] = new EndpointReport(outcome, @interface);
}
