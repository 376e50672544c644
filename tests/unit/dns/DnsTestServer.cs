using System.Buffers.Binary;
using System.Diagnostics;
using System.Net;
using System.Net.Sockets;
using Microsoft.Extensions.Logging.Abstractions;
using OverlayNet.Dns;

namespace OverlayNet.UnitTests.Dns;

/// <summary>A server on a loopback port, with clients that speak the protocol byte by byte.</summary>
internal sealed class DnsTestServer : IDisposable
{
    /// <summary>How long an answer that must come may take on a busy machine, in milliseconds.</summary>
    public const int Patience = 60_000;

    public DnsTestServer(DnsConfig config, string? networkId = "n1", DnsServerOptions? options = null, TimeProvider? time = null, IPAddress? address = null)
    {
        Address = address ?? IPAddress.Loopback;
        Server = new DnsServer(options ?? new DnsServerOptions { ClientQueriesPerSecond = 0 }, NullLogger.Instance, time);
        Server.Apply(config);
        var (udp, tcp) = DnsSockets.Open(new IPEndPoint(Address, 0));
        Port = DnsSockets.GetPort(udp);
        Server.AddListener("test", networkId, udp, tcp, leaveOpen: false);
    }

    public DnsServer Server { get; }

    public IPAddress Address { get; }

    public int Port { get; }

    public Reply Ask(string name, RrType type, Action<QueryOptions>? configure = null)
    {
        var options = new QueryOptions();
        configure?.Invoke(options);
        return Exchange(TestQuery.Build(name, type, options));
    }

    public Reply Exchange(byte[] query) => Reply.Parse(TryExchange(query) ?? throw new TimeoutException("no answer"));

    public byte[]? TryExchange(byte[] query, int timeout = Patience, IPAddress? source = null)
    {
        using var socket = new Socket(Address.AddressFamily, SocketType.Dgram, ProtocolType.Udp) { ReceiveTimeout = timeout };
        if (source is not null)
            socket.Bind(new IPEndPoint(source, 0));
        socket.Connect(Address, Port);
        socket.Send(query);
        var buffer = new byte[65535];
        try
        {
            var length = socket.Receive(buffer);
            return buffer[..length];
        }
        catch (SocketException e) when (e.SocketErrorCode == SocketError.TimedOut)
        {
            return null;
        }
    }

    public List<Reply> ExchangeTcp(params byte[][] queries)
    {
        using var client = new TcpClient(Address.AddressFamily);
        client.Connect(Address, Port);
        client.ReceiveTimeout = Patience;
        var stream = client.GetStream();
        var all = new MemoryStream();
        var length = new byte[2];
        foreach (var query in queries)
        {
            BinaryPrimitives.WriteUInt16BigEndian(length, (ushort)query.Length);
            all.Write(length);
            all.Write(query);
        }

        stream.Write(all.ToArray());
        var replies = new List<Reply>();
        foreach (var _ in queries)
        {
            stream.ReadExactly(length);
            var reply = new byte[BinaryPrimitives.ReadUInt16BigEndian(length)];
            stream.ReadExactly(reply);
            replies.Add(Reply.Parse(reply));
        }

        return replies;
    }

    /// <summary>Output of dig, which must be installed (Debian: bind9-dnsutils).</summary>
    public string Dig(string arguments)
    {
        var start = new ProcessStartInfo("dig", $"@{Address} -p {Port} +tries=1 +time=60 {arguments}") { RedirectStandardOutput = true, RedirectStandardError = true };
        start.Environment["HOME"] = "/nonexistent"; // no ~/.digrc
        using var dig = Process.Start(start) ?? throw new InvalidOperationException("dig did not start; install bind9-dnsutils");
        var output = dig.StandardOutput.ReadToEnd();
        dig.WaitForExit();
        return output;
    }

    public void Dispose() => Server.Dispose();
}

internal sealed class QueryOptions
{
    public ushort Id { get; set; } = 0x1234;
    public bool Edns { get; set; }
    public int UdpSize { get; set; } = 1232;
    public bool DnssecOk { get; set; }
    public byte Version { get; set; }
    public byte Flags1 { get; set; } = 1;
    public byte Flags2 { get; set; }
    public ushort Class { get; set; } = 1;
    public List<(int Code, byte[] Data)> Options { get; } = [];
}

