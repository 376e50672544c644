using System.Net;
using OverlayNet.Vip.Vrrp;

namespace OverlayNet.ClusterTests.Vrrp;

/// <summary>This project's VRRP against keepalived on one link: who owns the address, how it moves, and that keepalived is content.</summary>
public sealed class KeepalivedInteropTests
{
    /// <summary>Words in keepalived's log that would mean it objects to what it hears.</summary>
    private static readonly string[] Complaints =
        ["invalid", "mismatch", "checksum", "bogus", "not match", "dropp", "expect", "malformed", "unknown", "error", "different", "fail"];

    public sealed record Wire(VrrpVersion Version, bool Ip6, bool Unicast)
    {
        public int IntervalCs => Version == VrrpVersion.V2 ? 100 : 20;

        public IReadOnlyList<VirtualAddress> Addresses => Ip6
            ? [VirtualAddress.Parse("fe80::77:100/64"), VirtualAddress.Parse("2001:db8:77::100/64")]
            : [VirtualAddress.Parse("10.77.0.100/24"), VirtualAddress.Parse("10.77.0.101/24")];

        public string Watched => Addresses[^1].Address.ToString();

        public string HostAddress(int number) => Ip6 ? $"fe80::77:{number}" : $"10.77.0.{number}";

        public VrrpConfig Ours(byte priority, int peer) => new()
        {
            VirtualRouterId = 51,
            Version = Version,
            Priority = priority,
            AdvertisementIntervalCs = IntervalCs,
            Addresses = Addresses,
            UnicastPeers = Unicast ? [IPAddress.Parse(HostAddress(peer))] : [],
        };

        public string Keepalived(int priority, int self, int peer, string more = "") => $$"""
            vrrp_instance V {
              state BACKUP
              interface eth0
              version {{(int)Version}}
              virtual_router_id 51
              priority {{priority}}
              advert_int {{(Version == VrrpVersion.V2 ? "1" : "0.2")}}
              {{(Unicast ? $"unicast_src_ip {HostAddress(self)}\n  unicast_peer {{\n    {HostAddress(peer)}\n  }}" : "")}}
              {{more}}
              virtual_ipaddress {
                {{string.Join("\n    ", Addresses.Select(a => $"{a} dev eth0"))}}
              }
            }
            """;
    }

    public static TheoryData<Wire> Wires() =>
    [
        new(VrrpVersion.V2, false, false),
        new(VrrpVersion.V2, false, true),
        new(VrrpVersion.V3, false, false),
        new(VrrpVersion.V3, false, true),
        new(VrrpVersion.V3, true, false),
        new(VrrpVersion.V3, true, true),
    ];

    [Theory]
    [MemberData(nameof(Wires))]
    public void As_master_we_are_followed_and_our_hand_over_and_return_are_understood(Wire wire)
    {
        using var lan = new VrrpLan(2);
        lan[1].Start(wire.Ours(150, peer: 2));
        lan[2].StartKeepalived(wire.Keepalived(100, self: 2, peer: 1));
        lan.Await("we own the address", () => Owners(lan, wire) is [1]);
        lan.Await("keepalived is a backup", () => lan[2].KeepalivedLog.Any(l => l.Contains("BACKUP STATE", StringComparison.Ordinal)));

        lan[1].Stop();
        lan.Await("keepalived took over after our priority 0", () => Owners(lan, wire) is [2]);

        lan[1].Start(wire.Ours(150, peer: 2));
        lan.Await("we preempted", () => Owners(lan, wire) is [1]);
        Content(lan[2]);
        Assert.Null(lan[1].Runner!.Failure);
    }

    [Theory]
    [MemberData(nameof(Wires))]
    public void As_backup_we_follow_take_over_at_priority_0_and_yield_again(Wire wire)
    {
        using var lan = new VrrpLan(2);
        lan[2].StartKeepalived(wire.Keepalived(200, self: 2, peer: 1));
        lan.Await("keepalived owns the address", () => Owners(lan, wire) is [2]);
        lan[1].Start(wire.Ours(150, peer: 2));
        lan.Await("we follow keepalived", () => lan[1].Runner!.Routers[0].ActiveRouter is { Priority: 200 } active && active.Source.Equals(IPAddress.Parse(wire.HostAddress(2))));
        Assert.DoesNotContain(lan[1].Said, o => o is VrrpOutput.Alarm);
        Assert.Equal([2], Owners(lan, wire));

        lan[2].StopKeepalived();
        lan.Await("we took over", () => Owners(lan, wire) is [1]);
        lan[2].StartKeepalived(wire.Keepalived(200, self: 2, peer: 1));
        lan.Await("keepalived preempted us", () => Owners(lan, wire) is [2]);
        Content(lan[2]);
    }

