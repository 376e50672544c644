using System.Net;

namespace OverlayNet.Dns.Table;

/// <summary>What one object of the configuration says about one name.</summary>
internal enum ContributionKind : byte
{
    /// <summary>The name merely exists because something lies below it (RFC 8020).</summary>
    NonTerminal,
    Service,
    Tasks,
    Port,
    Endpoint,
    ServicePointer,
    EndpointPointer,
}

internal readonly record struct Contribution(ContributionKind Kind, object? Detail = null);

internal interface IContributionSink
{
    /// <param name="name">Relative lower-case wire name without the root octet; only valid during the call.</param>
    /// <param name="contribution">What is said about it.</param>
    void Add(scoped ReadOnlySpan<byte> name, in Contribution contribution);
}

/// <summary>
/// Which names a service or an endpoint gives rise to within its network, and with which records. Pure: the same
/// object always yields the same names.
/// </summary>
internal sealed class Contributions(byte[] suffix, bool reverse)
{
    private static readonly byte[] TasksLabel = [5, .. "tasks"u8];

    /// <summary>Names of the service itself: the name, aliases, <c>tasks.</c>, SRV names, reverse names of its VIPs.</summary>
    public void EnumerateService<TSink>(DnsService service, ref TSink sink)
        where TSink : struct, IContributionSink
    {
        ServiceName(service, service.Name, ref sink);
        foreach (var alias in service.Aliases)
            ServiceName(service, alias, ref sink);
        if (reverse)
        {
            Pointer(service.VipV4, ContributionKind.ServicePointer, service, ref sink);
            Pointer(service.VipV6, ContributionKind.ServicePointer, service, ref sink);
        }
    }

    /// <summary>Names of one endpoint: <c>name.service</c>, name, aliases, reverse names.</summary>
    public void EnumerateEndpoint<TSink>(DnsEndpoint endpoint, DnsService? service, ref TSink sink)
        where TSink : struct, IContributionSink
    {
        Span<byte> name = stackalloc byte[Limits.NameLength];
        var length = 0;
        if (DnsName.TryAppend(endpoint.Name, name, ref length))
        {
            sink.Add(name[..length], new(ContributionKind.Endpoint, endpoint));
            if (service is not null && DnsName.TryAppend(service.Name, name, ref length))
                sink.Add(name[..length], new(ContributionKind.Endpoint, endpoint));
        }

        foreach (var alias in endpoint.Aliases)
        {
            length = 0;
            if (DnsName.TryAppend(alias, name, ref length))
                sink.Add(name[..length], new(ContributionKind.Endpoint, endpoint));
        }

        if (reverse)
        {
            foreach (var address in endpoint.Addresses)
                Pointer(address, ContributionKind.EndpointPointer, endpoint, ref sink);
        }
    }

    /// <summary>Everything an owner (a service with its endpoints, or a lone endpoint) contributes.</summary>
    public void Enumerate<TSink>(object owner, ref TSink sink)
        where TSink : struct, IContributionSink
    {
        if (owner is DnsService service)
        {
            EnumerateService(service, ref sink);
            foreach (var endpoint in service.Endpoints)
                EnumerateEndpoint(endpoint, service, ref sink);
        }
        else
        {
            EnumerateEndpoint((DnsEndpoint)owner, null, ref sink);
        }
    }

    /// <summary>Adds the records a contribution stands for.</summary>
    public void Collect(object owner, in Contribution contribution, RecordSet records)
    {
        switch (contribution.Kind)
        {
            case ContributionKind.Service:
                CollectService((DnsService)owner, records);
                break;
            case ContributionKind.Tasks:
                CollectTasks((DnsService)owner, records);
                break;
            case ContributionKind.Port:
                CollectPort((DnsService)owner, (DnsPort)contribution.Detail!, records);
                break;
            case ContributionKind.Endpoint:
                CollectEndpoint((DnsEndpoint)contribution.Detail!, records);
                break;
            case ContributionKind.ServicePointer:
                records.AddPtr(FullName(((DnsService)owner).Name, null));
                break;
            case ContributionKind.EndpointPointer:
                records.AddPtr(FullName(((DnsEndpoint)contribution.Detail!).Name, (owner as DnsService)?.Name));
                break;
            default:
                break;
        }
    }

    /// <summary>
    /// Endpoints that take new clients. When none is healthy or recovering, the unhealthy ones: an empty answer would
    /// be a certain outage, a doubtful address may work.
    /// </summary>
    public static IEnumerable<DnsEndpoint> Serving(DnsService service)
    {
        var any = false;
        foreach (var endpoint in service.Endpoints)
        {
            if (endpoint.State is DnsEndpointState.Healthy or DnsEndpointState.Recovering && endpoint.Weight > 0)
            {
                any = true;
                yield return endpoint;
            }
        }

        if (any)
            yield break;
        foreach (var endpoint in service.Endpoints)
        {
            if (endpoint.State == DnsEndpointState.Unhealthy && endpoint.Weight > 0)
                yield return endpoint;
        }
    }

