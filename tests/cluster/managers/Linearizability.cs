using System.Collections;

namespace OverlayNet.ClusterTests.Managers;

/// <summary>One operation on a register as its caller saw it.</summary>
/// <param name="Invoked">Timestamp before the call.</param>
/// <param name="Returned">Timestamp after it; <see cref="long.MaxValue"/> when the result is unknown: it may take effect at any time later, or never.</param>
/// <param name="Expected">The value a compare-and-swap asked for; null: a read.</param>
/// <param name="Value">The value written, or read.</param>
/// <param name="Ok">False: the compare-and-swap was told that the value is another.</param>
public sealed record Operation(long Invoked, long Returned, int? Expected, int Value, bool Ok)
{
    public bool IsRead => Expected is null;

    public override string ToString() => IsRead ? $"[{Invoked},{Returned}] read {Value}" : $"[{Invoked},{Returned}] cas {Expected}->{Value} {(Returned == long.MaxValue ? "unknown" : Ok ? "ok" : "refused")}";
}

/// <summary>
/// Whether a history of one register is linearizable: whether its operations can be put in an order that respects real time and in
/// which each has the result it had (Wing and Gong's search, with Lowe's memory of what has been tried).
/// </summary>
public static class Linearizability
{
    public static bool Holds(IReadOnlyList<Operation> history, int initial)
    {
        var order = history.OrderBy(o => o.Invoked).ToArray();
        var tried = new HashSet<string>();
        return Search(order, new BitArray(order.Length), initial, tried);
    }

    private static bool Search(Operation[] order, BitArray done, int value, HashSet<string> tried)
    {
        // The earliest return among what is open bounds what may come next.
        var bound = long.MaxValue;
        var left = false;
        for (var i = 0; i < order.Length; i++)
        {
            if (done[i])
                continue;
            left |= order[i].Returned != long.MaxValue;
            bound = Math.Min(bound, order[i].Returned);
        }
        // What is left has unknown results only: it may never have happened.
        if (!left)
            return true;
        if (!tried.Add(Key(done, value)))
            return false;
        for (var i = 0; i < order.Length; i++)
        {
            if (done[i] || order[i].Invoked > bound || Step(order[i], value) is not { } next)
                continue;
            done[i] = true;
            if (Search(order, done, next, tried))
                return true;
            done[i] = false;
        }
        return false;
    }

    private static int? Step(Operation operation, int value)
    {
        if (operation.IsRead)
            return operation.Value == value ? value : null;
        if (operation.Returned == long.MaxValue)
            return operation.Expected == value ? operation.Value : null;
        return operation.Ok == (operation.Expected == value) ? (operation.Ok ? operation.Value : value) : null;
    }

    private static string Key(BitArray done, int value)
    {
        var bytes = new byte[(done.Length / 8) + 1];
        done.CopyTo(bytes, 0);
        return $"{Convert.ToBase64String(bytes)}/{value}";
    }
}

public sealed class LinearizabilityTests
{
    [Fact]
    public void The_checker_tells_good_histories_from_bad_ones()
    {
        Operation Cas(long from, long to, int expected, int value, bool ok = true) => new(from, to, expected, value, ok);
        Operation Read(long from, long to, int value) => new(from, to, null, value, true);
        Assert.True(Linearizability.Holds([Cas(1, 4, 0, 1), Read(2, 3, 0), Read(5, 6, 1)], 0));
        Assert.True(Linearizability.Holds([Cas(1, long.MaxValue, 0, 1), Read(2, 3, 0), Read(9, 10, 1)], 0));
        Assert.True(Linearizability.Holds([Cas(1, long.MaxValue, 0, 1), Read(9, 10, 0)], 0));
        // A stale read, a lost write, two winners, a value that comes back.
        Assert.False(Linearizability.Holds([Cas(1, 2, 0, 1), Read(3, 4, 0)], 0));
        Assert.False(Linearizability.Holds([Cas(1, 2, 0, 1), Cas(3, 4, 1, 2), Read(5, 6, 1)], 0));
        Assert.False(Linearizability.Holds([Cas(1, 4, 0, 1), Cas(2, 3, 0, 2)], 0));
        Assert.False(Linearizability.Holds([Cas(1, 2, 0, 1), Read(3, 4, 1), Read(5, 6, 0)], 0));
    }
}
