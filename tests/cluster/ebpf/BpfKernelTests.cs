using System.Net;
using System.Net.Sockets;
using OverlayNet.Kernel;
using OverlayNet.Kernel.Bpf;
using static OverlayNet.Kernel.Bpf.BpfRegister;

namespace OverlayNet.ClusterTests.Ebpf;

/// <summary>The kernel's own opinion of <c>kernel/Bpf</c>. Needs root and Linux 6.6.</summary>
public class BpfKernelTests
{
    [Theory]
    [InlineData(BpfMapType.Hash)]
    [InlineData(BpfMapType.LruHash)]
    public void HashesTakeSingleAndBatchedEntries(BpfMapType type)
    {
        using var map = BpfMap.Create(new BpfMapShape(type, "on.test", 4, 8, 4096));
        map.Set(7u, 70UL);
        Assert.True(map.TryGet(7u, out ulong value));
        Assert.Equal(70UL, value);
        Assert.False(map.TryGet(8u, out value));
        var keys = Enumerable.Range(100, 1000).Select(i => (uint)i).ToArray();
        map.SetAll<uint, ulong>(keys, keys.Select(key => 10UL * key).ToArray());
        Assert.Equal(keys.Append(7u).Order(), map.Entries<uint, ulong>().Select(entry => entry.Key).Order());
        Assert.All(map.Entries<uint, ulong>(), entry => Assert.Equal(10UL * entry.Key, entry.Value));
        Assert.Equal(1001, map.Keys<uint>().Count);
        map.RemoveAll<uint>([100, 5, 101, 6, 102]);
        Assert.Equal(998, map.Entries<uint, ulong>().Count);
        Assert.True(map.Remove(7u));
        Assert.False(map.Remove(7u));
        Assert.Throws<ArgumentException>(() => map.Set(7u, 70u));
    }

    [Fact]
    public void AFullMapSaysSo()
    {
        using var map = BpfMap.Create(new BpfMapShape(BpfMapType.Hash, "on.test", 4, 4, 2));
        var refused = Assert.Throws<KernelException>(() => map.SetAll<uint, uint>([1, 2, 3], [1, 2, 3]));
        Assert.Contains("on.test", refused.Message);
    }

    [Fact]
    public void AMappedArrayIsTheMap()
    {
        using var map = BpfMap.Create(new BpfMapShape(BpfMapType.Array, "on.test", 4, 8, 100, BpfMapFlags.Mappable));
        using var mapped = new BpfMappedArray<ulong>(map);
        mapped[99] = 5;
        Assert.True(map.TryGet(99u, out ulong value));
        Assert.Equal(5UL, value);
        map.Set(3u, 8UL);
        Assert.Equal(8UL, mapped[3]);
        Assert.Throws<ArgumentOutOfRangeException>(() => mapped[100]);
        mapped.Dispose();
        Assert.Throws<ObjectDisposedException>(() => mapped[0]);
    }

    [Fact]
    public void SocketStorageIsMadeWithItsTypes()
    {
        using var map = BpfMap.Create(new BpfMapShape(BpfMapType.SocketStorage, "on.test", 4, 64, 0, BpfMapFlags.NoPreallocation));
        using var socket = new Socket(AddressFamily.InterNetwork, SocketType.Dgram, ProtocolType.Udp);
        Assert.False(map.TryGet((int)socket.Handle, out Storage _));
        map.Set((int)socket.Handle, new Storage());
        Assert.True(map.TryGet((int)socket.Handle, out Storage _));
    }

    [Fact]
    public void ARefusedProgramComesWithTheVerifiersWords()
    {
        var b = new BpfAssembler();
        b.Load(BpfSize.Word, R0, R2, 0);
        b.Exit();
        var refused = Assert.Throws<KernelException>(() => BpfProgram.Load(BpfProgramType.SchedulerClassifier, "bad", b.Assemble()));
        Assert.Contains("R2 !read_ok", refused.Detail);
    }

    [Fact]
    public void PinsOutliveHandlesAndAreReplaced()
    {
        var directory = $"{BpfFileSystem.Root}/on-test-{Guid.NewGuid():N}";
        try
        {
            BpfFileSystem.CreateDirectory(directory);
            uint id;
            using (var map = BpfMap.Create(new BpfMapShape(BpfMapType.Hash, "on.test", 4, 4, 8)))
            {
                id = map.Id;
                map.Set(1u, 2u);
                BpfFileSystem.Pin(map, directory + "/m");
            }
            using (var map = BpfFileSystem.OpenMap(directory + "/m"))
            {
                Assert.Equal(id, map!.Id);
                Assert.Equal(new BpfMapShape(BpfMapType.Hash, "on.test", 4, 4, 8), map.Shape);
                Assert.True(map.TryGet(1u, out uint value) && value == 2);
            }
            using (var other = BpfMap.Create(new BpfMapShape(BpfMapType.Hash, "on.test", 4, 4, 8)))
                BpfFileSystem.Pin(other, directory + "/m");
            using (var map = BpfFileSystem.OpenMap(directory + "/m"))
                Assert.NotEqual(id, map!.Id);
            Assert.Equal(["m"], BpfFileSystem.List(directory));
            Assert.Null(BpfFileSystem.OpenMap(directory + "/none"));
        }
        finally
        {
            BpfFileSystem.RemoveDirectory(directory);
        }
        Assert.Empty(BpfFileSystem.List(directory));
    }

