using Microsoft.Win32.SafeHandles;

namespace OverlayNet.Kernel.Bpf;

/// <summary>What a link holds attached, and where.</summary>
/// <param name="ProgramId">The program it runs now.</param>
/// <param name="InterfaceIndex">TCX: the link's index, 0 when the interface is gone.</param>
/// <param name="CgroupId">Cgroup: inode number of the cgroup, 0 when it is gone.</param>
public readonly record struct BpfLinkInfo(uint Id, uint ProgramId, BpfAttachType AttachType, int InterfaceIndex, ulong CgroupId);

/// <summary>
/// A program's attachment to a hook, as an object that can be pinned: the program runs as long as a handle or a pin of
/// the link lives, and another program can take its place without a gap. Unpinned, it ends with the process.
/// </summary>
public sealed class BpfLink : BpfObject
{
    private const uint LinkTypeCgroup = 3, LinkTypeTcx = 11;

    internal BpfLink(int fd, string name) : base(fd, name)
    {
    }

    /// <summary>Takes over the descriptor of a link that another process made; the handle given is of no use afterwards.</summary>
    /// <param name="name">For errors.</param>
    public static BpfLink Adopt(SafeFileHandle descriptor, string name)
    {
        var fd = (int)descriptor.DangerousGetHandle();
        descriptor.SetHandleAsInvalid();
        return new BpfLink(fd, name);
    }

    /// <exception cref="KernelException">The kernel refused.</exception>
    public BpfLinkInfo Describe()
    {
        var info = Info<BpfSystemCall.LinkInfo>(Fd, Name);
        return info.Type switch
        {
            LinkTypeCgroup => new BpfLinkInfo(info.Id, info.ProgramId, (BpfAttachType)info.Second, 0, info.First),
            LinkTypeTcx => new BpfLinkInfo(info.Id, info.ProgramId, (BpfAttachType)(info.First >> 32), (int)(uint)info.First, 0),
            _ => new BpfLinkInfo(info.Id, info.ProgramId, 0, 0, 0),
        };
    }

    /// <summary>Attaches to a cgroup and all below it, beside programs of others (the kernel takes links as ALLOW_MULTI; Linux 5.7).</summary>
    /// <param name="cgroupPath">Directory in a cgroup2 file system.</param>
    /// <exception cref="KernelException">EPERM when a program is attached there exclusively; EBADF when it is not cgroup2.</exception>
    public static BpfLink AttachCgroup(BpfProgram program, string cgroupPath, BpfAttachType type)
    {
        var cgroup = Libc.Open(cgroupPath, Libc.O_RDONLY | Libc.O_CLOEXEC, 0);
        if (cgroup < 0)
            throw Libc.Failure($"cgroup {cgroupPath}");
        try
        {
            return Create(program, (uint)cgroup, type, 0, $"attach BPF program {program.Name} to cgroup {cgroupPath} ({type})");
        }
        finally
        {
            Libc.Close(cgroup);
        }
    }

    /// <summary>
    /// Attaches to a network device of the calling thread's network namespace, behind the programs there already
    /// (Linux 6.6). The link goes defunct with the device.
    /// </summary>
    /// <param name="type"><see cref="BpfAttachType.TcxIngress"/> or <see cref="BpfAttachType.TcxEgress"/>.</param>
    /// <exception cref="KernelException">ENODEV: no such device. EINVAL: a kernel without TCX.</exception>
    public static BpfLink AttachTcx(BpfProgram program, int interfaceIndex, BpfAttachType type, bool first = false)
    {
        const uint before = 1 << 3, after = 1 << 4; // BPF_F_BEFORE, BPF_F_AFTER without a relative program: at either end
        return Create(program, (uint)interfaceIndex, type, first ? before : after, $"attach BPF program {program.Name} to interface {interfaceIndex} ({type})");
    }

    /// <summary>Attaches to a netfilter hook of the calling thread's network namespace (Linux 6.4).</summary>
    /// <param name="family">NFPROTO_IPV4 (2) or NFPROTO_IPV6 (10).</param>
    /// <param name="hook">NF_INET_PRE_ROUTING (0) to NF_INET_POST_ROUTING (4).</param>
    /// <param name="priority">Among the hook's chains; not the kernel's first or last.</param>
    /// <exception cref="KernelException">The kernel refused.</exception>
    public static BpfLink AttachNetfilter(BpfProgram program, int family, int hook, int priority) =>
        Create(program, 0, BpfAttachType.Netfilter, 0, $"attach BPF program {program.Name} to netfilter hook {hook}", (uint)family, (uint)hook, (uint)priority);

    /// <summary>Puts another program of the same type in place, atomically: every event meets the old one or the new one.</summary>
    /// <exception cref="KernelException">ENOLINK when the cgroup or the device is gone; EINVAL for another type of program.</exception>
    public void Replace(BpfProgram program)
    {
        var request = new BpfSystemCall.LinkUpdate { LinkFd = (uint)Fd, NewProgramFd = (uint)program.Fd };
        BpfSystemCall.Call(BpfSystemCall.Command.LinkUpdate, ref request, $"replace the program of BPF link {Name} by {program.Name}");
    }

    /// <summary>Takes the program off the hook now, whatever handles and pins the link still has.</summary>
    /// <exception cref="KernelException">EOPNOTSUPP for types of links that only end with their last handle.</exception>
    public void Detach()
    {
        var request = new BpfSystemCall.ObjectInfo { Fd = (uint)Fd };
        BpfSystemCall.Call(BpfSystemCall.Command.LinkDetach, ref request, $"detach BPF link {Name}");
    }

    private static BpfLink Create(BpfProgram program, uint target, BpfAttachType type, uint flags, string what, uint first = 0, uint second = 0, uint third = 0)
    {
        var request = new BpfSystemCall.LinkCreate
        {
            ProgramFd = (uint)program.Fd,
            Target = target,
            AttachType = type,
            Flags = flags,
            First = first,
            Second = second,
            Third = third,
        };
        return new BpfLink(BpfSystemCall.Call(BpfSystemCall.Command.LinkCreate, ref request, what), program.Name);
    }
}
