using System.Diagnostics;
using System.Globalization;
using System.Net;
using System.Net.Sockets;
using System.Text;
using Microsoft.Extensions.Logging.Abstractions;
using OverlayNet.Dns;

namespace OverlayNet.ClusterTests.Dns;

/// <summary>
/// The same names in nsd's zone file and in our table, the same generated queries to both. Whatever differs must be in
/// the list of differences that are meant.
/// </summary>
public sealed class NsdDifferentialTests : IDisposable
{
    private const string Domain = "overlay.internal";
    private const int Queries = 100_000;

    private readonly string _directory = Directory.CreateTempSubdirectory("overlaynet-nsd-").FullName;
    private readonly DnsServer _server = new(new DnsServerOptions { ClientQueriesPerSecond = 0 }, NullLogger.Instance);
    private readonly int _ourPort;
    private readonly int _nsdPort;
    private readonly Process _nsd;

    public NsdDifferentialTests()
    {
        var config = Config();
        _server.Apply(config);
        var (udp, tcp) = DnsSockets.Open(new IPEndPoint(IPAddress.Loopback, 0));
        _ourPort = DnsSockets.GetPort(udp);
        _server.AddListener("test", null, udp, tcp, leaveOpen: false);
        _nsdPort = FreePort();
        _nsd = StartNsd(ZoneFile(config, _server.DumpTable()));
    }

    public void Dispose()
    {
        _server.Dispose();
        if (!_nsd.HasExited)
            _nsd.Kill(entireProcessTree: true);
        _nsd.WaitForExit();
        _nsd.Dispose();
        Directory.Delete(_directory, recursive: true);
    }

    [Fact]
    public void EveryDifferenceIsMeant()
    {
        var random = new Random(1);
        var names = Names();
        var unexplained = new List<string>();
        using var ours = Connect(_ourPort);
        using var nsd = Connect(_nsdPort);
        for (var i = 0; i < Queries && unexplained.Count < 10; i++)
        {
            var (name, type, query) = RandomQuery(random, names);
            var a = Reply.Parse(Exchange(ours, query));
            var b = Reply.Parse(Exchange(nsd, query));
            if (Difference(a, b, type) is { } difference)
                unexplained.Add($"{name} {type}: {difference}\n  ours {a}\n  nsd  {b}");
        }

        Assert.True(unexplained.Count == 0, string.Join('\n', unexplained));
    }

    /// <summary>Null: the same, or different on purpose.</summary>
    private static string? Difference(Reply ours, Reply nsd, RrType type)
    {
        if (ours.Rcode != nsd.Rcode)
            return "rcode";
        if (ours.Authoritative != nsd.Authoritative)
            return "AA";
        if (ours.HasOpt != nsd.HasOpt)
            return "OPT";

        // Meant: ANY is answered with one RRset (RFC 8482 §4.1); nsd sends them all, or none when they do not fit.
        if (type == RrType.ANY)
            return nsd.Truncated ? null : ours.Answers.Except(nsd.Answers, StringComparer.OrdinalIgnoreCase).Any() || (ours.Answers.Count == 0 && nsd.Answers.Count > 0) ? "ANY invents records" : null;

        // Meant: how much of a set that does not fit is sent along is up to the server (RFC 2181 §9). nsd gives up
        // additional data earlier or later, and its OPT record is smaller than what we reserve for options.
        if (ours.Truncated || nsd.Truncated)
            return Math.Abs(ours.Length - nsd.Length) < 600 ? null : "truncation";

        // Meant: a name in an answer that is compressed to the question has the question's letter case (RFC 4343 §3).
        if (!ours.Answers.Order(StringComparer.OrdinalIgnoreCase).SequenceEqual(nsd.Answers.Order(StringComparer.OrdinalIgnoreCase), StringComparer.OrdinalIgnoreCase))
            return "answers";

        // Meant: nsd adds the zone's NS records to positive answers and addresses to the additional section; only what
        // proves a negative answer is compared.
        if (ours.Answers.Count == 0 && ours.SoaOwner != nsd.SoaOwner)
            return "SOA";
        return null;
    }

    private static DnsConfig Config() => new()
    {
        Synced = true,
        Revision = 1,
        Networks = [Network("front", 1), Network("back", 2)],
        Nodes = [new("node-a", [IPAddress.Parse("192.0.2.1")]), new("node-b", [IPAddress.Parse("2001:db8::2")])],
        FixedAddresses = [IPAddress.Loopback],
    };

