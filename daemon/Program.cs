using System.Collections;
using System.Runtime.InteropServices;
using OverlayNet.Contracts;
using OverlayNet.Daemon.Configuration;
using OverlayNet.Daemon.Hosting;
using OverlayNet.Daemon.Keeper;
using OverlayNet.Daemon.Registry;

namespace OverlayNet.Daemon;

/// <summary>Entry of <c>overlaynetd</c>. Exit codes: 0 ended when asked, 1 could not start, 2 a setting that cannot be taken.</summary>
internal static class Program
{
    private const int Failed = 1, BadInput = 2;

    public static async Task<int> Main(string[] arguments)
    {
        switch (arguments)
        {
            case ["keeper", var socket]:
                return KeeperProcess.Run(socket);
            case ["clear", .. var settings]:
                return await Guard(() => Clear(Load(settings))).ConfigureAwait(false);
            case ["--version"]:
                Console.WriteLine($"overlaynetd {Protocol.Release}");
                return 0;
            case ["--help" or "-h"]:
                Console.WriteLine($"overlaynetd [clear] [--config FILE] [--SETTING VALUE]...\nThe OverlayNet daemon; clear: take everything that a stopped daemon made out of the kernel. Settings (flag, key in the file):\n{ConfigurationLoader.Usage()}");
                return 0;
        }
        return await Guard(() => Run(Load(arguments))).ConfigureAwait(false);
    }

    private static DaemonOptions Load(IReadOnlyList<string> arguments) => ConfigurationLoader.Load(arguments, Environment.GetEnvironmentVariables()
        .Cast<DictionaryEntry>().ToDictionary(entry => (string)entry.Key, entry => (string?)entry.Value ?? ""));

    private static async Task<int> Guard(Func<Task<int>> action)
    {
        try
        {
            return await action().ConfigureAwait(false);
        }
        catch (ConfigurationException e)
        {
            Console.Error.WriteLine($"overlaynetd: {e.Message}");
            return BadInput;
        }
        catch (Exception e) when (e is StateLockedException or InvalidDataException or IOException or UnauthorizedAccessException or RegistryException or Registry.Store.RegistryStoreException)
        {
            Console.Error.WriteLine($"overlaynetd: {e.Message}");
            return Failed;
        }
    }

    private static ILoggerFactory Loggers(DaemonOptions options) => LoggerFactory.Create(logging =>
    {
        logging.SetMinimumLevel(options.LogLevel).AddFilter("Microsoft", LogLevel.Warning)
            // A handshake that fails is said at 'debug' there, and nowhere else.
            .AddFilter("Microsoft.AspNetCore.Server.Kestrel.Https", options.LogLevel);
        if (options.LogJson)
            logging.AddJsonConsole(console => console.UseUtcTimestamp = true);
        else
            logging.AddSimpleConsole(console => (console.SingleLine, console.UseUtcTimestamp, console.TimestampFormat) = (true, true, "yyyy-MM-ddTHH:mm:ss.fffZ "));
    });

    private static async Task<int> Clear(DaemonOptions options)
    {
        using var loggers = Loggers(options);
        await KernelClearing.Run(options, TimeProvider.System, loggers).ConfigureAwait(false);
        return 0;
    }

    private static async Task<int> Run(DaemonOptions options)
    {
        using var loggers = Loggers(options);
        using var manager = new ServiceManager(Environment.GetEnvironmentVariable);
        using var stopped = new CancellationTokenSource();
        var stop = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        using var term = PosixSignalRegistration.Create(PosixSignal.SIGTERM, signal => Stop(signal, stop));
        using var interrupt = PosixSignalRegistration.Create(PosixSignal.SIGINT, signal => Stop(signal, stop));
        var daemon = new NodeDaemon(options, TimeProvider.System, loggers);
        await using (daemon.ConfigureAwait(false))
        {
            await daemon.Start().ConfigureAwait(false);
            manager.Ready(daemon.Summary);
            var watching = manager.Watch(() => daemon.Alive, TimeProvider.System, stopped.Token);
            await stop.Task.ConfigureAwait(false);
            manager.Stopping();
            await stopped.CancelAsync().ConfigureAwait(false);
            await watching.ConfigureAwait(false);
        }
        return 0;
    }

    private static void Stop(PosixSignalContext signal, TaskCompletionSource stop)
    {
        signal.Cancel = true;
        stop.TrySetResult();
    }
}
