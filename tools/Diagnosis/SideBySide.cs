using System.Runtime.ExceptionServices;

namespace OverlayNet.Tools.Diagnosis;

/// <summary>Work that mostly waits for answers, each on a thread of its own: the pool would start them one after the other.</summary>
internal static class SideBySide
{
    /// <returns>The results in the order of the items.</returns>
    public static IReadOnlyList<TResult> Run<TItem, TResult>(IReadOnlyList<TItem> items, Func<TItem, TResult> work)
    {
        var results = new TResult[items.Count];
        ExceptionDispatchInfo? failure = null;
        var threads = items.Select((item, index) => new Thread(() =>
        {
            try
            {
                results[index] = work(item);
            }
            catch (Exception e)
            {
                Interlocked.CompareExchange(ref failure, ExceptionDispatchInfo.Capture(e), null);
            }
        })
        { IsBackground = true }).ToList();
        threads.ForEach(thread => thread.Start());
        threads.ForEach(thread => thread.Join());
        failure?.Throw();
        return results;
    }
}
