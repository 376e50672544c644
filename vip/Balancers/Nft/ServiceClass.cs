using System.Globalization;

namespace OverlayNet.Vip.Balancers.Nft;

/// <summary>
/// What decides how a connection to a VIP is balanced, apart from the addresses: services of one class share a chain. The class is a number
/// that the services map gives for a VIP, so that adding a service never makes the kernel check chains again.
/// </summary>
/// <param name="Buckets">0: refuse at once.</param>
/// <param name="Ported">Only listed ports are served, the others refused; else every port goes to the same port of a server.</param>
/// <param name="Hashed">The client's address chooses the bucket; else turns.</param>
/// <param name="AffinitySeconds">0: none.</param>
internal readonly record struct ServiceClass(int Buckets, bool Ported, bool Hashed, int AffinitySeconds)
{
    private const int BucketBits = 14, MostAffinity = 65535;
    private const uint PortedBit = 1 << BucketBits, HashedBit = 1 << BucketBits + 1;
    private const int AffinityShift = BucketBits + 2;

    internal static readonly ServiceClass Refuse = new(0, false, false, 0);

    internal uint Id => (uint)Buckets | (Ported ? PortedBit : 0) | (Hashed ? HashedBit : 0) | (uint)Math.Min(AffinitySeconds, MostAffinity) << AffinityShift;

    internal string Chain => Buckets == 0 ? "refuse" : string.Create(CultureInfo.InvariantCulture,
        $"{(Ported ? "port" : "any")}-{(Hashed ? "hash" : "turn")}-{Buckets}{(AffinitySeconds > 0 ? $"-sticky-{Math.Min(AffinitySeconds, MostAffinity)}" : "")}");

    /// <summary>The chain that counts turns for this number of buckets; null when none is needed.</summary>
    internal string? TurnChain => Buckets > 1 && !Hashed ? TurnChainOf(Buckets) : null;

    internal static string TurnChainOf(int buckets) => string.Create(CultureInfo.InvariantCulture, $"turn-{buckets}");

    internal static ServiceClass FromId(uint id) =>
        new((int)(id & PortedBit - 1), (id & PortedBit) != 0, (id & HashedBit) != 0, (int)(id >> AffinityShift));
}