internal static class TestQuery
{
    public static byte[] Build(string name, RrType type, QueryOptions? options = null)
    {
        options ??= new QueryOptions();
        var writer = new MessageWriter();
        writer.U16(options.Id);
        writer.U8(options.Flags1);
        writer.U8(options.Flags2);
        writer.U16(1);
        writer.U16(0);
        writer.U16(0);
        writer.U16(options.Edns ? 1 : 0);
        writer.Bytes(Wire(name));
        writer.U16((int)type);
        writer.U16(options.Class);
        if (options.Edns)
        {
            writer.U8(0);
            writer.U16((int)RrType.OPT);
            writer.U16(options.UdpSize);
            writer.U8(0);
            writer.U8(options.Version);
            writer.U16(options.DnssecOk ? 0x8000 : 0);
            writer.U16(options.Options.Sum(o => 4 + o.Data.Length));
            foreach (var (code, data) in options.Options)
            {
                writer.U16(code);
                writer.U16(data.Length);
                writer.Bytes(data);
            }
        }

        return writer.Written.ToArray();
    }

    /// <summary>Keeps the letter case, unlike DnsName.</summary>
    public static byte[] Wire(string name)
    {
        var wire = new List<byte>();
        foreach (var label in name.TrimEnd('.').Split('.', StringSplitOptions.RemoveEmptyEntries))
        {
            wire.Add((byte)label.Length);
            wire.AddRange(label.Select(c => (byte)c));
        }

        wire.Add(0);
        return [.. wire];
    }
}

internal sealed record TestRecord(string Name, RrType Type, uint Ttl, string Data, byte[] Raw);

internal sealed record Reply(ushort Id, byte Flags1, byte Flags2, int Rcode, string Question, List<TestRecord> Answers, List<TestRecord> Authorities, List<TestRecord> Additionals, TestRecord? Opt, byte[] Raw)
{
    public bool Aa => (Flags1 & 4) != 0;

    public bool Tc => (Flags1 & 2) != 0;

    public IEnumerable<string> Data => Answers.Select(a => a.Data);

    /// <summary>EDNS option data.</summary>
    public byte[]? Option(int code)
    {
        var data = Opt?.Raw ?? [];
        for (var i = 0; i + 4 <= data.Length; i += 4 + ((data[i + 2] << 8) | data[i + 3]))
        {
            if (((data[i] << 8) | data[i + 1]) == code)
                return data.AsSpan(i + 4, (data[i + 2] << 8) | data[i + 3]).ToArray();
        }

        return null;
    }

    public static Reply Parse(byte[] raw)
    {
        var reader = new MessageReader(raw);
        Span<byte> name = stackalloc byte[256];
        var question = "";
        if (reader.Count(4) == 1)
        {
            Assert.True(reader.TryReadQuestion(name, out var length, out var type, out _), "question");
            question = DnsName.ToText(name[..length]) + " " + type;
        }

        var sections = new List<TestRecord>[3];
        TestRecord? opt = null;
        for (var s = 0; s < 3; s++)
        {
            sections[s] = [];
            for (var n = reader.Count(6 + s * 2); n > 0; n--)
            {
                Assert.True(reader.TryReadRecord(out var record), $"record of section {s}");
                var at = record.OwnerAt;
                reader.TryReadName(ref at, name, out var length);
                var test = new TestRecord(
                    DnsName.ToText(name[..length]), record.Type, record.Ttl, Text(reader, record), raw.AsSpan(record.DataAt, record.DataLength).ToArray());
                if (record.Type == RrType.OPT)
                    opt = test;
                else
                    sections[s].Add(test);
            }
        }

        Assert.Equal(raw.Length, reader.Position);
        var rcode = (raw[3] & 15) | (opt is null ? 0 : (int)(opt.Ttl >> 24) << 4);
        return new Reply(reader.Id, raw[2], raw[3], rcode, question, sections[0], sections[1], sections[2], opt, raw);
    }

    private static string Text(MessageReader reader, WireRecord record)
    {
        var data = reader.Message.Slice(record.DataAt, record.DataLength);
        Span<byte> name = stackalloc byte[256];
        switch (record.Type)
        {
            case RrType.A or RrType.AAAA:
                return new IPAddress(data).ToString();
            case RrType.PTR or RrType.CNAME or RrType.NS:
                var at = record.DataAt;
                Assert.True(reader.TryReadName(ref at, name, out var length));
                return DnsName.ToText(name[..length]);
            case RrType.SRV:
                var target = record.DataAt + 6;
                Assert.True(reader.TryReadName(ref target, name, out var size));
                return $"{(data[0] << 8) | data[1]} {(data[2] << 8) | data[3]} {(data[4] << 8) | data[5]} {DnsName.ToText(name[..size])}";
            case RrType.TXT:
                var strings = new List<string>();
                for (var i = 0; i < data.Length; i += data[i] + 1)
                    strings.Add(System.Text.Encoding.UTF8.GetString(data.Slice(i + 1, data[i])));
                return string.Join(' ', strings);
            default:
                return Convert.ToHexString(data);
        }
    }
}
