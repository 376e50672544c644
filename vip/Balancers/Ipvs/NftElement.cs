namespace OverlayNet.Vip.Balancers.Ipvs;

/// <summary>One element of a set or map, as a value.</summary>
/// <param name="Key">Hexadecimal.</param>
/// <param name="Data">Hexadecimal; empty in a set.</param>
internal readonly record struct NftElement(string Set, string Key, string Data = "")
{
    internal static NftElement Of(string set, ReadOnlySpan<byte> key, ReadOnlySpan<byte> data = default) =>
        new(set, Convert.ToHexString(key), Convert.ToHexString(data));
}
