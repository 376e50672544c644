namespace OverlayNet.Kernel.Netlink;

/// <summary>A generic netlink family as this kernel knows it.</summary>
/// <param name="Id">The message type to send to.</param>
public sealed record GenericFamily(ushort Id, byte Version, IReadOnlyDictionary<string, uint> Groups);

/// <summary>struct genlmsghdr (linux/genetlink.h).</summary>
public readonly record struct GenericHeader(byte Command, byte Version, ushort Reserved = 0);

/// <summary>Finds generic netlink families by name (linux/genetlink.h: the controller).</summary>
public static class GenericNetlink
{
    private const ushort ControllerId = 16;
    private const byte CommandGetFamily = 3;
    private const ushort AttrFamilyId = 1, AttrFamilyName = 2, AttrVersion = 3, AttrMulticastGroups = 7;
    private const ushort GroupName = 1, GroupId = 2;

    /// <returns>The family, or null when this kernel does not have it.</returns>
    /// <exception cref="NetlinkException">Any other refusal.</exception>
    public static GenericFamily? Resolve(NetlinkSocket socket, string name)
    {
        var writer = new NetlinkMessageWriter(stackalloc byte[128]);
        writer.Begin(ControllerId, NetlinkFlags.Request);
        writer.Struct(new GenericHeader(CommandGetFamily, 1));
        writer.String(AttrFamilyName, name);
        try
        {
            return socket.Get(ref writer, Parse, $"generic netlink family {name}");
        }
        catch (NetlinkException e) when (e.NotFound)
        {
            return null;
        }
    }

    private static GenericFamily Parse(in NetlinkMessage message)
    {
        ushort id = 0;
        byte version = 1;
        var groups = new Dictionary<string, uint>();
        foreach (var attribute in message.Attributes<GenericHeader>())
        {
            switch (attribute.Type)
            {
                case AttrFamilyId:
                    id = attribute.U16;
                    break;
                case AttrVersion:
                    version = (byte)attribute.U32;
                    break;
                case AttrMulticastGroups:
                    foreach (var entry in attribute.Nested)
                    {
                        string? name = null;
                        uint group = 0;
                        foreach (var field in entry.Nested)
                        {
                            if (field.Type == GroupName)
                                name = field.String;
                            else if (field.Type == GroupId)
                                group = field.U32;
                        }
                        if (name is not null)
                            groups[name] = group;
                    }
                    break;
            }
        }
        return new GenericFamily(id, version, groups);
    }
}