    /// <summary>In units of a quarter of the configured weight, so that a recovering endpoint's share is a whole number.</summary>
    private static int QuarterWeight(DnsEndpoint endpoint) => endpoint.Weight * endpoint.Eighths / 2;

    private static void CollectService(DnsService service, RecordSet records)
    {
        if (service.Mode == DnsServiceMode.Vip)
        {
            if (service.VipV4 is { } v4)
                records.AddAddress(v4);
            if (service.VipV6 is { } v6)
                records.AddAddress(v6);
            return;
        }

        records.Limit(service.SubsetLimit);
        foreach (var endpoint in Serving(service))
        {
            foreach (var address in endpoint.Addresses)
                records.AddAddress(address, QuarterWeight(endpoint));
        }
    }

    private static void CollectTasks(DnsService service, RecordSet records)
    {
        var endpoints = service.PublishNotReady
            ? service.Endpoints.Where(e => e.State != DnsEndpointState.Draining)
            : Serving(service);
        foreach (var endpoint in endpoints)
        {
            foreach (var address in endpoint.Addresses)
                records.AddAddress(address);
        }
    }

    private void CollectPort(DnsService service, DnsPort port, RecordSet records)
    {
        foreach (var endpoint in Serving(service))
        {
            // HAProxy reads ceil(weight / 256): 2048 and 512 are its 8 and 2.
            var weight = Math.Clamp(QuarterWeight(endpoint) * 64, 1, 65535);
            records.AddSrv(new(weight, port.Target, FullName(endpoint.Name, service.Name), endpoint.Addresses));
        }
    }

    private static void CollectEndpoint(DnsEndpoint endpoint, RecordSet records)
    {
        foreach (var address in endpoint.Addresses)
            records.AddAddress(address);
        records.AddTxt(
        [
            "id=" + endpoint.Id,
            "state=" + endpoint.State switch
            {
                DnsEndpointState.Healthy => "healthy",
                DnsEndpointState.Recovering => "recovering",
                DnsEndpointState.Draining => "draining",
                _ => "unhealthy",
            },
            "weight=" + endpoint.Weight.ToString(System.Globalization.CultureInfo.InvariantCulture),
            "node=" + endpoint.Node,
        ]);
    }

    private static void ServiceName<TSink>(DnsService service, string text, ref TSink sink)
        where TSink : struct, IContributionSink
    {
        Span<byte> name = stackalloc byte[Limits.NameLength];
        var length = 0;
        if (!DnsName.TryAppend(text, name, ref length))
            return;
        sink.Add(name[..length], new(ContributionKind.Service));

        length = TasksLabel.Length;
        TasksLabel.CopyTo(name);
        if (DnsName.TryAppend(text, name, ref length))
            sink.Add(name[..length], new(ContributionKind.Tasks));

        foreach (var port in service.Ports)
        {
            if (port.Name is null)
                continue;
            length = 0;
            if (!DnsName.TryAppend("_" + port.Name, name, ref length))
                continue;
            var protocolAt = length;
            if (!DnsName.TryAppend("_" + port.Protocol, name, ref length) || !DnsName.TryAppend(text, name, ref length))
                continue;
            sink.Add(name[..length], new(ContributionKind.Port, port));
            sink.Add(name[protocolAt..length], new(ContributionKind.NonTerminal));
        }
    }

    private static void Pointer<TSink>(IPAddress? address, ContributionKind kind, object detail, ref TSink sink)
        where TSink : struct, IContributionSink
    {
        if (address is null)
            return;
        Span<byte> name = stackalloc byte[Limits.NameLength];
        var length = 0;
        DnsName.AppendReverse(address, name, ref length);
        sink.Add(name[..length], new(kind, detail));
    }

    /// <summary>Wire form with the root octet of <c>first[.second].network.dc.domain</c>.</summary>
    private byte[] FullName(string first, string? second)
    {
        Span<byte> name = stackalloc byte[Limits.NameLength];
        var length = 0;
        var valid = DnsName.TryAppend(first, name, ref length) && (second is null || DnsName.TryAppend(second, name, ref length));
        if (!valid || length + suffix.Length > Limits.NameLength)
            length = 0;
        suffix.CopyTo(name[length..]);
        return name[..(length + suffix.Length)].ToArray();
    }
}