    private static DnsNetwork Network(string name, byte number) => new()
    {
        Id = name,
        Name = name,
        Services =
        [
            .. Enumerable.Range(0, 40).Select(i => new DnsService
            {
                Name = "svc" + i,
                Aliases = i % 5 == 0 ? ["alias" + i, "shared"] : [],
                Mode = i % 3 == 0 ? DnsServiceMode.RoundRobin : DnsServiceMode.Vip,
                SubsetLimit = 0,
                VipV4 = i % 7 == 0 ? null : new IPAddress([10, number, 0, (byte)i]),
                VipV6 = i % 4 == 0 ? IPAddress.Parse($"fd0{number}::{i + 1:x}") : null,
                Ports = i % 2 == 0 ? [new("http", "tcp", 8000 + i), new("metrics", "tcp", 9000)] : [],
                Endpoints =
                [
                    .. Enumerable.Range(0, i % 10 == 9 ? 60 : i % 4).Select(e => new DnsEndpoint
                    {
                        Id = $"{name}-{i}-{e}",
                        Name = $"ep{i}-{e}",
                        Addresses = [new IPAddress([10, number, (byte)(1 + i), (byte)e]), IPAddress.Parse($"fd0{number}::{i + 1:x}:{e:x}")],
                        State = (DnsEndpointState)(e % 4),
                    }),
                ],
            }),
        ],
    };

    /// <summary>The table as a zone, in both forms of full names.</summary>
    private static string ZoneFile(DnsConfig config, IReadOnlyList<DnsTableRecord> table)
    {
        var zone = new StringBuilder();
        var soa = "ns.overlay.internal. hostmaster.overlay.internal. 1 3600 600 86400 1";
        zone.Append(CultureInfo.InvariantCulture, $"{Domain}. 1 SOA {soa}\n{Domain}. 1 NS ns.{Domain}.\nns.{Domain}. 1 A 127.0.0.1\n");
        foreach (var record in table.Where(r => r.Type.Length > 0 && !r.Name.EndsWith(".arpa", StringComparison.Ordinal)))
        {
            foreach (var suffix in new[] { $"{record.Network}.dc1.{Domain}.", $"{record.Network}.{Domain}." })
                zone.Append(CultureInfo.InvariantCulture, $"{record.Name}.{suffix} {record.Ttl} {record.Type} {record.Data}\n");
        }

        // Names without records exist all the same. nsd has no other way to know than something below them.
        var withRecords = table.Where(r => r.Type.Length > 0).Select(r => (r.Network, r.Name)).ToHashSet();
        foreach (var empty in table.Where(r => r.Type.Length == 0 && !withRecords.Contains((r.Network, r.Name))))
        {
            foreach (var suffix in new[] { $"{empty.Network}.dc1.{Domain}.", $"{empty.Network}.{Domain}." })
                zone.Append(CultureInfo.InvariantCulture, $"exists-only-here.{empty.Name}.{suffix} 1 TYPE65280 \\# 0\n");
        }

        return zone.ToString();
    }

    private List<string> Names()
    {
        var names = new List<string> { Domain, "dc1." + Domain, "ns." + Domain, "front." + Domain, "front.dc1." + Domain, "node.dc1." + Domain };
        foreach (var (network, name) in _server.DumpTable().Select(r => (r.Network, r.Name)).Distinct())
        {
            if (name.EndsWith(".arpa", StringComparison.Ordinal))
                continue;
            names.Add($"{name}.{network}.dc1.{Domain}");
            names.Add($"{name}.{network}.{Domain}");
        }

        return names;
    }

    private static (string Name, RrType Type, byte[] Query) RandomQuery(Random random, List<string> names)
    {
        var name = names[random.Next(names.Count)];
        name = random.Next(10) switch
        {
            0 => "absent." + name,
            1 => string.Concat(name.Select(c => random.Next(2) == 0 ? char.ToUpperInvariant(c) : c)),
            2 when name.Contains('.', StringComparison.Ordinal) && name.Length > Domain.Length => name[(name.IndexOf('.', StringComparison.Ordinal) + 1)..],
            3 => "x" + name,
            _ => name,
        };
        if (!name.EndsWith("." + Domain, StringComparison.OrdinalIgnoreCase) && !name.Equals(Domain, StringComparison.OrdinalIgnoreCase))
            name = "x." + Domain;
        RrType[] types = [RrType.A, RrType.A, RrType.AAAA, RrType.SRV, RrType.TXT, RrType.MX, RrType.SOA, RrType.NS, RrType.ANY, RrType.CNAME, RrType.PTR, (RrType)1000];
        var type = types[random.Next(types.Length)];
        var edns = random.Next(2) == 0;
        var writer = new MessageWriter();
        writer.U16(random.Next(65536));
        writer.U16(random.Next(2) << 8);
        writer.U16(1);
        writer.U16(0);
        writer.U16(0);
        writer.U16(edns ? 1 : 0);
        foreach (var label in name.Split('.'))
        {
            writer.U8(label.Length);
            writer.Bytes(Encoding.ASCII.GetBytes(label));
        }

        writer.U8(0);
        writer.U16((int)type);
        writer.U16(1);
        if (edns)
        {
            writer.U8(0);
            writer.U16((int)RrType.OPT);
            writer.U16(1232);
            writer.U32(random.Next(2) == 0 ? 0x8000u : 0);
            writer.U16(0);
        }

        return (name, type, writer.Written.ToArray());
    }

