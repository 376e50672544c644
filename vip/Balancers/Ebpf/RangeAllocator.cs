namespace OverlayNet.Vip.Balancers.Ebpf;

/// <summary>Hands out runs of consecutive indices, first fit; freed neighbours join. Not thread-safe.</summary>
internal sealed class RangeAllocator
{
    private readonly List<(int Start, int Length)> free = [];

    internal RangeAllocator(int start, int capacity)
    {
        Capacity = capacity;
        if (capacity > start)
            free.Add((start, capacity - start));
    }

    internal int Capacity { get; private set; }

    /// <returns>The first index, or -1 when no run is long enough.</returns>
    internal int Take(int length)
    {
        for (var i = 0; i < free.Count; i++)
        {
            var (start, room) = free[i];
            if (room < length)
                continue;
            if (room == length)
                free.RemoveAt(i);
            else
                free[i] = (start + length, room - length);
            return start;
        }
        return -1;
    }

    /// <summary>Takes a certain run out, which an earlier process handed out.</summary>
    /// <returns>False when some of it is taken already, or does not exist.</returns>
    internal bool TakeAt(int start, int length)
    {
        var i = IndexAfter(start) - 1;
        if (i < 0 || free[i].Start + free[i].Length < start + length)
            return false;
        var (from, room) = free[i];
        free.RemoveAt(i);
        if (from + room > start + length)
            free.Insert(i, (start + length, from + room - start - length));
        if (from < start)
            free.Insert(i, (from, start - from));
        return true;
    }

    internal void Free(int start, int length)
    {
        var i = IndexAfter(start);
        if (i < free.Count && start + length == free[i].Start)
        {
            length += free[i].Length;
            free.RemoveAt(i);
        }
        if (i > 0 && free[i - 1].Start + free[i - 1].Length == start)
            free[i - 1] = (free[i - 1].Start, free[i - 1].Length + length);
        else
            free.Insert(i, (start, length));
    }

    internal void Grow(int capacity)
    {
        var added = capacity - Capacity;
        Free(Capacity, added);
        Capacity = capacity;
    }

    /// <summary>Position of the first free run that begins after an index.</summary>
    private int IndexAfter(int index)
    {
        int low = 0, high = free.Count;
        while (low < high)
        {
            var middle = (low + high) / 2;
            if (free[middle].Start > index)
                high = middle;
            else
                low = middle + 1;
        }
        return low;
    }
}
