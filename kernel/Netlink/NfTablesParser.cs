using System.Text;

namespace OverlayNet.Kernel.Netlink;

/// <summary>From the kernel's dump messages to records.</summary>
internal static class NfTablesParser
{
    internal static NfTableInfo Table(in NetlinkMessage message)
    {
        string name = "";
        string? comment = null;
        ulong handle = 0;
        uint flags = 0, use = 0;
        foreach (var attribute in message.Attributes<NfHeader>())
        {
            switch (attribute.Type)
            {
                case NfTablesType.TableName:
                    name = attribute.String;
                    break;
                case NfTablesType.TableFlags:
                    flags = attribute.U32BigEndian;
                    break;
                case NfTablesType.TableUse:
                    use = attribute.U32BigEndian;
                    break;
                case NfTablesType.TableHandle:
                    handle = attribute.U64BigEndian;
                    break;
                case NfTablesType.TableUserData:
                    comment = Comment(attribute.Payload, NfTablesType.CommentUserData);
                    break;
            }
        }
        return new NfTableInfo(new NfTable(message.Header<NfHeader>().Family, name), handle, flags, use, comment);
    }

    internal static NfChainInfo Chain(in NetlinkMessage message)
    {
        string table = "", name = "", type = "filter";
        string? comment = null;
        ulong handle = 0;
        uint use = 0;
        var policy = NfVerdictCode.Accept;
        NfHook? hook = null;
        var priority = 0;
        List<string> devices = [];
        foreach (var attribute in message.Attributes<NfHeader>())
        {
            switch (attribute.Type)
            {
                case NfTablesType.ChainTable:
                    table = attribute.String;
                    break;
                case NfTablesType.ChainName:
                    name = attribute.String;
                    break;
                case NfTablesType.ChainHandle:
                    handle = attribute.U64BigEndian;
                    break;
                case NfTablesType.ChainUse:
                    use = attribute.U32BigEndian;
                    break;
                case NfTablesType.ChainKind:
                    type = attribute.String;
                    break;
                case NfTablesType.ChainPolicy:
                    policy = (NfVerdictCode)attribute.U32BigEndian;
                    break;
                case NfTablesType.ChainUserData:
                    comment = Comment(attribute.Payload, NfTablesType.CommentUserData);
                    break;
                case NfTablesType.ChainHook:
                    foreach (var field in attribute.Nested)
                    {
                        if (field.Type == NfTablesType.HookNumber)
                            hook = (NfHook)field.U32BigEndian;
                        else if (field.Type == NfTablesType.HookPriority)
                            priority = (int)field.U32BigEndian;
                        else if (field.Type == NfTablesType.HookDevices)
                            Devices(field.Nested, devices);
                    }
                    break;
            }
        }
        return new NfChainInfo(new NfTable(message.Header<NfHeader>().Family, table),
            new NfChain(name) { Hook = hook, Type = type, Priority = priority, Policy = policy, Devices = devices, Comment = comment }, handle, use);
    }

    internal static NfRuleInfo Rule(in NetlinkMessage message)
    {
        string table = "", chain = "";
        string? comment = null;
        ulong handle = 0;
        byte[] expressions = [];
        foreach (var attribute in message.Attributes<NfHeader>())
        {
            switch (attribute.Type)
            {
                case NfTablesType.RuleTable:
                    table = attribute.String;
                    break;
                case NfTablesType.RuleChain:
                    chain = attribute.String;
                    break;
                case NfTablesType.RuleHandle:
                    handle = attribute.U64BigEndian;
                    break;
                case NfTablesType.RuleExpressions:
                    expressions = attribute.Payload.ToArray();
                    break;
                case NfTablesType.RuleUserData:
                    comment = Comment(attribute.Payload, NfTablesType.CommentUserData);
                    break;
            }
        }
        return new NfRuleInfo(new NfTable(message.Header<NfHeader>().Family, table), chain, handle, comment, expressions);
    }

