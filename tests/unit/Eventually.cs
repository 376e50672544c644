using System.Diagnostics;

namespace OverlayNet.UnitTests;

/// <summary>Waits for what must come true, however busy the machine is.</summary>
internal static class Eventually
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(60);

    public static Task True(Func<bool> condition) => True(() => Task.FromResult(condition()));

    public static async Task True(Func<Task<bool>> condition)
    {
        for (var waited = Stopwatch.StartNew(); waited.Elapsed < Patience; await Task.Delay(5))
        {
            if (await condition())
                return;
        }
        Assert.Fail($"the condition did not come true within {Patience.TotalSeconds:0} s");
    }
}
