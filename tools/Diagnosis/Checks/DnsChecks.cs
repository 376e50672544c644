using System.Net;
using OverlayNet.Contracts;
using OverlayNet.Kernel;

namespace OverlayNet.Tools.Diagnosis.Checks;

/// <summary>Each stage of name resolution, with its latency: the network's resolver over UDP and TCP, and every upstream server.</summary>
internal static class DnsChecks
{
    private static readonly TimeSpan Timeout = TimeSpan.FromSeconds(1);

    public static IEnumerable<Diagnosed> Run(CheckupInput input, List<DoctorStage> stages)
    {
        var questions = new List<Func<(DoctorStage, Diagnosed?)>>();
        // That a daemon which does not run answers nobody is said once.
        foreach (var network in input.Networks.Where(network => input.Node.Condition == DaemonCondition.Running && network is { Reading: not null, Own: not null }))
        {
            foreach (var (source, gateway) in new[] { (network.Own!.Address4, network.Network.Gateway4), (network.Own.Address6, network.Network.Gateway6) })
            {
                if (source is null || gateway is null)
                    continue;
                foreach (var tcp in new[] { false, true })
                    questions.Add(() => Resolver(input, network, source, gateway, tcp));
            }
        }
        var upstreams = (input.Upstreams ?? []).Select(text => IPEndPoint.TryParse(text, out var known) ? known.Address : null).OfType<IPAddress>().Distinct().ToList();
        foreach (var upstream in upstreams)
            questions.Add(() => Upstream(input, upstream, upstreams.Count));
        var answers = SideBySide.Run(questions, question => question());
        stages.AddRange(answers.Select(answer => answer.Item1));
        return answers.Select(answer => answer.Item2).OfType<Diagnosed>();
    }

    /// <summary>Upstream servers that are this resolver itself, or only another process of this host could be: a query would come back for ever.</summary>
    public static Diagnosed? Loop(IPAddress upstream, IEnumerable<IPAddress> own)
    {
        if (IPAddress.IsLoopback(upstream))
            return Diagnosed.Error("dns.loop", upstream.ToString(), $"upstream {upstream} is on this host's own loopback: a stub that asks this resolver again, or nobody", "127.0.0.53 is systemd-resolved's stub", "name the real servers: dns.upstreams in overlaynetd.yaml (resolvectl status shows them)");
        return own.Contains(upstream)
            ? Diagnosed.Error("dns.loop", upstream.ToString(), $"upstream {upstream} is this node's own resolver: each query would come back to it", "/etc/resolv.conf or dns.upstreams names it", "name the real servers: dns.upstreams in overlaynetd.yaml")
            : null;
    }

    private static (DoctorStage, Diagnosed?) Resolver(CheckupInput input, NetworkView network, IPAddress source, IPAddress gateway, bool tcp)
    {
        using var netns = NamedNamespaces.OpenPinned(network.Netns);
        var name = input.Node.Snapshot.ClusterDomain;
        var result = DnsProbe.Ask(netns, source, gateway, name, DnsProbe.Ns, Timeout, tcp);
        // As clients do: a busy machine may lose one.
        if (result.Message is null)
            result = DnsProbe.Ask(netns, source, gateway, name, DnsProbe.Ns, Timeout, tcp);
        var stage = Stage($"{network.Network.Name}: {gateway} over {(tcp ? "TCP" : "UDP")}", result);
        var finding = result.Message is null
            ? Diagnosed.Error("dns.silent", $"{gateway} of network {network.Network.Name}", $"this node's resolver does not answer over {(tcp ? "TCP" : "UDP")}: {result.Problem}", $"{name} NS from {source}", "a rule in the network's namespace may stop it (firewall.dns); else look at the daemon's log")
            : result.Message.Rcode == "SERVFAIL" ? Diagnosed.Error("dns.servfail", $"{gateway} of network {network.Network.Name}", "it answers SERVFAIL for the cluster's own domain: it has never seen a snapshot", $"{name} NS", "overlaynet status: are the managers reachable?")
            : null;
        return (stage, finding);
    }

    private static (DoctorStage, Diagnosed?) Upstream(CheckupInput input, IPAddress upstream, int count)
    {
        var own = input.Networks.SelectMany(network => new[] { network.Network.Gateway4, network.Network.Gateway6 }).OfType<IPAddress>()
            .Concat(input.Host.Addresses.Where(entry => input.Host.NameOf(entry.Interface) == "lo").Select(entry => entry.Address));
        if (Loop(upstream, own) is { } loop)
            return (new DoctorStage { Name = $"upstream {upstream}", Ok = false, Detail = "a loop" }, loop);
        var result = DnsProbe.Ask(input.Node.Host, null, upstream, ".", DnsProbe.Ns, Timeout);
        if (result.Message is null)
            result = DnsProbe.Ask(input.Node.Host, null, upstream, ".", DnsProbe.Ns, Timeout, tcp: true);
        var remedy = "start it, let UDP and TCP 53 to it pass, or take it out of dns.upstreams";
        return (Stage($"upstream {upstream}", result), result.Message is not null ? null
            : count == 1 ? Diagnosed.Error("dns.upstream", upstream.ToString(), $"upstream server {upstream} does not answer: {result.Problem}; no name outside the cluster resolves", null, remedy)
            : Diagnosed.Warning("dns.upstream", upstream.ToString(), $"upstream server {upstream} does not answer: {result.Problem}; the others are asked instead", null, remedy));
    }

    private static DoctorStage Stage(string name, DnsProbeResult result) =>
        new() { Name = name, Ok = result.Message is not null, Milliseconds = Math.Round(result.Took.TotalMilliseconds, 2), Detail = result.Message?.Rcode ?? result.Problem ?? "" };
}
