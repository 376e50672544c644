using System.Runtime.InteropServices;
using System.Text;

namespace OverlayNet.Kernel.Bpf;

/// <summary>A verified program in the kernel.</summary>
public sealed unsafe class BpfProgram : BpfObject
{
    private const int LogOctets = 1 << 20, LogTailLines = 24;

    internal BpfProgram(int fd, string name) : base(fd, name)
    {
    }

    /// <summary>The kernel's number for this program.</summary>
    public uint Id => Info<BpfSystemCall.ProgramInfo>(Fd, Name).Id;

    /// <summary>The first 64 bits of the SHA hash of the instructions, map references left out: equal for equal code.</summary>
    public ulong Tag => Info<BpfSystemCall.ProgramInfo>(Fd, Name).Tag;

    /// <summary>How many ns the program ran in all, while <c>kernel.bpf_stats_enabled</c> was set (Linux 5.1).</summary>
    public ulong RunTimeNs => Info<BpfSystemCall.ProgramInfo>(Fd, Name).RunTimeNs;

    /// <summary>Opens a loaded program by <see cref="Id"/>.</summary>
    /// <exception cref="KernelException">ENOENT: it is gone.</exception>
    public static BpfProgram Open(uint id)
    {
        var request = new BpfSystemCall.ById { Id = id };
        return new BpfProgram(BpfSystemCall.Call(BpfSystemCall.Command.ProgramFdById, ref request, $"open BPF program {id}"), $"#{id}");
    }

    /// <summary>Hands a program to the verifier.</summary>
    /// <param name="license">GPL-compatible where a helper asks for it; none of those in <see cref="BpfHelper"/> does.</param>
    /// <exception cref="KernelException">The kernel refused; <see cref="KernelException.Detail"/> has the end of the verifier's log.</exception>
    public static BpfProgram Load(BpfProgramType type, string name, ReadOnlySpan<BpfInstruction> instructions,
        BpfAttachType expectedAttachType = 0, string license = "Apache-2.0")
    {
        var licenseText = Encoding.ASCII.GetBytes(license + '\0');
        fixed (BpfInstruction* code = instructions)
        fixed (byte* text = licenseText)
        {
            var request = new BpfSystemCall.ProgramLoad
            {
                Type = type,
                InstructionCount = (uint)instructions.Length,
                Instructions = (ulong)code,
                License = (ulong)text,
                Name = BpfSystemCall.ObjectName.From(name),
                ExpectedAttachType = expectedAttachType,
            };
            var fd = BpfSystemCall.TryCall(BpfSystemCall.Command.ProgramLoad, ref request);
            if (fd >= 0)
                return new BpfProgram(fd, name);
            // Logging slows the verifier down: only a refused program is looked at again with it.
            var errno = Marshal.GetLastPInvokeError();
            var log = new byte[LogOctets];
            fixed (byte* buffer = log)
            {
                request.LogLevel = 1;
                request.LogSize = LogOctets;
                request.LogBuffer = (ulong)buffer;
                fd = BpfSystemCall.TryCall(BpfSystemCall.Command.ProgramLoad, ref request);
            }
            if (fd >= 0)
                return new BpfProgram(fd, name);
            throw new KernelException($"load BPF program {name}", errno, Tail(log));
        }
    }

    private static string? Tail(ReadOnlySpan<byte> log)
    {
        var end = log.IndexOf((byte)0);
        var lines = Encoding.UTF8.GetString(end < 0 ? log : log[..end]).TrimEnd().Split('\n');
        return lines is [""] ? null : string.Join('\n', lines[^Math.Min(LogTailLines, lines.Length)..]);
    }
}
