using System.Buffers.Binary;
using System.Runtime.InteropServices;
using System.Text;

namespace OverlayNet.Kernel.Netlink;

/// <summary>
/// Changes to nftables that the kernel applies all or none (nfnetlink batch). Write the changes, then
/// <see cref="NfTables.Commit"/>; a batch may be committed to several namespaces one after the other.
/// </summary>
public ref struct NfTablesBatch : IDisposable
{
    // A nest's length has 16 bits; one more element of the largest kind (64-octet key, its end, data, comment) must fit.
    private const int ElementListOctets = 60 * 1024;

    // Batch begin: netlink header, nfgenmsg, then the generation attribute whose value is patched at each commit.
    private const int GenerationOffset = NetlinkType.HeaderLength + 4 + NetlinkType.AttributeHeaderLength;

    // BYTEORDER_HOST_ENDIAN of nft, a 32-bit number in host byte order.
    private static ReadOnlySpan<byte> HostByteOrder => BitConverter.IsLittleEndian ? [1, 0, 0, 0] : [0, 0, 0, 1];
    private readonly List<(string Verb, string Object)> steps;
    internal NetlinkMessageWriter Writer;
    private int elementList;
    private (byte Type, NfTable Table, string Set) elementRun;
    private bool sealedForCommit;

    public NfTablesBatch()
    {
        steps = [];
        Writer = new NetlinkMessageWriter([]);
        Control(NfTablesType.BatchBegin);
        Writer.U32BigEndian(NfTablesType.BatchGeneration, 0);
    }

    /// <summary>Nothing was written: there is nothing to commit.</summary>
    public readonly bool IsEmpty => steps.Count == 0;

    /// <summary>Messages written.</summary>
    public readonly int Count => steps.Count;

    /// <summary>Octets written.</summary>
    public readonly int Length => Writer.Length;

    /// <summary>Makes a table, or leaves the one that exists.</summary>
    public void AddTable(NfTable table, string? comment = null)
    {
        Begin(NfTablesType.NewTable, table, NetlinkFlags.Create, "add", table.ToString());
        Writer.String(NfTablesType.TableName, table.Name);
        Writer.U32BigEndian(NfTablesType.TableFlags, 0);
        Comment(NfTablesType.TableUserData, NfTablesType.CommentUserData, comment);
    }

    /// <summary>Deletes a table with everything inside. ENOENT when there is none.</summary>
    public void DeleteTable(NfTable table)
    {
        Begin(NfTablesType.DelTable, table, NetlinkFlags.None, "delete", table.ToString());
        Writer.String(NfTablesType.TableName, table.Name);
    }

    /// <summary>Deletes a table if it exists.</summary>
    public void RemoveTable(NfTable table)
    {
        // Adding first is how kernels before 6.3 (no NFT_MSG_DESTROYTABLE) forgive a missing one.
        AddTable(table);
        DeleteTable(table);
    }

    /// <summary>Makes a chain, or leaves the one that exists (a base chain's policy is set).</summary>
    public void AddChain(NfTable table, NfChain chain)
    {
        Begin(NfTablesType.NewChain, table, NetlinkFlags.Create, "add", $"chain {chain.Name} of {table}");
        Writer.String(NfTablesType.ChainTable, table.Name);
        Writer.String(NfTablesType.ChainName, chain.Name);
        if (chain.Hook is { } hook)
        {
            var nest = Writer.BeginNest(NfTablesType.ChainHook);
            Writer.U32BigEndian(NfTablesType.HookNumber, (uint)hook);
            Writer.U32BigEndian(NfTablesType.HookPriority, (uint)chain.Priority);
            if (chain.Devices.Count == 1)
            {
                Writer.String(NfTablesType.HookDevice, chain.Devices[0]);
            }
            else if (chain.Devices.Count > 1)
            {
                var devices = Writer.BeginNest(NfTablesType.HookDevices);
                foreach (var device in chain.Devices)
                    Writer.String(NfTablesType.DeviceName, device);
                Writer.EndNest(devices);
            }
            Writer.EndNest(nest);
            Writer.U32BigEndian(NfTablesType.ChainPolicy, (uint)chain.Policy);
            Writer.String(NfTablesType.ChainKind, chain.Type);
        }
        Comment(NfTablesType.ChainUserData, NfTablesType.CommentUserData, chain.Comment);
    }

    /// <summary>Deletes a chain. EBUSY when rules are in it or point to it.</summary>
    public void DeleteChain(NfTable table, string chain)
    {
        Begin(NfTablesType.DelChain, table, NetlinkFlags.None, "delete", $"chain {chain} of {table}");
        Writer.String(NfTablesType.ChainTable, table.Name);
        Writer.String(NfTablesType.ChainName, chain);
    }

    /// <summary>Deletes all rules of a chain.</summary>
    public void FlushChain(NfTable table, string chain)
    {
        Begin(NfTablesType.DelRule, table, NetlinkFlags.None, "flush", $"chain {chain} of {table}");
        Writer.String(NfTablesType.RuleTable, table.Name);
        Writer.String(NfTablesType.RuleChain, chain);
    }

    /// <summary>Adds a rule at the end of a chain, or in front of all others.</summary>
    public void AddRule(NfTable table, string chain, NfExpressions expressions, string? comment = null, bool first = false)
    {
        Begin(NfTablesType.NewRule, table, NetlinkFlags.Create | (first ? NetlinkFlags.None : NetlinkFlags.Append), "add rule to", $"chain {chain} of {table}");
        Writer.String(NfTablesType.RuleTable, table.Name);
        Writer.String(NfTablesType.RuleChain, chain);
        var nest = Writer.BeginNest(NfTablesType.RuleExpressions);
        Writer.Octets(expressions.Written);
        Writer.EndNest(nest);
        Comment(NfTablesType.RuleUserData, NfTablesType.CommentUserData, comment);
    }

    public void DeleteRule(NfTable table, string chain, ulong handle)
    {
        Begin(NfTablesType.DelRule, table, NetlinkFlags.None, "delete", $"rule {handle} of chain {chain} of {table}");
        Writer.String(NfTablesType.RuleTable, table.Name);
        Writer.String(NfTablesType.RuleChain, chain);
        Writer.U64BigEndian(NfTablesType.RuleHandle, handle);
    }

    /// <summary>Makes a set or map, or leaves the one that exists (EEXIST when that one is of another kind).</summary>
    public void AddSet(NfTable table, NfSet set)
    {
        Begin(NfTablesType.NewSet, table, NetlinkFlags.Create, "add", $"set {set.Name} of {table}");
        Writer.String(NfTablesType.SetTable, table.Name);
        Writer.String(NfTablesType.SetName, set.Name);
        Writer.U32BigEndian(NfTablesType.SetFlags, (uint)set.Flags);
        Writer.U32BigEndian(NfTablesType.SetKeyType, set.KeyType);
        Writer.U32BigEndian(NfTablesType.SetKeyLength, (uint)set.KeyLength);
        if ((set.Flags & NfSetFlags.Map) != 0)
        {
            Writer.U32BigEndian(NfTablesType.SetDataType, set.IsVerdictMap ? NfTablesType.VerdictDataType : set.DataType);
            if (!set.IsVerdictMap)
                Writer.U32BigEndian(NfTablesType.SetDataLength, (uint)set.DataLength);
        }
        // Rules refer to a set by name, but the kernel wants a number that is unique within the batch.
        Writer.U32BigEndian(NfTablesType.SetId, (uint)steps.Count);
        Description(set);
        if (set.Timeout > TimeSpan.Zero)
            Writer.U64BigEndian(NfTablesType.SetTimeout, (ulong)set.Timeout.TotalMilliseconds);
        SetUserData(set);
    }

    /// <summary>Deletes a set. EBUSY when a rule uses it.</summary>
    public void DeleteSet(NfTable table, string set)
    {
        Begin(NfTablesType.DelSet, table, NetlinkFlags.None, "delete", $"set {set} of {table}");
        Writer.String(NfTablesType.SetTable, table.Name);
        Writer.String(NfTablesType.SetName, set);
    }

    /// <summary>Deletes all elements of a set.</summary>
    public void FlushSet(NfTable table, string set)
    {
        Begin(NfTablesType.DelElement, table, NetlinkFlags.None, "flush", $"set {set} of {table}");
        Writer.String(NfTablesType.ElementsTable, table.Name);
        Writer.String(NfTablesType.ElementsSet, set);
    }

    /// <summary>
    /// Adds an element; one with the same key and other data is EEXIST, one with the same data stays. A run of calls for
    /// one set makes few messages.
    /// </summary>
    public void AddElement(NfTable table, string set, scoped ReadOnlySpan<byte> key, scoped ReadOnlySpan<byte> data = default,
        NfElementFlags flags = NfElementFlags.None, TimeSpan timeout = default, scoped ReadOnlySpan<byte> keyEnd = default)
    {
        var element = BeginElement(NfTablesType.NewElement, table, set, key, keyEnd, flags);
        if (!data.IsEmpty)
            NfExpressions.Data(ref Writer, NfTablesType.ElementData, data);
        if (timeout > TimeSpan.Zero)
            Writer.U64BigEndian(NfTablesType.ElementTimeout, (ulong)timeout.TotalMilliseconds);
        EndElement(element);
    }

    /// <summary>Adds an element of a verdict map.</summary>
    public void AddVerdict(NfTable table, string map, scoped ReadOnlySpan<byte> key, NfVerdict verdict, NfElementFlags flags = NfElementFlags.None)
    {
        var element = BeginElement(NfTablesType.NewElement, table, map, key, default, flags);
        var data = Writer.BeginNest(NfTablesType.ElementData);
        NfExpressions.WriteVerdict(ref Writer, verdict);
        Writer.EndNest(data);
        EndElement(element);
    }

    /// <summary>Deletes an element. ENOENT when there is none.</summary>
    public void DeleteElement(NfTable table, string set, scoped ReadOnlySpan<byte> key, NfElementFlags flags = NfElementFlags.None, scoped ReadOnlySpan<byte> keyEnd = default) =>
        EndElement(BeginElement(NfTablesType.DelElement, table, set, key, keyEnd, flags));

    /// <summary>An error's object, from the position of the refused message in the datagram.</summary>
    internal readonly string Describe(int index)
    {
        // Message 0 is the batch's beginning.
        if (index == 0 || index > steps.Count)
            return "nftables transaction";
        var (verb, thing) = steps[index - 1];
        return $"{verb} {thing}";
    }

    /// <summary>Ends the batch and sets the generation it is valid for (0: any).</summary>
    internal void Seal(uint generation)
    {
        if (!sealedForCommit)
        {
            EndElements();
            Control(NfTablesType.BatchEnd);
            Writer.End();
            sealedForCommit = true;
        }
        MemoryMarshal.Write(Writer.Mutable[GenerationOffset..], BitConverter.IsLittleEndian ? BinaryPrimitives.ReverseEndianness(generation) : generation);
    }

    public void Dispose() => Writer.Dispose();

    private void Begin(byte type, NfTable table, NetlinkFlags flags, string verb, string thing)
    {
        if (sealedForCommit)
            throw new InvalidOperationException("the batch was committed already; begin a new one");
        EndElements();
        steps.Add((verb, thing));
        Writer.Begin((ushort)(NfTablesType.Subsystem | type), NetlinkFlags.Request | flags);
        Writer.Struct(new NfHeader(table.Family, 0, 0));
    }

    private int BeginElement(byte type, NfTable table, string set, scoped ReadOnlySpan<byte> key, scoped ReadOnlySpan<byte> keyEnd, NfElementFlags flags)
    {
        if (elementList == 0 || elementRun != (type, table, set) || Writer.NestLength(elementList) > ElementListOctets)
        {
            Begin(type, table, type == NfTablesType.NewElement ? NetlinkFlags.Create : NetlinkFlags.None,
                type == NfTablesType.NewElement ? "add elements to" : "delete elements from", $"set {set} of {table}");
            Writer.String(NfTablesType.ElementsTable, table.Name);
            Writer.String(NfTablesType.ElementsSet, set);
            elementList = Writer.BeginNest(NfTablesType.ElementsList);
            elementRun = (type, table, set);
        }
        var element = Writer.BeginNest(NfTablesType.ListElement);
        if (flags != NfElementFlags.None)
            Writer.U32BigEndian(NfTablesType.ElementFlags, (uint)flags);
        if ((flags & NfElementFlags.CatchAll) == 0)
            NfExpressions.Data(ref Writer, NfTablesType.ElementKey, key);
        if (!keyEnd.IsEmpty)
            NfExpressions.Data(ref Writer, NfTablesType.ElementKeyEnd, keyEnd);
        return element;
    }

    private readonly void EndElement(int element) => Writer.EndNest(element);

    private void EndElements()
    {
        if (elementList == 0)
            return;
        Writer.EndNest(elementList);
        elementList = 0;
    }

    private void Control(ushort type)
    {
        Writer.Begin(type, NetlinkFlags.Request);
        // res_id names the subsystem, in network byte order.
        Writer.Struct(new NfHeader(NfFamily.Unspecified, 0, BitConverter.IsLittleEndian ? (ushort)(10 << 8) : (ushort)10));
    }

    private void Description(NfSet set)
    {
        if (set.Size == 0 && set.Fields.Count == 0)
            return;
        var nest = Writer.BeginNest(NfTablesType.SetDescription);
        if (set.Size > 0)
            Writer.U32BigEndian(NfTablesType.DescriptionSize, (uint)set.Size);
        if (set.Fields.Count > 0)
        {
            var fields = Writer.BeginNest(NfTablesType.DescriptionConcatenation);
            foreach (var length in set.Fields)
            {
                var field = Writer.BeginNest(NfTablesType.ListElement);
                Writer.U32BigEndian(NfTablesType.FieldLength, (uint)length);
                Writer.EndNest(field);
            }
            Writer.EndNest(fields);
        }
        Writer.EndNest(nest);
    }

    /// <summary>What nft's listing needs to show a host-order key right, and the comment (libnftnl's user data of sets).</summary>
    private void SetUserData(NfSet set)
    {
        Span<byte> octets = stackalloc byte[256];
        var length = 0;
        if (set.HostByteOrderKey)
            length += UserData(octets, NfTablesType.SetKeyByteOrder, HostByteOrder);
        if (set.HostByteOrderData)
            length += UserData(octets[length..], NfTablesType.SetDataByteOrder, HostByteOrder);
        if (set.Comment is not null)
            length += UserDataText(octets[length..], NfTablesType.SetCommentUserData, set.Comment);
        if (length > 0)
            Writer.Attribute(NfTablesType.SetUserData, octets[..length]);
    }

    private void Comment(ushort attribute, byte type, string? comment)
    {
        if (comment is null)
            return;
        Span<byte> octets = stackalloc byte[256];
        Writer.Attribute(attribute, octets[..UserDataText(octets, type, comment)]);
    }

    private static int UserDataText(Span<byte> octets, byte type, string text)
    {
        // nft shows comments of at most 128 octets with the NUL.
        Span<byte> encoded = stackalloc byte[128];
        if (!Encoding.UTF8.TryGetBytes(text, encoded[..127], out var length))
            throw new ArgumentException($"nftables comment '{text}' has more than 127 octets");
        encoded[length] = 0;
        return UserData(octets, type, encoded[..(length + 1)]);
    }

    private static int UserData(Span<byte> octets, byte type, ReadOnlySpan<byte> value)
    {
        octets[0] = type;
        octets[1] = (byte)value.Length;
        value.CopyTo(octets[2..]);
        return 2 + value.Length;
    }
}
