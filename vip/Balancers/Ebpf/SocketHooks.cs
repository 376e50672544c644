using OverlayNet.Kernel;
using OverlayNet.Kernel.Bpf;

namespace OverlayNet.Vip.Balancers.Ebpf;

/// <summary>One daemon's programs at the root of the cgroup2 hierarchy, as pinned links beside those of other daemons.</summary>
internal sealed class SocketHooks : IDisposable
{
    private const string PinPrefix = "link_";

    private static readonly (string Name, BpfProgramType Type, BpfAttachType Hook, Func<SocketMapFds, BpfInstruction[]> Code)[] programs =
    [
        // Answers are translated back before questions are translated, also while attaching.
        ("release", BpfProgramType.CgroupSocket, BpfAttachType.CgroupSocketRelease, SocketProgram.Release),
        ("recvmsg4", BpfProgramType.CgroupSocketAddress, BpfAttachType.CgroupUdp4ReceiveMessage, maps => SocketProgram.ReceiveMessage(maps, six: false)),
        ("recvmsg6", BpfProgramType.CgroupSocketAddress, BpfAttachType.CgroupUdp6ReceiveMessage, maps => SocketProgram.ReceiveMessage(maps, six: true)),
        ("getpeername4", BpfProgramType.CgroupSocketAddress, BpfAttachType.CgroupInet4GetPeerName, maps => SocketProgram.GetPeerName(maps, six: false)),
        ("getpeername6", BpfProgramType.CgroupSocketAddress, BpfAttachType.CgroupInet6GetPeerName, maps => SocketProgram.GetPeerName(maps, six: true)),
        ("sendmsg4", BpfProgramType.CgroupSocketAddress, BpfAttachType.CgroupUdp4SendMessage, maps => SocketProgram.SendMessage(maps, six: false)),
        ("sendmsg6", BpfProgramType.CgroupSocketAddress, BpfAttachType.CgroupUdp6SendMessage, maps => SocketProgram.SendMessage(maps, six: true)),
        ("connect4", BpfProgramType.CgroupSocketAddress, BpfAttachType.CgroupInet4Connect, maps => SocketProgram.Connect(maps, six: false)),
        ("connect6", BpfProgramType.CgroupSocketAddress, BpfAttachType.CgroupInet6Connect, maps => SocketProgram.Connect(maps, six: true)),
    ];

    private readonly Dictionary<string, BpfLink> links = [];

    /// <summary>Pins of one daemon's links.</summary>
    internal static int Count => programs.Length;

    /// <summary>Attaches everywhere, or puts new programs in the place of those an earlier process (or smaller tables) had.</summary>
    /// <param name="directory">Where the links are pinned; null: they end with this object.</param>
    /// <returns>The hooks that had no program of ours.</returns>
    /// <exception cref="KernelException">The kernel refused; what is attached stays and is used by the next call.</exception>
    internal IReadOnlyList<string> Install(SocketMapFds maps, string cgroup, string? directory)
    {
        var attached = new List<string>();
        var cgroupId = BpfCgroup.Id(cgroup);
        foreach (var (name, type, hook, code) in programs)
        {
            using var program = BpfProgram.Load(type, "on_" + name, code(maps), hook);
            var pin = directory is null ? null : $"{directory}/{PinPrefix}{name}";
            if (!links.TryGetValue(name, out var link) && pin is not null)
                link = BpfFileSystem.OpenLink(pin);
            // A link whose cgroup went away (another mount, another hierarchy) holds nothing any more.
            if (link is not null && link.Describe().CgroupId == cgroupId)
            {
                link.Replace(program);
            }
            else
            {
                link?.Dispose();
                link = BpfLink.AttachCgroup(program, cgroup, hook);
                attached.Add(name);
            }
            links[name] = link;
            if (pin is not null)
                BpfFileSystem.Pin(link, pin);
        }
        return attached;
    }

    /// <summary>Hooks whose link was detached by somebody else.</summary>
    internal IReadOnlyList<string> Lost() => [.. links.Where(link => link.Value.Describe().CgroupId == 0).Select(link => link.Key)];

    /// <summary>Takes the programs off, questions first. Links that are not open are gone with their pins.</summary>
    internal void Remove()
    {
        foreach (var (name, _, _, _) in programs.Reverse())
        {
            if (links.Remove(name, out var link))
            {
                link.Detach();
                link.Dispose();
            }
        }
    }

    public void Dispose()
    {
        foreach (var link in links.Values)
            link.Dispose();
        links.Clear();
    }
}
