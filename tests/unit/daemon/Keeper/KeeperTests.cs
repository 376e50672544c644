using System.Net;
using Microsoft.Win32.SafeHandles;
using OverlayNet.Daemon.Keeper;
using OverlayNet.Kernel;

namespace OverlayNet.UnitTests.Daemon.Keeper;

public class KeeperTests
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(60);

    [Fact]
    public async Task A_successor_gets_the_same_socket()
    {
        var path = Path.Combine(Path.GetTempPath(), $"on-keeper-{Guid.NewGuid():N}.sock");
        var keeper = Task.Factory.StartNew(
            () => KeeperProcess.Run(path), CancellationToken.None, TaskCreationOptions.LongRunning, TaskScheduler.Default);
        // Until it listens: the client starts a process of its own where nobody does.
        Assert.True(SpinWait.SpinUntil(() => Listens(path), Patience));
        var socket = new System.Net.Sockets.Socket(System.Net.Sockets.AddressFamily.InterNetwork, System.Net.Sockets.SocketType.Dgram, System.Net.Sockets.ProtocolType.Udp);
        socket.Bind(new IPEndPoint(IPAddress.Loopback, 0));
        var port = ((IPEndPoint)socket.LocalEndPoint!).Port;
        using (var first = KeeperClient.Start(path))
        {
            Assert.Empty(first.Inherited);
            using var handle = new SafeFileHandle(socket.Handle, ownsHandle: false);
            first.Put("dns/a", handle);
            first.Put("dns/b", handle);
            first.Drop("dns/b");
        }
        socket.Dispose();

        using (var second = KeeperClient.Start(path))
        {
            var (name, handle) = Assert.Single(second.Inherited);
            Assert.Equal("dns/a", name);
            using (handle)
            using (var inherited = new System.Net.Sockets.Socket(new System.Net.Sockets.SafeSocketHandle(handle.DangerousGetHandle(), ownsHandle: false)))
                Assert.Equal(port, ((IPEndPoint)inherited.LocalEndPoint!).Port);
            second.Quit();
        }
        Assert.Equal(0, await keeper.WaitAsync(Patience));
    }

    private static bool Listens(string path)
    {
        using var channel = DescriptorChannel.TryConnect(path);
        return channel is not null;
    }
}
