using Microsoft.Extensions.Logging;
using OverlayNet.Vip.Ingress;

namespace OverlayNet.Vip.Balancers;

/// <summary>All the writers of a node behind one Apply: chooses the path of each service and gives each writer its share. Safe to call from several threads: they take turns.</summary>
/// <param name="ingress">Publishes ports once the VIPs are in place; null: none are published.</param>
public sealed partial class BalancerSet(IReadOnlyList<IBalancer> writers, ILogger logger, string defaultBalancer = BalancerNames.Auto, PublishedPorts? ingress = null) : IDisposable
{
    private readonly Dictionary<string, string?> said = [];
    private readonly Lock turn = new();

    /// <summary>
    /// Makes the kernel serve exactly this; safe to repeat at any time, and to be repeated when <see cref="VipReport.NextDue"/> has come.
    /// Writers behind come first: what a writer in front lets fall through finds its way from the start.
    /// </summary>
    public VipReport Apply(VipConfig config)
    {
        using var mine = turn.EnterScope();
        foreach (var writer in writers)
            SayAvailability(writer);
        var report = ForEachWriter(config, (writer, share) => writer.Apply(share), share => ingress?.Apply(share));
        foreach (var change in report.Changes)
        {
            if (change.Mended)
                Log.Mended(logger, change.Balancer, change.Network, change.Where, change.What);
            else
                Log.Changed(logger, change.Balancer, change.Network, change.Where, change.What);
        }
        foreach (var error in report.Errors)
        {
            if (error.NamespaceGone)
                Log.Gone(logger, error.Balancer, error.Network, error.Where);
            else
                Log.Failed(logger, error.Balancer, error.Network, error.Where, error.Message);
        }
        return report;
    }

    /// <summary>What <see cref="Apply"/> would change; reads only.</summary>
    public VipReport Observe(VipConfig config)
    {
        using var mine = turn.EnterScope();
        return ForEachWriter(config, (writer, share) => writer.Observe(share), share => ingress?.Observe(share));
    }

    /// <summary>Counters of every usable writer; the flows of a real server are the sum over the writers.</summary>
    public IReadOnlyList<RealServerStatistics> ReadStatistics(VipConfig config)
    {
        using var mine = turn.EnterScope();
        var paths = Paths(config);
        return [.. writers.Where(writer => writer.Availability.Usable).SelectMany(writer => writer.ReadStatistics(Share(config, paths, writer.Name)))];
    }

    public void Dispose()
    {
        foreach (var writer in writers)
            writer.Dispose();
    }

    private VipReport ForEachWriter(VipConfig config, Func<IBalancer, VipConfig, BalancerReport> act, Func<VipConfig, BalancerReport?> publish)
    {
        var paths = Paths(config);
        var changes = new List<VipChange>();
        var errors = new List<VipError>();
        DateTimeOffset? due = null;
        foreach (var writer in writers.OrderBy(writer => writer.Name == BalancerNames.Ebpf))
        {
            if (!writer.Availability.Usable)
                continue;
            BalancerReport report;
            try
            {
                report = act(writer, Share(config, paths, writer.Name));
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException)
            {
                errors.Add(new VipError(writer.Name, "all", null, "this node", e.Message));
                continue;
            }
            changes.AddRange(report.Changes);
            errors.AddRange(report.Errors);
            if (report.NextDue is { } next && (due is null || next < due))
                due = next;
        }
        if (publish(config) is { } published)
        {
            changes.AddRange(published.Changes);
            errors.AddRange(published.Errors);
        }
        return new VipReport
        {
            Revision = config.Revision,
            Changes = changes,
            Errors = errors,
            Paths = [.. paths.Values],
            Balancers = writers.ToDictionary(writer => writer.Name, writer => writer.Availability),
            NextDue = due,
        };
    }

    private Dictionary<(string Network, string Service), ServicePath> Paths(VipConfig config)
    {
        var paths = new Dictionary<(string, string), ServicePath>();
        foreach (var network in config.Networks)
        {
            foreach (var service in network.Services)
                paths[(network.Id, service.Id)] = PathSelection.Choose(network.Id, service, writers, defaultBalancer);
        }
        return paths;
    }

    private static VipConfig Share(VipConfig config, Dictionary<(string Network, string Service), ServicePath> paths, string writer) => config with
    {
        Networks =
        [
            .. config.Networks.Select(network => network with
            {
                Services = [.. network.Services.Where(service => paths[(network.Id, service.Id)].Balancers.Contains(writer))],
            }),
        ],
    };

    private void SayAvailability(IBalancer writer)
    {
        var reason = writer.Availability.Usable ? null : writer.Availability.Reason ?? "unavailable";
        if (said.TryGetValue(writer.Name, out var before) && before == reason)
            return;
        said[writer.Name] = reason;
        if (reason is null)
            Log.Available(logger, writer.Name);
        else
            Log.Unavailable(logger, writer.Name, reason);
    }

    private static partial class Log
    {
        [LoggerMessage(LogLevel.Information, "balancer {Balancer} is usable")]
        internal static partial void Available(ILogger logger, string balancer);

        [LoggerMessage(LogLevel.Information, "balancer {Balancer} is not usable here: {Reason}")]
        internal static partial void Unavailable(ILogger logger, string balancer, string reason);

        [LoggerMessage(LogLevel.Debug, "{Balancer}: network {Network}, {Where}: {What}")]
        internal static partial void Changed(ILogger logger, string balancer, string network, string where, string what);

        [LoggerMessage(LogLevel.Warning, "{Balancer}: network {Network}, {Where}: mended, somebody else had changed it: {What}")]
        internal static partial void Mended(ILogger logger, string balancer, string network, string where, string what);

        [LoggerMessage(LogLevel.Debug, "{Balancer}: network {Network}: namespace {Where} is gone")]
        internal static partial void Gone(ILogger logger, string balancer, string network, string where);

        [LoggerMessage(LogLevel.Error, "{Balancer}: network {Network}, {Where}: {Message}")]
        internal static partial void Failed(ILogger logger, string balancer, string network, string where, string message);
    }
}
