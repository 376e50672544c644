using System.Globalization;

namespace OverlayNet.Overlay;

/// <summary>Names of interfaces inside containers.</summary>
internal static class InterfaceName
{
    /// <summary>The wanted name, or the first with a higher number that is free: eth0, eth1...</summary>
    internal static string Free(string wanted, IReadOnlySet<string> taken)
    {
        if (!taken.Contains(wanted))
            return wanted;
        var stem = wanted.TrimEnd('0', '1', '2', '3', '4', '5', '6', '7', '8', '9');
        var number = int.TryParse(wanted[stem.Length..], NumberStyles.None, CultureInfo.InvariantCulture, out var parsed) ? parsed : 0;
        while (true)
        {
            var candidate = $"{stem}{++number}";
            if (!taken.Contains(candidate))
                return candidate;
        }
    }
}
