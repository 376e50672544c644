using System.Net;
using System.Net.Sockets;
using FsCheck;
using FsCheck.Fluent;
using OverlayNet.Kernel.Netlink;

namespace OverlayNet.UnitTests.Kernel.IpvsFamily;

public sealed class IpvsTests
{
    private static readonly IPAddress Vip4 = IPAddress.Parse("10.96.0.10"), Vip6 = IPAddress.Parse("fd00:96::10");

    [Fact]
    public void A_kernel_without_ipvs_is_null()
    {
        // The controller's refusal, as a kernel without the family sends it (-ENOENT).
        var transport = new RecordedTransport("""
            >20000000100005006d0700000000000003010000090002004950565300000000
            <24000000020000016d0700003f000000feffffff20000000100005006d07000000000000
            """);
        using var socket = new NetlinkSocket(transport);
        Assert.Null(IpvsTable.TryOpen(socket));
    }

    [Fact]
    public void Info() => Recorded(Recordings.Info, ipvs =>
    {
        Assert.Equal(new Version(1, 2, 1), ipvs.Info().Version);
    });

    [Fact]
    public void Timeouts_of_zero_are_left_alone() => Recorded(Recordings.Timeouts, ipvs =>
    {
        ipvs.SetTimeouts(new IpvsTimeouts(TimeSpan.FromSeconds(700), TimeSpan.FromSeconds(60), TimeSpan.FromSeconds(30)));
        ipvs.SetTimeouts(new IpvsTimeouts(TimeSpan.Zero, TimeSpan.FromSeconds(15), TimeSpan.Zero));
        Assert.Equal(new IpvsTimeouts(TimeSpan.FromSeconds(700), TimeSpan.FromSeconds(15), TimeSpan.FromSeconds(30)), ipvs.Timeouts());
    });

    [Fact]
    public void Reads_what_ipvsadm_wrote() => Recorded(Recordings.WrittenByIpvsadm, ipvs =>
    {
        var services = ipvs.Services().Select(state => state.Service).ToDictionary(service => service.Key);
        Assert.Equal(3, services.Count);
        var web = services[IpvsServiceKey.Of(6, Vip4, 80)];
        Assert.Equal(
            new IpvsService { Key = web.Key, Scheduler = "sed", Flags = IpvsServiceFlags.Persistent, PersistenceSeconds = 120, PersistencePrefix = 16 }, web);
        Assert.Equal(
            Server("10.1.0.1", 8080, 5) with { Forwarding = IpvsForwarding.Masquerade, UpperThreshold = 9, LowerThreshold = 4 },
            Assert.Single(ipvs.Destinations(web.Key)).Destination);
        Assert.Equal(
            Server("fd00:1::9", 53, 7) with { Forwarding = IpvsForwarding.Tunnel, TunnelType = IpvsTunnel.Gue, TunnelPort = 6080 },
            Assert.Single(ipvs.Destinations(IpvsServiceKey.Of(17, Vip6, 53))).Destination);
        Assert.Equal(Server("10.1.0.4", 0, 4), Assert.Single(ipvs.Destinations(IpvsServiceKey.OfMark(AddressFamily.InterNetwork, 5))).Destination);
    });

    [Fact]
    public void Writes_one_of_everything_in_one_datagram() => Recorded(Recordings.OneOfEverything, ipvs =>
    {
        var web = IpvsServiceKey.Of(6, Vip4, 80);
        var dns = IpvsServiceKey.Of(17, Vip4, 53);
        var web6 = IpvsServiceKey.Of(6, Vip6, 443);
        var mark = IpvsServiceKey.OfMark(AddressFamily.InterNetwork, 77);
        var mark6 = IpvsServiceKey.OfMark(AddressFamily.InterNetworkV6, 78);
        var results = ipvs.Batch(
        [
            IpvsChange.Add(new IpvsService { Key = web, Scheduler = "wrr", Flags = IpvsServiceFlags.Persistent, PersistenceSeconds = 300 }),
            IpvsChange.Add(web, Server("10.1.0.1", 80, 3)),
            IpvsChange.Add(web, Server("10.1.0.2", 80, 0)),
            IpvsChange.Add(new IpvsService { Key = dns, Scheduler = "rr", Flags = IpvsServiceFlags.OnePacket }),
            IpvsChange.Add(dns, Server("10.1.0.1", 53, 1) with { Forwarding = IpvsForwarding.Masquerade, UpperThreshold = 100, LowerThreshold = 50 }),
            IpvsChange.Add(new IpvsService { Key = web6, Scheduler = "mh", Flags = IpvsServiceFlags.SchedulerFallback | IpvsServiceFlags.SchedulerPort }),
            IpvsChange.Add(web6, Server("fd00:1::1", 443, 65535)),
            IpvsChange.Add(new IpvsService
            {
                Key = mark, Scheduler = "wlc", Flags = IpvsServiceFlags.Persistent, PersistenceSeconds = 60, PersistencePrefix = 24,
            }),
            IpvsChange.Add(mark, Server("10.1.0.3", 0, 2) with { Forwarding = IpvsForwarding.Tunnel }),
            IpvsChange.Add(new IpvsService
            {
                Key = mark6, Scheduler = "sh", Flags = IpvsServiceFlags.Persistent, PersistenceSeconds = 90, PersistencePrefix = 64,
            }),
            IpvsChange.Add(mark6, Server("fd00:1::2", 0, 1)),
        ]);
        Assert.All(results, result => Assert.True(result.Ok));
    });