    internal static NfSetInfo Set(in NetlinkMessage message)
    {
        string table = "", name = "";
        string? comment = null;
        ulong handle = 0;
        uint keyType = 0, dataType = 0;
        int keyLength = 0, dataLength = 0, size = 0;
        var flags = NfSetFlags.None;
        var timeout = TimeSpan.Zero;
        bool hostOrderKey = false, hostOrderData = false;
        List<int> fields = [];
        foreach (var attribute in message.Attributes<NfHeader>())
        {
            switch (attribute.Type)
            {
                case NfTablesType.SetTable:
                    table = attribute.String;
                    break;
                case NfTablesType.SetName:
                    name = attribute.String;
                    break;
                case NfTablesType.SetHandle:
                    handle = attribute.U64BigEndian;
                    break;
                case NfTablesType.SetFlags:
                    flags = (NfSetFlags)attribute.U32BigEndian;
                    break;
                case NfTablesType.SetKeyType:
                    keyType = attribute.U32BigEndian;
                    break;
                case NfTablesType.SetKeyLength:
                    keyLength = (int)attribute.U32BigEndian;
                    break;
                case NfTablesType.SetDataType:
                    dataType = attribute.U32BigEndian is var type && type == NfTablesType.VerdictDataType ? NfType.Verdict : type;
                    break;
                case NfTablesType.SetDataLength:
                    dataLength = (int)attribute.U32BigEndian;
                    break;
                case NfTablesType.SetTimeout:
                    timeout = Milliseconds(attribute.U64BigEndian);
                    break;
                case NfTablesType.SetDescription:
                    foreach (var field in attribute.Nested)
                    {
                        if (field.Type == NfTablesType.DescriptionSize)
                            size = (int)field.U32BigEndian;
                        else if (field.Type == NfTablesType.DescriptionConcatenation)
                            Fields(field.Nested, fields);
                    }
                    break;
                case NfTablesType.SetUserData:
                    comment = Comment(attribute.Payload, NfTablesType.SetCommentUserData);
                    hostOrderKey = IsHostByteOrder(Find(attribute.Payload, NfTablesType.SetKeyByteOrder));
                    hostOrderData = IsHostByteOrder(Find(attribute.Payload, NfTablesType.SetDataByteOrder));
                    break;
            }
        }
        var set = new NfSet(name)
        {
            KeyType = keyType,
            KeyLength = keyLength,
            Flags = flags,
            DataType = dataType,
            DataLength = dataType == NfType.Verdict ? 0 : dataLength,
            Fields = fields,
            Size = size,
            Timeout = timeout,
            HostByteOrderKey = hostOrderKey,
            HostByteOrderData = hostOrderData,
            Comment = comment,
        };
        return new NfSetInfo(new NfTable(message.Header<NfHeader>().Family, table), set, handle);
    }

    internal static List<NfElementInfo> Elements(in NetlinkMessage message)
    {
        var elements = new List<NfElementInfo>();
        foreach (var attribute in message.Attributes<NfHeader>())
        {
            if (attribute.Type != NfTablesType.ElementsList)
                continue;
            foreach (var element in attribute.Nested)
                elements.Add(Element(element.Nested));
        }
        return elements;
    }

    private static NfElementInfo Element(NetlinkAttributes attributes)
    {
        byte[] key = [];
        byte[]? keyEnd = null, data = null;
        NfVerdict? verdict = null;
        var flags = NfElementFlags.None;
        TimeSpan? expires = null;
        foreach (var attribute in attributes)
        {
            switch (attribute.Type)
            {
                case NfTablesType.ElementKey:
                    key = Data(attribute.Nested).Value ?? [];
                    break;
                case NfTablesType.ElementKeyEnd:
                    keyEnd = Data(attribute.Nested).Value;
                    break;
                case NfTablesType.ElementData:
                    (data, verdict) = Data(attribute.Nested);
                    break;
                case NfTablesType.ElementFlags:
                    flags = (NfElementFlags)attribute.U32BigEndian;
                    break;
                case NfTablesType.ElementExpiration:
                    expires = Milliseconds(attribute.U64BigEndian);
                    break;
            }
        }
        return new NfElementInfo(key, keyEnd, data, verdict, flags, expires);
    }

    private static (byte[]? Value, NfVerdict? Verdict) Data(NetlinkAttributes attributes)
    {
        foreach (var attribute in attributes)
        {
            if (attribute.Type == NfTablesType.DataValue)
                return (attribute.Payload.ToArray(), null);
            if (attribute.Type == NfTablesType.DataVerdict)
                return (null, Verdict(attribute.Nested));
        }
        return (null, null);
    }

    private static NfVerdict Verdict(NetlinkAttributes attributes)
    {
        var code = NfVerdictCode.Drop;
        string? chain = null;
        foreach (var attribute in attributes)
        {
            if (attribute.Type == NfTablesType.VerdictCode)
                code = (NfVerdictCode)(int)attribute.U32BigEndian;
            else if (attribute.Type == NfTablesType.VerdictChain)
                chain = attribute.String;
        }
        return new NfVerdict(code, chain);
    }

    private static void Devices(NetlinkAttributes attributes, List<string> devices)
    {
        foreach (var attribute in attributes)
            devices.Add(attribute.String);
    }

    private static void Fields(NetlinkAttributes attributes, List<int> fields)
    {
        foreach (var attribute in attributes)
        {
            foreach (var field in attribute.Nested)
                fields.Add((int)field.U32BigEndian);
        }
    }

    private static string? Comment(ReadOnlySpan<byte> userData, byte type)
    {
        var value = Find(userData, type);
        return value is null ? null : Encoding.UTF8.GetString(value).TrimEnd('\0');
    }

    private static TimeSpan Milliseconds(ulong value) =>
        value < (ulong)TimeSpan.MaxValue.TotalMilliseconds ? TimeSpan.FromMilliseconds(value) : TimeSpan.MaxValue;

    private static bool IsHostByteOrder(byte[]? value) => value is { Length: sizeof(int) } && BitConverter.ToInt32(value) == 1;

    private static byte[]? Find(ReadOnlySpan<byte> userData, byte type)
    {
        while (userData.Length >= 2 && userData.Length >= 2 + userData[1])
        {
            if (userData[0] == type)
                return userData.Slice(2, userData[1]).ToArray();
            userData = userData[(2 + userData[1])..];
        }
        return null;
    }
}
