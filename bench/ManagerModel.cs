namespace OverlayNet.Bench;

/// <summary>
/// A manager as a queue: jobs in order of arrival, some processors. Agents send heartbeats, evenly spaced each second with a phase of
/// their own; a change is written, then sent to each agent's stream as a job of its own. Pure: a seed gives always the same.
/// </summary>
/// <remarks>
/// Assumed: jobs are served in order of arrival and their times are exponential about the mean; the network and the agents take no
/// time; every agent follows one manager; nothing pauses all processors (collections of garbage are not in it).
/// </remarks>
internal sealed class ManagerModel(ManagerModel.Costs costs, int processors, int agents, double changesPerSecond, int seed)
{
    private const double Seconds = 30, Warm = 5;
    private readonly Random _random = new(seed);

    /// <summary>Processor time of one job each, in seconds.</summary>
    internal readonly record struct Costs(double Heartbeat, double Change, double Send);

    /// <summary>How much of all processors the manager uses; at 1 and above it does not keep up.</summary>
    internal double Load => (agents * costs.Heartbeat + changesPerSecond * (costs.Change + agents * costs.Send)) / processors;

    /// <summary>Milliseconds from a change's request to each agent.</summary>
    internal List<double> Propagation()
    {
        var free = new PriorityQueue<int, double>(Enumerable.Range(0, processors).Select(processor => (processor, 0.0)));
        var arrivals = new PriorityQueue<(bool Change, double Since), double>();
        for (var agent = 0; agent < agents; agent++)
        {
            var phase = _random.NextDouble();
            for (var at = phase; at < Seconds; at += 1)
                arrivals.Enqueue((false, at), at);
        }
        for (var at = 0.0; at < Seconds; at += 1 / changesPerSecond)
            arrivals.Enqueue((true, at), at);
        var delays = new List<double>();
        while (arrivals.TryDequeue(out var job, out var at))
        {
            var done = Serve(free, at, job.Change ? costs.Change : costs.Heartbeat);
            if (!job.Change)
                continue;
            // Jobs that arrive before the change is written are served before its sends.
            while (arrivals.TryPeek(out var earlier, out var earlierAt) && !earlier.Change && earlierAt < done)
            {
                arrivals.Dequeue();
                Serve(free, earlierAt, costs.Heartbeat);
            }
            for (var agent = 0; agent < agents; agent++)
            {
                var sent = Serve(free, done, costs.Send);
                if (job.Since >= Warm)
                    delays.Add((sent - job.Since) * 1000);
            }
        }
        return delays;
    }

    private double Serve(PriorityQueue<int, double> free, double arrived, double mean)
    {
        free.TryDequeue(out var processor, out var from);
        var done = Math.Max(from, arrived) - Math.Log(1 - _random.NextDouble()) * mean;
        free.Enqueue(processor, done);
        return done;
    }
}
