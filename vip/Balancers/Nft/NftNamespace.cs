using OverlayNet.Kernel;
using OverlayNet.Kernel.Netlink;

namespace OverlayNet.Vip.Balancers.Nft;

/// <summary>What a look at one namespace led to.</summary>
/// <param name="Updated">Tables in which only what changed between two versions was written.</param>
/// <param name="Adopted">The namespace held tables of ours before this process first saw it.</param>
/// <param name="Written">Messages committed (or, when only looking, that would be).</param>
internal sealed record SyncResult(IReadOnlyList<NftImage> Updated, bool Adopted, int Written, IReadOnlyList<(NftImage? Image, string What, bool Mended)> Changes);

/// <summary>
/// The nft writer's memory of one namespace: which version of which table it holds, and the generation of its rule set after our last
/// change. While the generation is the same nobody has touched it and nothing need be read.
/// </summary>
internal sealed class NftNamespace(string path, bool isNetwork, BackgroundCloser closer)
{
    private const int Tries = 10;
    private readonly LingeringSocket socket = new(closer);
    private Dictionary<NfTable, (NftImage Image, long Version, ulong Handle)> held = [];
    private uint generation;
    private bool known;

    internal string Path { get; } = path;

    internal bool IsNetwork { get; } = isNetwork;

    internal NetworkNamespace Open() => IsNetwork ? NamedNamespaces.OpenPinned(Path) : NetworkNamespace.Open(Path);

    /// <summary>Makes the namespace hold exactly these tables of ours; with <paramref name="observe"/> only says what that would take.</summary>
    /// <exception cref="KernelException">The namespace is gone, or the kernel refused.</exception>
    internal SyncResult Sync(IReadOnlyList<NftImage> images, bool observe)
    {
        using var netns = Open();
        return socket.Use(netns, nft => Sync(nft, images, observe));
    }

    private SyncResult Sync(NfTables nft, IReadOnlyList<NftImage> images, bool observe)
    {
        for (var attempt = 1; ; attempt++)
        {
            var now = nft.Generation();
            var tables = nft.Tables().Where(IsOurs).ToDictionary(table => table.Table, table => table.Handle);
            var batch = new NfTablesBatch();
            try
            {
                var result = Plan(nft, ref batch, images, tables, untouched: known && now == generation);
                if (observe)
                    return result;
                if (!nft.TryCommit(ref batch, now))
                {
                    if (attempt == Tries)
                        throw new KernelException($"nftables of {Path}", 11, "somebody else keeps changing the rule set");
                    continue;
                }
                if (result.Written > 0)
                    tables = nft.Tables().Where(IsOurs).ToDictionary(table => table.Table, table => table.Handle);
                generation = result.Written > 0 ? NfTables.NextGeneration(now) : now;
                held = images.Where(image => tables.ContainsKey(image.Schema.Table))
                    .ToDictionary(image => image.Schema.Table, image => (image, image.Version, tables[image.Schema.Table]));
                known = true;
                return result;
            }
            finally
            {
                batch.Dispose();
            }
        }
    }

    private static bool IsOurs(NfTableInfo table) =>
        table.Table.Name.StartsWith(NftSchema.Prefix, StringComparison.Ordinal) && table.Table.Family is NfFamily.IPv4 or NfFamily.IPv6;

    private SyncResult Plan(NfTables nft, ref NfTablesBatch batch, IReadOnlyList<NftImage> images, Dictionary<NfTable, ulong> tables, bool untouched)
    {
        var changes = new List<(NftImage?, string, bool)>();
        var updated = new List<NftImage>();
        foreach (var table in tables.Keys.Where(table => !images.Any(image => image.Schema.Table == table)))
        {
            batch.DeleteTable(table);
            changes.Add((null, $"{table} removed", false));
        }
        foreach (var image in images)
        {
            var table = image.Schema.Table;
            var exists = tables.TryGetValue(table, out var handle);
            var before = batch.Count;
            if (!exists)
            {
                NftTableWriter.Load(ref batch, image, IsNetwork);
                changes.Add((image, $"{table} loaded with {image.Services.Count} services", held.ContainsKey(table)));
            }
            else if (untouched && held.TryGetValue(table, out var known) && known.Image == image && known.Handle == handle
                && (known.Version == image.Version || known.Version == image.Version - 1 && image.Delta is { } && !(image.Delta.Structure && IsNetwork)))
            {
                if (known.Version != image.Version)
                    NftTableWriter.Write(ref batch, image, image.Delta!, IsNetwork);
                if (batch.Count > before)
                    updated.Add(image);
            }
            else
            {
                var what = NftTableWriter.Compare(ref batch, nft, image, IsNetwork);
                if (batch.Count > before)
                    changes.Add((image, $"{table}: {what}", this.known && held.TryGetValue(table, out var last) && last.Version == image.Version));
            }
        }
        return new SyncResult(updated, !known && tables.Count > 0, batch.Count, changes);
    }
}
