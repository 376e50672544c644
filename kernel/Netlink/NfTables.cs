namespace OverlayNet.Kernel.Netlink;

/// <summary>
/// nftables of one network namespace by raw nfnetlink: atomic batches and dumps (linux/netfilter/nf_tables.h). Not thread-safe.
/// </summary>
public sealed class NfTables(NetlinkSocket socket) : IDisposable
{
    private const int ERESTART = 85, CommitTries = 5;

    /// <summary>Opens the nftables of a namespace (null: the calling thread's).</summary>
    public static NfTables Open(NetworkNamespace? netns = null) => new(NetlinkSocket.Open(NetlinkProtocol.Netfilter, netns));

    /// <summary>The number of the namespace's rule set: it grows by one with every transaction of anybody.</summary>
    public uint Generation()
    {
        var writer = new NetlinkMessageWriter(stackalloc byte[64]);
        Begin(ref writer, NfTablesType.GetGeneration, NfFamily.Unspecified);
        return socket.Get(ref writer, static (in NetlinkMessage message) =>
        {
            foreach (var attribute in message.Attributes<NfHeader>())
            {
                if (attribute.Type == NfTablesType.GenerationId)
                    return attribute.U32BigEndian;
            }
            return 0u;
        }, "nftables generation");
    }

    /// <summary>Applies all changes of a batch, or none.</summary>
    /// <exception cref="NetlinkException">The first refusal: what was to be done to which object, and the kernel's text.</exception>
    public void Commit(ref NfTablesBatch batch)
    {
        if (!TryCommit(ref batch, 0))
            throw new NetlinkException("nftables transaction", ERESTART);
    }

    /// <summary>Applies all changes of a batch if the rule set is still that of a generation.</summary>
    /// <param name="generation">What <see cref="Generation"/> said before the look that the batch rests on; 0: any.</param>
    /// <returns>False when somebody else changed the rule set meanwhile: look again.</returns>
    /// <exception cref="NetlinkException">As <see cref="Commit"/>.</exception>
    public bool TryCommit(ref NfTablesBatch batch, uint generation)
    {
        if (batch.IsEmpty)
            return true;
        for (var attempt = 1; ; attempt++)
        {
            var errno = Send(ref batch, generation);
            switch (errno)
            {
                case 0:
                    return true;
                case ERESTART:
                    return false;
                default:
                    // EAGAIN: the kernel had to drop its locks (a module was loading, say) and applied nothing.
                    if (attempt == CommitTries)
                        throw new NetlinkException("nftables transaction", errno);
                    break;
            }
        }
    }

    /// <summary>The generation after a commit that was guarded by <paramref name="before"/>.</summary>
    public static uint NextGeneration(uint before) => before == uint.MaxValue ? 1 : before + 1;

    public List<NfTableInfo> Tables(NfFamily family = NfFamily.Unspecified)
    {
        var writer = new NetlinkMessageWriter(stackalloc byte[64]);
        Begin(ref writer, NfTablesType.GetTable, family);
        return socket.Dump(ref writer, NfTablesParser.Table, "list nftables tables");
    }

    public List<NfChainInfo> Chains(NfTable table)
    {
        var writer = new NetlinkMessageWriter(stackalloc byte[64]);
        Begin(ref writer, NfTablesType.GetChain, table.Family);
        // Kernels before 6.10 ignore a table given here and list every chain of the family.
        return [.. socket.Dump(ref writer, NfTablesParser.Chain, $"list chains of {table}").Where(chain => chain.Table == table)];
    }

    /// <param name="chain">Null: of all chains.</param>
    public List<NfRuleInfo> Rules(NfTable table, string? chain = null)
    {
        var writer = new NetlinkMessageWriter(stackalloc byte[640]);
        Begin(ref writer, NfTablesType.GetRule, table.Family);
        writer.String(NfTablesType.RuleTable, table.Name);
        if (chain is not null)
            writer.String(NfTablesType.RuleChain, chain);
        return socket.Dump(ref writer, NfTablesParser.Rule, $"list rules of {table}");
    }

    public List<NfSetInfo> Sets(NfTable table)
    {
        var writer = new NetlinkMessageWriter(stackalloc byte[320]);
        Begin(ref writer, NfTablesType.GetSet, table.Family);
        writer.String(NfTablesType.SetTable, table.Name);
        return socket.Dump(ref writer, NfTablesParser.Set, $"list sets of {table}");
    }

    public List<NfElementInfo> Elements(NfTable table, string set)
    {
        var writer = new NetlinkMessageWriter(stackalloc byte[640]);
        Begin(ref writer, NfTablesType.GetElement, table.Family);
        writer.String(NfTablesType.ElementsTable, table.Name);
        writer.String(NfTablesType.ElementsSet, set);
        var lists = socket.Dump(ref writer, NfTablesParser.Elements, $"list elements of set {set} of {table}");
        return lists.Count == 1 ? lists[0] : [.. lists.SelectMany(list => list)];
    }

    public void Dispose() => socket.Dispose();

    private int Send(ref NfTablesBatch batch, uint generation)
    {
        batch.Seal(generation);
        // The description of a refused message is made only when there is one; a ref struct cannot be captured for that.
        var refused = -1;
        try
        {
            socket.Transaction(ref batch.Writer, index =>
            {
                refused = index;
                return "";
            });
            return 0;
        }
        catch (NetlinkException e) when (e.Errno == Libc.EAGAIN || e.Errno == ERESTART && refused == 0)
        {
            return e.Errno;
        }
        catch (NetlinkException e)
        {
            throw new NetlinkException(batch.Describe(refused), e.Errno, e.Detail);
        }
    }

    private static void Begin(ref NetlinkMessageWriter writer, byte type, NfFamily family)
    {
        writer.Begin((ushort)(NfTablesType.Subsystem | type), NetlinkFlags.Request);
        writer.Struct(new NfHeader(family, 0, 0));
    }
}
