using System.Diagnostics;
using Microsoft.Win32.SafeHandles;
using OverlayNet.Kernel;

namespace OverlayNet.Daemon.Keeper;

/// <summary>The daemon's side of the keeper: starts it when it is not there and takes over what it holds.</summary>
internal sealed class KeeperClient : IDisposable
{
    private static readonly TimeSpan StartTimeout = TimeSpan.FromSeconds(10);
    private readonly DescriptorChannel _channel;
    private readonly Lock _gate = new();

    private KeeperClient(DescriptorChannel channel, Dictionary<string, SafeFileHandle> inherited)
    {
        _channel = channel;
        Inherited = inherited;
    }

    /// <summary>What the predecessor left, by name; each belongs to whoever takes it out.</summary>
    public Dictionary<string, SafeFileHandle> Inherited { get; }

    /// <exception cref="IOException">The keeper did not come up.</exception>
    public static KeeperClient Start(string socketPath)
    {
        var channel = DescriptorChannel.TryConnect(socketPath) ?? Spawn(socketPath);
        channel.Send("list");
        var inherited = new Dictionary<string, SafeFileHandle>();
        while (channel.Receive() is var (text, descriptor) && text != "end")
        {
            if (descriptor is not null && text.StartsWith("has ", StringComparison.Ordinal))
                inherited[text[4..]] = descriptor;
        }
        return new KeeperClient(channel, inherited);
    }

    public void Put(string name, SafeFileHandle descriptor)
    {
        lock (_gate)
            _channel.Send($"put {name}", descriptor);
    }

    public void Drop(string name)
    {
        lock (_gate)
            _channel.Send($"drop {name}");
    }

    /// <summary>Ends the keeper: the node leaves the cluster, nothing is to be handed on.</summary>
    public void Quit()
    {
        lock (_gate)
            _channel.Send("quit");
    }

    public void Dispose() => _channel.Dispose();

    private static DescriptorChannel Spawn(string socketPath)
    {
        // setsid: signals for the daemon's terminal or process group must not reach the keeper.
        // Its own pipes: whoever reads our output to its end must not wait for the keeper too.
        var start = new ProcessStartInfo("setsid")
        {
            UseShellExecute = false,
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };
        start.ArgumentList.Add(Environment.ProcessPath!);
        if (Path.GetFileNameWithoutExtension(Environment.ProcessPath) == "dotnet")
            start.ArgumentList.Add(Path.Combine(AppContext.BaseDirectory, "overlaynetd.dll"));
        start.ArgumentList.Add("keeper");
        start.ArgumentList.Add(socketPath);
        // It must not speak to the service manager in the daemon's name.
        start.Environment.Remove("NOTIFY_SOCKET");
        // A small heap: it holds descriptors, nothing else.
        start.Environment["DOTNET_GCHeapHardLimit"] = "0x1000000";
        start.Environment["DOTNET_TieredCompilation"] = "1";
        using var process = Process.Start(start) ?? throw new IOException("the keeper process did not start");
        var watch = Stopwatch.StartNew();
        while (true)
        {
            if (DescriptorChannel.TryConnect(socketPath) is { } channel)
                return channel;
            if (watch.Elapsed > StartTimeout)
                throw new IOException($"the keeper did not answer on {socketPath} within {StartTimeout.TotalSeconds:0} s");
            Thread.Sleep(5);
        }
    }
}