    /// <summary>A deadline in mapped memory, on both directions of a device: what a fence is made of.</summary>
    [Fact]
    public void TcxProgramsGateADeviceByADeadline()
    {
        var name = $"on-test-{Guid.NewGuid():N}"[..15];
        var pin = $"{BpfFileSystem.Root}/{name}";
        NamedNamespaces.Create(name);
        try
        {
            using var deadlineMap = BpfMap.Create(new BpfMapShape(BpfMapType.Array, "on.deadline", 4, 8, 1, BpfMapFlags.Mappable));
            using var deadline = new BpfMappedArray<ulong>(deadlineMap);
            using var program = BpfProgram.Load(BpfProgramType.SchedulerClassifier, "on.gate", Gate(deadlineMap), BpfAttachType.TcxIngress);
            using var egress = BpfProgram.Load(BpfProgramType.SchedulerClassifier, "on.gate", Gate(deadlineMap), BpfAttachType.TcxEgress);
            Assert.Equal(program.Tag, egress.Tag);
            BpfFileSystem.CreateDirectory(pin);
            using var netns = NamedNamespaces.OpenPinned(name);
            netns.Run(() =>
            {
                LoopbackUp();
                Assert.True(LoopbackAnswers());
                using (var first = BpfLink.AttachTcx(program, 1, BpfAttachType.TcxIngress))
                using (var second = BpfLink.AttachTcx(egress, 1, BpfAttachType.TcxEgress))
                {
                    BpfFileSystem.Pin(first, pin + "/in");
                    Assert.Equal((1, BpfAttachType.TcxIngress, program.Id), (first.Describe().InterfaceIndex, first.Describe().AttachType, first.Describe().ProgramId));
                    first.Replace(program);
                }
                Assert.False(LoopbackAnswers());
                deadline[0] = ulong.MaxValue;
                Assert.True(LoopbackAnswers());
                deadline[0] = 1;
                Assert.False(LoopbackAnswers());
                using (var adopted = BpfFileSystem.OpenLink(pin + "/in"))
                    adopted!.Detach();
                Assert.True(LoopbackAnswers());
            });
        }
        finally
        {
            BpfFileSystem.RemoveDirectory(pin);
            NamedNamespaces.Delete(name);
        }
    }

    private static BpfInstruction[] Gate(BpfMap deadline)
    {
        var b = new BpfAssembler();
        var drop = new BpfLabel("drop");
        b.Call(BpfHelper.KtimeGetBootNs);
        b.LoadMapValue(R1, deadline.Fd, 0);
        b.Load(BpfSize.Double, R1, R1, 0);
        b.JumpIf(BpfCondition.GreaterOrEqual, R0, R1, drop);
        b.Move(R0, BpfVerdict.Next);
        b.Exit();
        b.Mark(drop);
        b.Move(R0, BpfVerdict.Drop);
        b.Exit();
        return b.Assemble();
    }

    private static void LoopbackUp()
    {
        // A socket of the namespace is enough for SIOCSIFFLAGS; `ip` needs the namespace in its own process.
        using var up = System.Diagnostics.Process.Start("nsenter", [$"--net=/proc/{Environment.ProcessId}/task/{Libc.GetTid()}/ns/net", "ip", "link", "set", "lo", "up"]);
        up.WaitForExit();
        Assert.Equal(0, up.ExitCode);
    }

    private static bool LoopbackAnswers()
    {
        using var server = new Socket(AddressFamily.InterNetwork, SocketType.Dgram, ProtocolType.Udp);
        server.Bind(new IPEndPoint(IPAddress.Loopback, 0));
        using var client = new Socket(AddressFamily.InterNetwork, SocketType.Dgram, ProtocolType.Udp);
        client.SendTo([1], server.LocalEndPoint!);
        // Loopback delivers within the system call: what is not there at once was dropped.
        return server.Poll(0, SelectMode.SelectRead);
    }

    private unsafe struct Storage
    {
        public fixed uint Words[16];
    }
}
