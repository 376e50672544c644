namespace OverlayNet.Daemon.Registry;

/// <summary>The kinds of objects in the registry: the words of <c>RegistryChange.DeletedKind</c> and the first part of a key.</summary>
public static class Kinds
{
    public const string Node = "node";
    public const string Network = "network";
    public const string Service = "service";
    public const string Endpoint = "endpoint";

    /// <summary>A floating VIP.</summary>
    public const string Vip = "vip";

    /// <summary>Who holds a set of floating VIPs; its id is the set's.</summary>
    public const string VipHolder = "vip-holder";
}
