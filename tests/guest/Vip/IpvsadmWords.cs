using System.Net;
using System.Net.Sockets;
using System.Text.RegularExpressions;
using OverlayNet.Vip;

namespace OverlayNet.GuestTests.Vip;

/// <summary>A configuration and a kernel's table in the words of <c>ipvsadm -S</c>, sorted, so that they can be compared.</summary>
internal static class IpvsadmWords
{
    /// <summary>Written from the configuration alone, in ipvsadm's own words.</summary>
    internal static List<string> Expected(IEnumerable<VipService> services)
    {
        var lines = new List<string>();
        foreach (var service in services)
        {
            foreach (var address in service.Addresses)
            {
                var six = address.AddressFamily == AddressFamily.InterNetworkV6;
                var options = $" -s {service.Scheduler}"
                    + (service.AffinitySeconds > 0 ? $" -p {service.AffinitySeconds}" : "")
                    + (service.Scheduler is "sh" or "mh" ? $" -b {service.Scheduler}-fallback" : "");
                foreach (var port in service.Ports)
                {
                    var key = $"{(port.Protocol == VipPort.Udp ? "-u" : "-t")} {new IPEndPoint(address, port.Port)}";
                    lines.Add($"-A {key}{options}");
                    lines.AddRange(service.RealServers.Where(server => server.Weight > 0 || port.Protocol == VipPort.Tcp)
                        .Select(server => $"-a {key} -r {new IPEndPoint((six ? server.Address6 : server.Address4)!, port.Port)} -g -w {server.Weight}"));
                }
                for (var udp = 0; udp < 2 && service.Ports.Count == 0; udp++)
                {
                    var key = $"-f MARK{(six ? " -6" : "")}";
                    lines.Add($"-A {key}{options}");
                    lines.AddRange(service.RealServers.Where(server => server.Weight > 0 || udp == 0)
                        .Select(server => $"-a {key} -r {new IPEndPoint((six ? server.Address6 : server.Address4)!, 0)} -g -w {server.Weight}"));
                }
            }
        }
        return [.. lines.Order(StringComparer.Ordinal)];
    }

    /// <summary>Firewall marks are numbers of our own choosing: any will do.</summary>
    internal static List<string> Saved(string output) => [.. output.Split('\n', StringSplitOptions.RemoveEmptyEntries)
        .Select(line => Regex.Replace(line.Trim(), "-f [0-9]+", "-f MARK")).Order(StringComparer.Ordinal)];
}
