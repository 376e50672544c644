using System.Collections;
using System.Runtime.InteropServices;
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
            case ["--version"]:
                Console.WriteLine($"overlaynetd {DaemonVersion.Text}");
                return 0;
            case ["--help" or "-h"]:
                Console.WriteLine($"overlaynetd [--config FILE] [--SETTING VALUE]...\nThe OverlayNet daemon. Settings (flag, key in the file):\n{ConfigurationLoader.Usage()}");
                return 0;
        }
        try
        {
            var environment = Environment.GetEnvironmentVariables().Cast<DictionaryEntry>()
                .ToDictionary(entry => (string)entry.Key, entry => (string?)entry.Value ?? "");
            return await Run(ConfigurationLoader.Load(arguments, environment)).ConfigureAwait(false);
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

    private static async Task<int> Run(DaemonOptions options)
    {
        using var loggers = LoggerFactory.Create(logging =>
        {
            logging.SetMinimumLevel(options.LogLevel).AddFilter("Microsoft", LogLevel.Warning);
            if (options.LogJson)
                logging.AddJsonConsole(console => console.UseUtcTimestamp = true);
            else
                logging.AddSimpleConsole(console => (console.SingleLine, console.UseUtcTimestamp, console.TimestampFormat) = (true, true, "yyyy-MM-ddTHH:mm:ss.fffZ "));
        });
        var stop = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        using var term = PosixSignalRegistration.Create(PosixSignal.SIGTERM, signal => Stop(signal, stop));
        using var interrupt = PosixSignalRegistration.Create(PosixSignal.SIGINT, signal => Stop(signal, stop));
        var daemon = new NodeDaemon(options, TimeProvider.System, loggers);
        await using (daemon.ConfigureAwait(false))
        {
            await daemon.Start().ConfigureAwait(false);
            await stop.Task.ConfigureAwait(false);
        }
        return 0;
    }

    private static void Stop(PosixSignalContext signal, TaskCompletionSource stop)
    {
        signal.Cancel = true;
        stop.TrySetResult();
    }
}
