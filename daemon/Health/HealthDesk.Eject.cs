using OverlayNet.Contracts;
using OverlayNet.Daemon.Registry;
using OverlayNet.Vip.Health;

namespace OverlayNet.Daemon.Health;

/// <summary>Passive signals: endpoints that clients fare badly with are ejected, when an active check confirms it and few enough are out.</summary>
internal sealed partial class HealthDesk
{
    private Dictionary<string, Outlier> OutliersOf(Snapshot snapshot, long now)
    {
        var outliers = new Dictionary<string, Outlier>();
        foreach (var service in PassiveSigns.Services(snapshot))
        {
            var members = snapshot.EndpointsOf(service).Select(endpoint => endpoint.Id).ToHashSet();
            var sights = _nodes.Where(entry => _time.GetElapsedTime(entry.Value.At, now) < _options.SignsGoodFor)
                .SelectMany(entry => entry.Value.Signs.Where(sign => members.Contains(sign.EndpointId))
                    .Select(sign => new PassiveSight(entry.Key, sign.EndpointId, sign.Flows, sign.Troubled)));
            foreach (var outlier in Outliers.Find(members.Count, sights))
                outliers[outlier.Id] = outlier;
        }
        return outliers;
    }

    /// <summary>What the checks alone would keep, or wait for, goes now: worst first, while there is room.</summary>
    private static void Eject(Snapshot snapshot, Service? service, List<Case> cases)
    {
        if (service?.Health is not { EjectPercent: > 0 } check || cases.All(c => c.Outlier is null))
            return;
        var members = snapshot.EndpointsOf(service).Where(endpoint => Phase(endpoint.State) is not null and not HealthPhase.Starting).ToList();
        var leaving = cases.Count(c => c.Status.Serves && c.Ruling == Ruling.Withdraw);
        var room = Outliers.Room(members.Count, members.Count(endpoint => endpoint.State is EndpointState.Unhealthy or EndpointState.Unreachable) + leaving, check.EjectPercent);
        var confirmed = cases.Where(c => c is { Outlier: not null, Confirmed: true, Status.Serves: true, Silent: false } && c.Ruling != Ruling.Withdraw)
            .OrderByDescending(c => (double)c.Outlier!.Value.Troubled / c.Outlier.Value.Flows).ThenBy(c => c.Endpoint.Id, StringComparer.Ordinal);
        foreach (var c in confirmed.Take(room))
            (c.Ruling, c.Ejected) = (Ruling.Withdraw, true);
    }

    private static string Clients(Outlier outlier) => $"clients have trouble with {outlier.Troubled} of {outlier.Flows} connections to it";
}
