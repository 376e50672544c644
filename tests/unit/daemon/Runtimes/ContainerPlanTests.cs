using OverlayNet.Contracts;
using OverlayNet.Daemon.Planners;
using OverlayNet.Daemon.Runtimes.Docker;
using OverlayNet.UnitTests.Daemon.Planners;

namespace OverlayNet.UnitTests.Daemon.Runtimes;

public class ContainerPlanTests
{
    private const string ContainerId = "5b1793410fae7cf3b1bbe83d1d40b3528bea32f2747723dec7392eb4ead63000";
    private static readonly Endpoint _fresh = TestRegistry.Endpoint("docker-1", TestRegistry.NodeA, 20, service: null) with
    {
        Labels = new Dictionary<string, string> { [RuntimeLabels.DockerEndpoint] = "e1" },
    };

    [Fact]
    public void The_containers_name_becomes_the_endpoints()
    {
        var (change, problem) = Plan(_fresh, "/web_1.Front");
        Assert.Null(problem);
        Assert.Equal("web-1-front", change!.Name);
        Assert.Equal(ContainerId, change.Labels![RuntimeLabels.DockerContainer]);
        Assert.Equal("e1", change.Labels[RuntimeLabels.DockerEndpoint]);
    }

    [Fact]
    public void A_name_that_another_host_uses_gets_the_nodes_behind_and_stays_as_an_alias()
    {
        var (change, _) = Plan(_fresh, "/web", others: TestRegistry.Endpoint("other", TestRegistry.NodeB, 21, service: null) with { Name = "web" });
        Assert.Equal("web-a", change!.Name);
        Assert.Equal(["web"], change.Aliases!);
    }

    [Fact]
    public void Aliases_are_taken_without_Dockers_short_id()
    {
        var (change, _) = Plan(_fresh, "/a", aliases: ["nick", ContainerId[..12], "Other_Nick"]);
        Assert.Equal(["nick", "other-nick"], change!.Aliases!);
    }

    [Fact]
    public void A_label_joins_the_service_and_a_driver_option_goes_before_it()
    {
        Assert.Equal(TestRegistry.Web, Plan(_fresh, "/a", labels: new() { ["overlaynet.service"] = "web" }).Change!.Service);
        var optioned = _fresh with { Labels = new Dictionary<string, string>(_fresh.Labels) { ["overlaynet.service"] = "web" }, ServiceId = TestRegistry.Web };
        Assert.Null(Plan(optioned, "/a", labels: new() { ["overlaynet.service"] = "nothing" }).Problem);
    }

    [Fact]
    public void A_service_that_is_not_there_is_told_with_the_remedy_and_names_come_all_the_same()
    {
        var (change, problem) = Plan(_fresh, "/a", labels: new() { ["overlaynet.service"] = "late" });
        Assert.Contains("overlaynet service create --network app late", problem, StringComparison.Ordinal);
        Assert.Equal("a", change!.Name);
        Assert.Null(change.Service);
    }

    [Fact]
    public void What_is_so_already_changes_nothing()
    {
        var settled = _fresh with
        {
            Name = "a",
            Aliases = ["nick"],
            Labels = new Dictionary<string, string>(_fresh.Labels) { [RuntimeLabels.DockerContainer] = ContainerId },
        };
        Assert.Equal((null, null), Plan(settled, "/a", aliases: ["nick"]));
    }

    [Fact]
    public void A_weight_that_cannot_be_is_told() =>
        Assert.Contains("overlaynet.weight", Plan(_fresh, "/a", labels: new() { ["overlaynet.weight"] = "heavy" }).Problem, StringComparison.Ordinal);

    [Theory]
    [InlineData("Web_1", "web-1")]
    [InlineData("__", null)]
    [InlineData("tasks", null)]
    [InlineData("ends-", "ends")]
    public void Labels_of_DNS_are_made_of_names(string name, string? label) => Assert.Equal(label, ContainerPlan.Label(name));

    private static (EndpointUpdateRequest? Change, string? Problem) Plan(
        Endpoint endpoint, string name, List<string>? aliases = null, Dictionary<string, string>? labels = null, params Endpoint[] others)
    {
        var snapshot = TestRegistry.With([endpoint, .. others]);
        var docker = new DockerContainerEndpoint { EndpointID = "e1", Aliases = aliases };
        return ContainerPlan.Plan(snapshot, endpoint, new DockerContainer { Id = ContainerId, Name = name, Config = new() { Labels = labels } }, docker);
    }
}
