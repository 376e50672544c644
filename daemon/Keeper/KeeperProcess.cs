using Microsoft.Win32.SafeHandles;
using OverlayNet.Daemon.Hosting;
using OverlayNet.Kernel;

namespace OverlayNet.Daemon.Keeper;

/// <summary>
/// The process that outlives the daemon: it holds open descriptors (DNS sockets, and the links of programs that answer
/// names) by name and hands them to the daemon's successor, so that queries are answered or wait in their sockets meanwhile.
/// It does nothing else and reads nothing from them.
/// </summary>
/// <remarks>Messages: <c>put NAME</c> with a descriptor, <c>drop NAME</c>, <c>list</c> (answered by one <c>has NAME</c> a descriptor, then <c>end</c>), <c>quit</c>.</remarks>
internal static class KeeperProcess
{
    /// <summary>Serves one daemon after the other until told to quit.</summary>
    public static int Run(string socketPath)
    {
        var held = new Dictionary<string, SafeFileHandle>();
        using var listener = DescriptorChannel.Listen(socketPath);
        // Where it is a unit of its own: the daemon starts when there is somebody to connect to.
        using (var manager = new ServiceManager(Environment.GetEnvironmentVariable))
            manager.Ready("holding sockets");
        while (true)
        {
            using var peer = listener.Accept();
            try
            {
                if (!Serve(peer, held))
                    break;
            }
            catch (KernelException)
            {
                // The daemon died in the middle of a message; the next one connects anew.
            }
        }
        File.Delete(socketPath);
        return 0;
    }

    private static bool Serve(DescriptorChannel peer, Dictionary<string, SafeFileHandle> held)
    {
        while (peer.Receive() is var (text, descriptor))
        {
            var (verb, name) = text.Split(' ', 2) is [var v, var n] ? (v, n) : (text, "");
            switch (verb)
            {
                case "put" when descriptor is not null:
                    if (held.Remove(name, out var before))
                        before.Dispose();
                    held[name] = descriptor;
                    break;
                case "drop":
                    if (held.Remove(name, out var dropped))
                        dropped.Dispose();
                    break;
                case "list":
                    foreach (var (key, handle) in held)
                        peer.Send($"has {key}", handle);
                    peer.Send("end");
                    break;
                case "quit":
                    return false;
            }
        }
        return true;
    }
}
