namespace OverlayNet.Dns.Forward;

/// <summary>Upstreams that stand in for each other, asked in order.</summary>
internal sealed class UpstreamGroup(string domain, IReadOnlyList<Upstream> upstreams, TimeProvider time, TimeSpan tryTime, TimeSpan totalTime)
{
    /// <summary>Domain these serve; empty for the default ones.</summary>
    public string Domain => domain;

    public byte[] WireDomain { get; } = DnsName.Encode(domain);

    public IReadOnlyList<Upstream> Upstreams => upstreams;

    /// <summary>
    /// The first conclusive answer: NOERROR or NXDOMAIN. SERVFAIL, REFUSED and silence lead to the next upstream, and
    /// once round again while time remains; REFUSED or SERVFAIL is returned when nobody has anything better. Null:
    /// nobody answered at all.
    /// </summary>
    public async Task<ForwardedAnswer?> AskAsync(UpstreamQuery query)
    {
        var start = time.GetTimestamp();
        ForwardedAnswer? second = null;
        for (var round = 0; round < 2; round++)
        {
            var silent = false;
            foreach (var upstream in upstreams)
            {
                var left = totalTime - time.GetElapsedTime(start);
                if (left <= TimeSpan.Zero)
                    return second;
                if (!upstream.IsUsable)
                    continue;
                var result = await upstream.AskAsync(query, left < tryTime ? left : tryTime).ConfigureAwait(false);
                if (result.Answer is null)
                    silent = true;
                else if (result.Answer.Rcode is Rcode.NoError or Rcode.NxDomain)
                    return result.Answer;
                else
                    second ??= result.Answer;
            }

            if (!silent)
                break;
        }

        return second;
    }
}
