namespace OverlayNet.UnitTests.Vip.Fence;

/// <summary>What an exhaustive search found.</summary>
/// <param name="Counterexample">The shortest history to two open gates, a line per action; empty when there is none.</param>
/// <param name="Opened">States in which some gate is open: a search that never opens one proves nothing.</param>
internal sealed record FenceModelResult(int States, long Transitions, int Opened, bool Complete, IReadOnlyList<string> Counterexample);

/// <summary>Breadth-first search over every state of a <see cref="FenceModel"/>.</summary>
internal static class FenceModelChecker
{
    public static FenceModelResult Run(FenceModelOptions options, int maxStates = 5_000_000)
    {
        var model = new FenceModel(options);
        var alike = options.DriftWindow == 0;
        var initial = model.Initial();
        var parents = new Dictionary<UInt128, (UInt128 Parent, ushort Action)> { [FenceModelEncoding.Key(initial, alike)] = (default, ushort.MaxValue) };
        var frontier = new Queue<(FenceModel.World World, UInt128 Key)>();
        frontier.Enqueue((initial, FenceModelEncoding.Key(initial, alike)));
        long transitions = 0;
        var opened = 0;
        while (frontier.TryDequeue(out var current))
        {
            ushort action = 0;
            foreach (var (_, next) in model.Successors(current.World))
            {
                transitions++;
                FenceModelEncoding.Normalise(next, options);
                var key = FenceModelEncoding.Key(next, alike);
                if (!parents.TryAdd(key, (current.Key, action++)))
                    continue;
                var open = next.Nodes.Count(model.IsOpen);
                if (open > 0)
                    opened++;
                if (open > 1)
                    return new FenceModelResult(parents.Count, transitions, opened, true, Replay(model, options, parents, key));
                if (parents.Count >= maxStates)
                    return new FenceModelResult(parents.Count, transitions, opened, false, []);
                frontier.Enqueue((next, key));
            }
        }

        return new FenceModelResult(parents.Count, transitions, opened, true, []);
    }

    private static List<string> Replay(
        FenceModel model, FenceModelOptions options, Dictionary<UInt128, (UInt128 Parent, ushort Action)> parents, UInt128 key)
    {
        var actions = new Stack<ushort>();
        while (parents[key] is { Action: not ushort.MaxValue } step)
        {
            actions.Push(step.Action);
            key = step.Parent;
        }

        var world = model.Initial();
        var words = new List<string>();
        var at = 0;
        foreach (var action in actions)
        {
            (var said, world) = model.Successors(world).ElementAt(action);
            FenceModelEncoding.Normalise(world, options);
            if (said.StartsWith("time passes", StringComparison.Ordinal))
                at++;
            words.Add($"{at,3}  {said}");
        }

        words.Add($"{at,3}  both gates are open: {string.Join(", ", world.Nodes.Select((n, i) => (n, i)).Where(p => model.IsOpen(p.n)).Select(p => FenceModel.Name(p.i)))}");
        return words;
    }
}
