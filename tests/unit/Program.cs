using OverlayNet.UnitTests.Daemon.Registry.Store;

namespace OverlayNet.UnitTests;

/// <summary>The entry points of child processes that tests start; the test runner does not come this way.</summary>
internal static class Program
{
    private static Task<int> Main(string[] args) => args switch
    {
        ["store-writer", var path] => StoreWriterProcess.RunAsync(path),
        ["state-lock", var directory] => StateLockProcess.RunAsync(directory),
        _ => Task.FromResult(2),
    };
}