    private Process StartNsd(string zone)
    {
        File.WriteAllText(Path.Combine(_directory, "zone"), zone);
        File.WriteAllText(
            Path.Combine(_directory, "nsd.conf"),
            $"""
            server:
              ip-address: 127.0.0.1@{_nsdPort}
              server-count: 1
              username: ""
              zonesdir: "{_directory}"
              database: ""
              zonelistfile: "{_directory}/list"
              pidfile: "{_directory}/pid"
              xfrdfile: "{_directory}/xfrd"
              rrl-ratelimit: 0
            remote-control:
              control-enable: no
            zone:
              name: {Domain}
              zonefile: zone

            """);
        var start = new ProcessStartInfo("/usr/sbin/nsd", ["-d", "-c", Path.Combine(_directory, "nsd.conf")]) { RedirectStandardError = true };
        Process process;
        try
        {
            process = Process.Start(start)!;
        }
        catch (System.ComponentModel.Win32Exception)
        {
            throw new InvalidOperationException("nsd is missing; install it with: apt-get install --no-install-recommends nsd");
        }

        var probe = RandomQuery(new Random(0), [Domain]).Query;
        using var socket = Connect(_nsdPort);
        socket.ReceiveTimeout = 100;
        for (var i = 0; i < 200 && !process.HasExited; i++)
        {
            try
            {
                Exchange(socket, probe);
                return process;
            }
            catch (SocketException)
            {
                Thread.Sleep(50);
            }
        }

        throw new InvalidOperationException("nsd does not answer: " + process.StandardError.ReadToEnd());
    }

    private static int FreePort()
    {
        // Free for UDP and TCP.
        var (udp, tcp) = DnsSockets.Open(new IPEndPoint(IPAddress.Loopback, 0));
        using (udp)
        using (tcp)
            return DnsSockets.GetPort(udp);
    }

    private static Socket Connect(int port)
    {
        var socket = new Socket(AddressFamily.InterNetwork, SocketType.Dgram, ProtocolType.Udp) { ReceiveTimeout = 5000 };
        socket.Connect(IPAddress.Loopback, port);
        return socket;
    }

    private static byte[] Exchange(Socket socket, byte[] query)
    {
        socket.Send(query);
        var buffer = new byte[65535];
        while (true)
        {
            var length = socket.Receive(buffer);
            if (buffer[0] == query[0] && buffer[1] == query[1])
                return buffer[..length];
        }
    }

    private sealed record Reply(int Rcode, bool Authoritative, bool Truncated, bool HasOpt, List<string> Answers, string SoaOwner, int Length)
    {
        public override string ToString() =>
            $"rcode {Rcode} aa {Authoritative} tc {Truncated} opt {HasOpt} soa '{SoaOwner}' {Length} octets: {string.Join(" | ", Answers.Take(8))}";

        public static Reply Parse(byte[] message)
        {
            var reader = new MessageReader(message);
            Span<byte> name = stackalloc byte[256];
            Assert.True(reader.TryReadQuestion(name, out _, out _, out _));
            var answers = new List<string>();
            var soa = "";
            var opt = false;
            for (var section = 0; section < 3; section++)
            {
                for (var n = reader.Count(6 + section * 2); n > 0; n--)
                {
                    Assert.True(reader.TryReadRecord(out var record));
                    var text = RecordText.Format(reader, record)!;
                    if (section == 0)
                        answers.Add($"{text.Name.ToLowerInvariant()} {text.Ttl} {text.Type} {text.Data}");
                    else if (section == 1 && record.Type == RrType.SOA)
                        soa = text.Name.ToLowerInvariant();
                    else if (record.Type == RrType.OPT)
                        opt = true;
                }
            }

            return new Reply(message[3] & 15, (message[2] & 4) != 0, (message[2] & 2) != 0, opt, answers, soa, message.Length);
        }
    }
}
