using System.Net;

namespace OverlayNet.Vip.Balancers.Nft;

/// <summary>From one version of an image to the next.</summary>
internal sealed class NftDelta
{
    private readonly HashSet<ServiceClass> classesAdded = [], classesRemoved = [];
    private readonly HashSet<int> turnsAdded = [], turnsRemoved = [];

    /// <summary>False for a first load, which is written from the image itself.</summary>
    internal bool Records { get; init; }

    internal Dictionary<NftKey, NftData> Removed { get; } = [];

    internal Dictionary<NftKey, NftData> Added { get; } = [];

    internal IReadOnlyCollection<ServiceClass> ClassesAdded => classesAdded;

    internal IReadOnlyCollection<ServiceClass> ClassesRemoved => classesRemoved;

    internal IReadOnlyCollection<int> TurnsAdded => turnsAdded;

    internal IReadOnlyCollection<int> TurnsRemoved => turnsRemoved;

    /// <summary>Base chains of the network's namespace changed: that namespace is compared as a whole.</summary>
    internal bool Structure { get; set; }

    internal List<IPAddress> LocalAdded { get; } = [];

    internal List<IPAddress> LocalRemoved { get; } = [];

    /// <summary>Servers that get no more new connections of a VIP.</summary>
    internal List<(IPAddress Vip, IPAddress Server, VipService Service)> Gone { get; } = [];

    /// <summary>Servers that get connections of a VIP again, or for the first time.</summary>
    internal List<(IPAddress Vip, IPAddress Server)> Back { get; } = [];

    internal bool IsEmpty => Removed.Count == 0 && Added.Count == 0 && !Structure && LocalAdded.Count == 0 && LocalRemoved.Count == 0
        && classesAdded.Count == 0 && classesRemoved.Count == 0 && Gone.Count == 0 && Back.Count == 0;

    internal void Remove(NftKey key, NftData data) => Removed[key] = data;

    internal void Add(NftKey key, NftData data) => Added[key] = data;

    internal void AddClass(ServiceClass service) => Toggle(classesAdded, classesRemoved, service);

    internal void RemoveClass(ServiceClass service) => Toggle(classesRemoved, classesAdded, service);

    internal void AddTurn(int buckets) => Toggle(turnsAdded, turnsRemoved, buckets);

    internal void RemoveTurn(int buckets) => Toggle(turnsRemoved, turnsAdded, buckets);

    /// <summary>Drops what is removed and added alike.</summary>
    internal void Settle()
    {
        foreach (var (key, data) in Removed)
        {
            if (Added.TryGetValue(key, out var next) && next == data)
            {
                Removed.Remove(key);
                Added.Remove(key);
            }
        }
    }

    private static void Toggle<T>(HashSet<T> into, HashSet<T> outOf, T item)
    {
        if (!outOf.Remove(item))
            into.Add(item);
    }
}
