using System.Globalization;
using OverlayNet.Contracts;
using OverlayNet.Tools.Cli;

namespace OverlayNet.Tools.Commands;

/// <summary>A status report for people.</summary>
internal static class StatusView
{
    public static void Write(TextWriter output, StatusReport status)
    {
        Line(output, "Daemon", status.Daemon + (status.Pid is { } pid ? $" (pid {Text.Number(pid)})" : "") + (status.Version.Length > 0 ? $", version {status.Version}" : ""));
        Line(output, "Node", status.NodeId is null ? NoNode(status) : $"{status.NodeName} ({status.NodeId}){(status.Role is { } role ? $", {Text.Word(role)}" : "")}");
        if (status.NodeId is not null)
        {
            Line(output, "Cluster", Text.Or(status.ClusterId));
            Line(output, "Revision", $"{Text.Number(status.AppliedRevision)} applied, {Text.Number(status.RegistryRevision)} known (lag {Text.Number(Math.Max(0, status.RegistryRevision - status.AppliedRevision))})");
            Line(output, "Managers", (status.ManagersReachable ? "reachable" : "NOT reachable, serving from the last snapshot")
                + (status.SecondsSinceManager is { } since ? $", last word {Text.Seconds(since)} ago" : "")
                + (status.Managers.Count > 0 ? $": {string.Join(", ", status.Managers)}" : ""));
        }
        Section(output, "PARTS", Parts(status), status.Parts.Count);
        Section(output, "NODES", Nodes(status), status.Nodes.Count);
        Section(output, "NETWORKS", Networks(status), status.Networks.Count);
        Section(output, "SERVICES", Services(status), status.Services.Count);
        if (status.Missing.Count == 0)
            return;
        output.WriteLine();
        output.WriteLine("MISSING IN THIS KERNEL");
        foreach (var missing in status.Missing)
            output.WriteLine($"  {missing}");
    }

    private static void Line(TextWriter output, string name, string value) => output.WriteLine($"{name + ":",-10}{value}");

    private static string NoNode(StatusReport status) =>
        status.Daemon == "running" ? "not a member of a cluster: run 'overlaynet init' or 'overlaynet join'" : "unknown";

    private static void Section(TextWriter output, string title, Table table, int rows)
    {
        if (rows == 0)
            return;
        output.WriteLine();
        output.WriteLine(title);
        table.Write(output, "  ");
    }

    private static Table Parts(StatusReport status)
    {
        var table = new Table("PART", "STATE", "REVISION", "DETAIL", "LAST ERROR");
        foreach (var part in status.Parts)
        {
            var error = part.LastError is null ? "-" : part.LastErrorAt is { } at ? string.Create(CultureInfo.InvariantCulture, $"{at.ToLocalTime():yyyy-MM-dd HH:mm:ss} {part.LastError}") : part.LastError;
            table.Add(part.Name, part.Ok ? "ok" : "FAILED", Text.Number(part.Revision), Text.Or(part.Detail), error);
        }
        return table;
    }

    private static Table Nodes(StatusReport status)
    {
        var table = new Table("NODE", "ROLE", "STATE", "ADDRESS", "REVISION", "LAG", "HEARTBEAT");
        foreach (var node in status.Nodes)
            table.Add(node.Name, Text.Word(node.Role), Text.Word(node.State), node.Address.ToString(), Text.Number(node.AppliedRevision), Text.Number(node.Lag), Text.Seconds(node.SecondsSinceHeartbeat));
        return table;
    }

    private static Table Networks(StatusReport status)
    {
        var table = new Table("NETWORK", "VNI", "SUBNETS", "HERE", "NAMESPACE", "LOCAL", "REMOTE");
        foreach (var network in status.Networks)
            table.Add(network.Name, Text.Number(network.Vni), Text.Or(network.Subnets), network.Present ? "yes" : "no", Text.Or(network.Netns), Text.Number(network.LocalEndpoints), Text.Number(network.RemoteEndpoints));
        return table;
    }

    private static Table Services(StatusReport status)
    {
        var table = new Table("SERVICE", "NETWORK", "VIP", "HEALTHY", "BALANCER", "WHY");
        foreach (var service in status.Services)
            table.Add(service.Name, service.Network, Text.Or(service.Vip), $"{Text.Number(service.Healthy)}/{Text.Number(service.Total)}", Text.Or(service.Balancer), Text.Or(service.Why));
        return table;
    }
}
