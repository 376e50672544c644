using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Text;

namespace OverlayNet.Kernel.Bpf;

/// <summary>bpf(2) and the members of union bpf_attr (linux/bpf.h) as structures; the kernel takes what is missing at the end as 0.</summary>
internal static unsafe partial class BpfSystemCall
{
    internal const int NameLength = 16;
    private const int NumberX64 = 321, NumberArm64 = 280; // asm/unistd_64.h, asm-generic/unistd.h

    private static readonly nint number = RuntimeInformation.ProcessArchitecture switch
    {
        Architecture.X64 => NumberX64,
        Architecture.Arm64 => NumberArm64,
        var other => throw new PlatformNotSupportedException($"bpf(2) on {other}"),
    };

    internal enum Command
    {
        MapCreate = 0,
        MapLookup = 1,
        MapUpdate = 2,
        MapDelete = 3,
        MapNextKey = 4,
        ProgramLoad = 5,
        ObjectPin = 6,
        ObjectGet = 7,
        ProgramAttach = 8,
        ProgramDetach = 9,
        ProgramFdById = 13,
        MapFdById = 14,
        ObjectInfo = 15,
        ProgramQuery = 16,
        TypesLoad = 18,
        MapFreeze = 22,
        MapLookupBatch = 24,
        MapUpdateBatch = 26,
        MapDeleteBatch = 27,
        LinkCreate = 28,
        LinkUpdate = 29,
        LinkDetach = 34,
    }

    internal struct ObjectName
    {
        private fixed byte octets[NameLength];

        /// <summary>Letters, digits, '_' and '.' pass the kernel's check; what does not is replaced, what is too long cut.</summary>
        internal static ObjectName From(string name)
        {
            var result = default(ObjectName);
            for (var i = 0; i < Math.Min(name.Length, NameLength - 1); i++)
                result.octets[i] = (byte)(char.IsAsciiLetterOrDigit(name[i]) || name[i] == '.' ? name[i] : '_');
            return result;
        }

        public override readonly string ToString()
        {
            fixed (byte* start = octets)
            {
                var span = new ReadOnlySpan<byte>(start, NameLength);
                var end = span.IndexOf((byte)0);
                return Encoding.ASCII.GetString(end < 0 ? span : span[..end]);
            }
        }
    }

    internal struct MapCreate
    {
        internal BpfMapType Type;
        internal uint KeySize, ValueSize, MaxEntries;
        internal BpfMapFlags Flags;
        internal uint InnerMapFd, NumaNode;
        internal ObjectName Name;
        internal uint InterfaceIndex, TypesFd, KeyTypeId, ValueTypeId;
    }

    internal struct MapElement
    {
        internal uint MapFd, Pad;
        internal ulong Key, Value, Flags;
    }

    internal struct MapBatch
    {
        internal ulong InBatch, OutBatch, Keys, Values;
        internal uint Count, MapFd;
        internal ulong ElementFlags, Flags;
    }

    internal struct ProgramLoad
    {
        internal BpfProgramType Type;
        internal uint InstructionCount;
        internal ulong Instructions, License;
        internal uint LogLevel, LogSize;
        internal ulong LogBuffer;
        internal uint KernelVersion, Flags;
        internal ObjectName Name;
        internal uint InterfaceIndex;
        internal BpfAttachType ExpectedAttachType;
    }

    internal struct ObjectPath
    {
        internal ulong Path;
        internal uint Fd, Flags;
    }

    internal struct ObjectInfo
    {
        internal uint Fd, Length;
        internal ulong Info;
    }

    internal struct ProgramAttach
    {
        internal uint TargetFd, ProgramFd;
        internal BpfAttachType AttachType;
        internal uint Flags, ReplaceFd;
    }

    internal struct ProgramQuery
    {
        internal uint Target;
        internal BpfAttachType AttachType;
        internal uint QueryFlags, AttachFlags;
        internal ulong ProgramIds;
        internal uint ProgramCount, Pad;
    }

    internal struct ById
    {
        internal uint Id, Next, OpenFlags;
    }

    internal struct TypesLoad
    {
        internal ulong Types, Log;
        internal uint Size, LogSize, LogLevel;
    }

    /// <summary>The union's members after the flags: relative_fd and expected_revision for TCX; pf, hooknum, priority and flags for netfilter.</summary>
    internal struct LinkCreate
    {
        internal uint ProgramFd, Target;
        internal BpfAttachType AttachType;
        internal uint Flags;
        internal uint First, Second, Third, Fourth;
    }

    internal struct LinkUpdate
    {
        internal uint LinkFd, NewProgramFd, Flags, OldProgramFd;
    }

    internal struct MapInfo
    {
        internal BpfMapType Type;
        internal uint Id, KeySize, ValueSize, MaxEntries;
        internal BpfMapFlags Flags;
        internal ObjectName Name;
    }

    internal struct ProgramInfo
    {
        internal BpfProgramType Type;
        internal uint Id;
        internal ulong Tag;
        internal uint JitedLength, TranslatedLength;
        internal ulong JitedInstructions, TranslatedInstructions, LoadTime;
        internal uint CreatedBy, MapCount;
        internal ulong MapIds;
        internal ObjectName Name;
        internal uint InterfaceIndex, GplCompatible;
        internal ulong NetnsDevice, NetnsInode;
        internal uint SymbolCount, FunctionLengthCount;
        internal ulong Symbols, FunctionLengths;
        internal uint TypesId, FunctionInfoSize;
        internal ulong FunctionInfo;
        internal uint FunctionInfoCount, LineInfoCount;
        internal ulong LineInfo, JitedLineInfo;
        internal uint JitedLineInfoCount, LineInfoSize, JitedLineInfoSize, TagCount;
        internal ulong Tags;
        internal ulong RunTimeNs, RunCount;
    }

    internal struct LinkInfo
    {
        internal uint Type, Id, ProgramId, Pad;
        internal ulong First;
        internal uint Second, Third;
    }

    /// <returns>What the command gives: a descriptor, or 0.</returns>
    /// <exception cref="KernelException">The kernel refused.</exception>
    internal static int Call<T>(Command command, ref T attribute, string what) where T : unmanaged
    {
        var result = TryCall(command, ref attribute);
        return result >= 0 ? result : throw Libc.Failure(what);
    }

    /// <returns>-1 on failure, with the error number in the thread's last P/Invoke error.</returns>
    internal static int TryCall<T>(Command command, ref T attribute) where T : unmanaged
    {
        fixed (T* pointer = &attribute)
        {
            while (true)
            {
                var result = (int)SystemCall(number, (nint)command, pointer, (nuint)Unsafe.SizeOf<T>());
                // The verifier gives EAGAIN when a signal interrupts it (kernel/bpf/verifier.c).
                if (result >= 0 || Marshal.GetLastPInvokeError() is not (Libc.EINTR or Libc.EAGAIN))
                    return result;
            }
        }
    }

    [LibraryImport("libc", EntryPoint = "syscall", SetLastError = true)]
    private static partial nint SystemCall(nint number, nint command, void* attribute, nuint size);
}