    [Theory]
    [MemberData(nameof(Wires))]
    public void A_silent_master_is_replaced_within_the_down_interval_either_way(Wire wire)
    {
        using var lan = new VrrpLan(2);
        lan[1].Start(wire.Ours(150, peer: 2));
        lan[2].StartKeepalived(wire.Keepalived(100, self: 2, peer: 1));
        lan.Await("we own the address", () => Owners(lan, wire) is [1]);

        lan.Switch.Run("ip", "link", "set", "p1", "down");
        lan.Await("keepalived took over", () => lan[2].Has(wire.Watched));
        lan.Switch.Run("ip", "link", "set", "p1", "up");
        lan.Await("the higher priority has the address alone", () => Owners(lan, wire) is [1]);

        lan[2].StopKeepalived();
        lan[2].StartKeepalived(wire.Keepalived(200, self: 2, peer: 1));
        lan.Await("keepalived owns the address", () => Owners(lan, wire) is [2]);
        lan.Switch.Run("ip", "link", "set", "p2", "down");
        lan.Await("we took over", () => lan[1].Has(wire.Watched));
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Equal_priorities_are_decided_by_address_and_alarmed_about(bool ip6)
    {
        var wire = new Wire(VrrpVersion.V3, ip6, Unicast: false);
        using var lan = new VrrpLan(2);
        lan[2].StartKeepalived(wire.Keepalived(100, self: 2, peer: 1));
        lan.Await("keepalived owns the address", () => Owners(lan, wire) is [2]);
        lan[1].Start(wire.Ours(100, peer: 2));
        lan.Await("the tie is alarmed about", () => lan[1].Said.Any(o => o is VrrpOutput.Alarm { Kind: VrrpAlarm.EqualPriority }));
        lan.Switch.Run("ip", "link", "set", "p1", "down");
        lan.Await("both own while cut off", () => Owners(lan, wire) is [1, 2]);
        lan.Switch.Run("ip", "link", "set", "p1", "up");
        lan.Await("the higher address owns alone", () => Owners(lan, wire) is [2]);
    }

    [Fact]
    public void No_preemption_leaves_the_address_where_it_is()
    {
        var wire = new Wire(VrrpVersion.V3, Ip6: false, Unicast: false);
        using var lan = new VrrpLan(2);
        lan[2].StartKeepalived(wire.Keepalived(100, self: 2, peer: 1));
        lan.Await("keepalived owns the address", () => Owners(lan, wire) is [2]);
        lan[1].Start(wire.Ours(200, peer: 2) with { Preempt = false });
        lan.Await("we hear keepalived", () => lan[1].Runner!.Routers[0].ActiveRouter is not null);
        var heard = lan[1].Runner!.Routers[0].ActiveDownTimer;
        lan.Await("ten more adverts went by", () => lan[1].Runner!.Routers[0].ActiveDownTimer > heard + TimeSpan.FromSeconds(2));
        Assert.Equal([2], Owners(lan, wire));
    }

    [Fact]
    public void The_checksum_without_pseudo_header_is_read_from_keepalived()
    {
        var wire = new Wire(VrrpVersion.V3, Ip6: false, Unicast: false);
        using var lan = new VrrpLan(2);
        lan[2].StartKeepalived(wire.Keepalived(200, self: 2, peer: 1, "v3_checksum_as_v2"));
        lan.Await("keepalived owns the address", () => Owners(lan, wire) is [2]);
        lan[1].Start(wire.Ours(100, peer: 2));
        lan.Await("we follow keepalived", () => lan[1].Runner!.Routers[0].ActiveRouter is { Priority: 200 });
    }

    private static int[] Owners(VrrpLan lan, Wire wire) => [.. new[] { 1, 2 }.Where(n => lan[n].Has(wire.Watched))];

    private static void Content(VrrpHost host)
    {
        var objections = host.KeepalivedLog.Where(l => Complaints.Any(c => l.Contains(c, StringComparison.OrdinalIgnoreCase))).ToArray();
        Assert.True(objections.Length == 0, string.Join('\n', objections));
    }
}
