using System.Diagnostics;

namespace OverlayNet.ClusterTests.Harness;

/// <summary>Waiting for conditions instead of for time.</summary>
public static class Wait
{
    private static readonly TimeSpan Pause = TimeSpan.FromMilliseconds(20);
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(30);

    /// <summary>Polls until the condition holds.</summary>
    /// <returns>How long it took, to within the pause between two looks.</returns>
    /// <exception cref="TimeoutException">It did not hold in time; says what <paramref name="seen"/> gives then.</exception>
    public static TimeSpan Until(string what, Func<bool> condition, TimeSpan? patience = null, Func<string>? seen = null)
    {
        var watch = Stopwatch.StartNew();
        while (true)
        {
            if (condition())
                return watch.Elapsed;
            if (watch.Elapsed > (patience ?? Patience))
                throw new TimeoutException($"not within {(patience ?? Patience).TotalSeconds:0.#} s: {what}{(seen is null ? "" : $"\n{seen()}")}");
            Thread.Sleep(Pause);
        }
    }
}
