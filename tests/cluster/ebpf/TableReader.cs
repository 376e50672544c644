using System.Net.Sockets;
using OverlayNet.Vip;
using OverlayNet.Vip.Balancers.Ebpf;

namespace OverlayNet.ClusterTests.Ebpf;

/// <summary>Reads the kernel's tables the way the programs do, and compares with the configuration.</summary>
internal static class TableReader
{
    internal static void Check(SocketMaps maps, VipNetwork network)
    {
        var frontends = maps.Frontends.Entries<FrontendKey, Frontend>().ToDictionary();
        var expected = 0;
        foreach (var service in network.Services)
        {
            foreach (var address in service.Addresses)
            {
                var anywhere = new FrontendKey(Address16.From(address), (uint)network.Vni, 0, 0);
                var six = address.AddressFamily == AddressFamily.InterNetworkV6;
                var shares = Shares(maps, frontends[anywhere], six);
                var wanted = service.RealServers.Where(real => real.Weight > 0)
                    .ToDictionary(real => Address16.From((six ? real.Address6 : real.Address4)!), real => (double)real.Weight);
                var total = wanted.Values.Sum();
                Assert.Equal(wanted.Keys.OrderBy(key => key.Low), shares.Keys.OrderBy(key => key.Low));
                foreach (var (key, weight) in wanted)
                    Assert.Equal(weight / total, shares[key], 1e-6);
                Assert.Equal(service.Ports.Count > 0, frontends[anywhere].Flags.HasFlag(FrontendFlags.PortsOnly));
                expected++;
                foreach (var port in service.Ports)
                {
                    var value = frontends[anywhere with { Port = NetworkOrder.Port(port.Port), Protocol = port.Protocol }];
                    Assert.Equal(frontends[anywhere] with { Target = NetworkOrder.Port(port.Target), Flags = frontends[anywhere].Flags & ~FrontendFlags.PortsOnly }, value);
                    expected++;
                }
            }
        }
        Assert.Equal(expected, frontends.Count);
        Assert.Equal(network.Tasks.Count, maps.Netns.Entries<ulong, NetnsNetworks>().Count);
    }

    private static Dictionary<Address16, double> Shares(SocketMaps maps, Frontend frontend, bool six)
    {
        var shares = new Dictionary<Address16, double>();
        for (var i = 0; i < frontend.SlotCount; i++)
        {
            var slot = maps.Slots[(int)frontend.SlotBase + i];
            var first = slot.First == slot.Second ? 1 : slot.Threshold / 4294967296.0;
            Add(slot.First, first / frontend.SlotCount);
            if (first < 1)
                Add(slot.Second, (1 - first) / frontend.SlotCount);
        }
        return shares;

        void Add(uint backend, double share)
        {
            var record = maps.Backends[(int)backend];
            Assert.NotEqual(0u, record.Generation);
            Assert.Equal(BackendFlags.Accepts, record.Flags);
            Assert.Equal(frontend.Service, record.Service);
            var address = six ? record.Address6 : Mapped(record.Address4);
            shares[address] = shares.GetValueOrDefault(address) + share;
        }
    }

    private static Address16 Mapped(uint address4) => Address16.From(new System.Net.IPAddress(address4));
}