    [Fact]
    public void A_batch_gives_each_change_its_result() => Recorded(Recordings.PartlyRefused, ipvs =>
    {
        var key = IpvsServiceKey.Of(6, Vip4, 80);
        var results = ipvs.Batch(
        [
            IpvsChange.Add(new IpvsService { Key = key, Scheduler = "rr" }),
            IpvsChange.Add(new IpvsService { Key = key, Scheduler = "rr" }),
            IpvsChange.Add(IpvsServiceKey.Of(6, Vip4, 81), Server("10.1.0.1", 81, 1)),
            IpvsChange.Add(key, Server("10.1.0.1", 80, 1)),
        ]);
        Assert.Equal([0, 17, 3, 0], results.Select(result => result.Errno));
    });

    [Fact]
    public void An_empty_batch_asks_nothing() => Recorded("", ipvs => Assert.Empty(ipvs.Batch([])));

    [Fact]
    public void A_refusal_names_the_object() => Recorded(Recordings.UnknownScheduler, ipvs =>
    {
        var refusal = Assert.Throws<NetlinkException>(() =>
            ipvs.Apply(IpvsChange.Add(new IpvsService { Key = IpvsServiceKey.Of(6, Vip4, 80), Scheduler = "nosuch" })));
        Assert.Contains("add virtual service tcp 10.96.0.10:80", refusal.Message);
        Assert.True(refusal.NotFound);
    });

    [Fact]
    public void Keys_print_as_people_write_them()
    {
        Assert.Equal("tcp 10.96.0.10:80", IpvsServiceKey.Of(6, Vip4, 80).ToString());
        Assert.Equal("udp [fd00:96::10]:53", IpvsServiceKey.Of(17, Vip6, 53).ToString());
        Assert.Equal("fwmark 7 v6", IpvsServiceKey.OfMark(AddressFamily.InterNetworkV6, 7).ToString());
        Assert.Throws<ArgumentOutOfRangeException>(() => IpvsServiceKey.OfMark(AddressFamily.InterNetwork, 0));
    }

    /// <summary>What a change says comes back the same when the kernel's answer carries the same attributes.</summary>
    [Fact]
    public void Services_and_destinations_survive_the_wire() => Prop.ForAll(
        ArbMap.Default.ArbFor<(uint, ushort, ushort, bool, bool)>(), sample =>
        {
            var (bits, port, weight, six, persistent) = sample;
            var octets = new byte[six ? 16 : 4];
            BitConverter.TryWriteBytes(octets, bits);
            var service = new IpvsService
            {
                Key = port % 3 == 0
                    ? IpvsServiceKey.OfMark(six ? AddressFamily.InterNetworkV6 : AddressFamily.InterNetwork, bits | 1)
                    : IpvsServiceKey.Of(port % 3 == 1 ? (byte)6 : (byte)17, new IPAddress(octets), port),
                Scheduler = "wrr",
                Flags = persistent ? IpvsServiceFlags.Persistent : IpvsServiceFlags.None,
                PersistenceSeconds = persistent ? weight + 1 : 0,
                PersistencePrefix = persistent && weight % 2 == 0 ? weight % (six ? 128 : 32) + (six && weight % 128 == 0 ? 1 : 0) : null,
            };
            var destination = new IpvsDestination
            {
                Address = new IPAddress(octets),
                Port = port,
                Weight = weight,
                UpperThreshold = bits,
                LowerThreshold = bits / 2,
                Forwarding = (bits % 3) switch { 0 => IpvsForwarding.Masquerade, 1 => IpvsForwarding.Tunnel, _ => IpvsForwarding.DirectRouting },
                TunnelType = bits % 3 == 1 ? IpvsTunnel.Gue : IpvsTunnel.IpIp,
                TunnelPort = bits % 3 == 1 ? weight : (ushort)0,
            };
            var writer = new NetlinkMessageWriter(stackalloc byte[512]);
            IpvsMessages.Write(ref writer, 23, IpvsChange.Add(service));
            IpvsMessages.Write(ref writer, 23, IpvsChange.Add(service.Key, destination));
            writer.End();
            var reader = new NetlinkMessageReader(writer.Written);
            reader.MoveNext();
            Assert.Equal(service, IpvsMessages.ParseService(reader.Current).Service);
            reader.MoveNext();
            Assert.Equal(destination, IpvsMessages.ParseDestination(reader.Current, service.Key.Family).Destination);
        }).Check(Config.QuickThrowOnFailure.WithReplay(0x1b5, 0x2b5));

    /// <summary>Damaged answers are refused with <see cref="InvalidDataException"/>, or read as something; never anything else.</summary>
    [Fact]
    public void Damaged_answers_never_do_worse_than_throw()
    {
        var random = new Random(23);
        var answers = Recordings.WrittenByIpvsadm.ReplaceLineEndings("").Split('>', '<')
            .Select(text => text.Trim()).Where(text => text.Length > 200).Select(Convert.FromHexString).ToList();
        for (var round = 0; round < 20_000; round++)
        {
            var damaged = answers[random.Next(answers.Count)].ToArray();
            for (var i = random.Next(1, 6); i > 0; i--)
                damaged[random.Next(damaged.Length)] = (byte)random.Next(256);
            try
            {
                foreach (var message in new NetlinkMessageReader(damaged.AsSpan(0, random.Next(damaged.Length + 1))))
                {
                    IpvsMessages.ParseService(message);
                    IpvsMessages.ParseDestination(message, AddressFamily.InterNetwork);
                }
            }
            catch (InvalidDataException)
            {
            }
        }
    }

    private static void Recorded(string recording, Action<IpvsTable> test)
    {
        var transport = new RecordedTransport(Recordings.Family, recording);
        using var ipvs = IpvsTable.TryOpen(new NetlinkSocket(transport))!;
        test(ipvs);
        Assert.True(transport.Finished);
    }

    private static IpvsDestination Server(string address, ushort port, int weight) =>
        new() { Address = IPAddress.Parse(address), Port = port, Weight = weight };
}
