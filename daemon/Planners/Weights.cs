using OverlayNet.Contracts;
using OverlayNet.Vip.Health;

namespace OverlayNet.Daemon.Planners;

/// <summary>
/// One place where an endpoint's state becomes a share of traffic, so that balancer, SRV and API agree. A healthy
/// endpoint counts eight times its weight and a recovering one twice, then more: a share of 2/8 until it has proven itself.
/// </summary>
public static class Weights
{
    private const int Recovering = 2, Most = 65535;

    /// <summary>An endpoint's state as traffic sees it: on a node that is being drained, it is draining.</summary>
    /// <param name="node">The endpoint's node; null when the registry no longer has it.</param>
    public static EndpointState StateOf(Endpoint endpoint, Node? node) =>
        node?.Availability == NodeAvailability.Drain && endpoint.State is (EndpointState.Healthy or EndpointState.Recovering)
            ? EndpointState.Draining
            : endpoint.State;

    /// <summary>What the balancer uses, 0-65535.</summary>
    /// <param name="slowStart">How long an endpoint that has become healthy takes to its full weight; zero: no time.</param>
    /// <inheritdoc cref="StateOf"/>
    public static int Balanced(Endpoint endpoint, Node? node, TimeSpan slowStart, DateTimeOffset now) =>
        Math.Min(endpoint.Weight * Eighths(endpoint, node, slowStart, now), Most);

    /// <summary>How much of its weight an endpoint has, in eighths: 8 all of it, 0 none. The balancer's and SRV's one source.</summary>
    /// <inheritdoc cref="Balanced(Endpoint, Node?, TimeSpan, DateTimeOffset)"/>
    public static int Eighths(Endpoint endpoint, Node? node, TimeSpan slowStart, DateTimeOffset now) => StateOf(endpoint, node) switch
    {
        EndpointState.Healthy => Ramp(endpoint.StateSinceUnixMs, slowStart, now),
        EndpointState.Recovering => Math.Max(endpoint.RampEighths, Recovering),
        _ => 0,
    };

    /// <inheritdoc cref="Balanced(Endpoint, Node?, TimeSpan, DateTimeOffset)"/>
    /// <param name="service">The endpoint's service, whose policy says how slowly it starts.</param>
    public static int Balanced(Endpoint endpoint, Node? node, Service service, DateTimeOffset now) =>
        Balanced(endpoint, node, TimeSpan.FromSeconds(service.SlowStartSeconds), now);

    /// <summary>
    /// By how much a healthy endpoint's weight counts: from what a recovering one has to all of it, linearly over the
    /// window, in whole steps, so that a plan changes six times and not with every look at the clock.
    /// </summary>
    /// <param name="sinceUnixMs">When it became healthy, by a manager's clock; a future moment (clocks differ) is now.</param>
    public static int Ramp(long sinceUnixMs, TimeSpan window, DateTimeOffset now) =>
        HealthMachine.Ramp(now.ToUnixTimeMilliseconds() - sinceUnixMs, (long)window.TotalMilliseconds);

    /// <summary>Whether the balancer should know the endpoint at all: a draining one stays, at weight 0, so that its flows live on.</summary>
    public static bool IsRealServer(Endpoint endpoint) => endpoint is
    {
        Kind: EndpointKind.Container,
        State: EndpointState.Healthy or EndpointState.Recovering or EndpointState.Draining
            or EndpointState.Unhealthy or EndpointState.Maintenance,
    };
}
