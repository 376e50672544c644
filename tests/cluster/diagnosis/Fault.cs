using OverlayNet.ClusterTests.Harness;

namespace OverlayNet.ClusterTests.Diagnosis;

/// <summary>What the doctor on one node has to say.</summary>
/// <param name="Node">Index of the node it runs on.</param>
/// <param name="Object">What the finding's object contains.</param>
/// <param name="Remedy">What its remedy contains.</param>
public sealed record Expectation(int Node, string Check, string Object, string Remedy);

/// <summary>A fault that is really put in, and taken away again.</summary>
public sealed class Fault
{
    private readonly List<Action> _heal = [];

    private Fault(GalleryCluster world) => World = world;

    public GalleryCluster World { get; }

    public List<Expectation> Expected { get; } = [];

    public ClusterNode Node(int index) => World.Cluster.Nodes[index - 1];

    /// <summary>Puts it in.</summary>
    public static Fault Inject(GalleryCluster world, Action<Fault> inject)
    {
        var fault = new Fault(world);
        try
        {
            inject(fault);
            return fault;
        }
        catch
        {
            fault.Heal();
            throw;
        }
    }

    public Fault Expect(int node, string check, string @object, string remedy)
    {
        Expected.Add(new Expectation(node, check, @object, remedy));
        return this;
    }

    /// <summary>In the reverse order.</summary>
    public void OnHeal(Action heal) => _heal.Insert(0, heal);

    public void Heal()
    {
        foreach (var heal in _heal)
            heal();
        _heal.Clear();
    }

    /// <summary>A command inside a namespace, and the one that undoes it.</summary>
    public void Do(string netns, string command, string? undo = null)
    {
        Shell(netns, command).Succeeded();
        if (undo is not null)
            OnHeal(() => Shell(netns, undo));
    }

    /// <summary>A rule in a table of its own.</summary>
    public void Rule(string netns, string hook, string rule, string policy = "accept")
    {
        Do(netns, $"nft add table inet guard && nft 'add chain inet guard {hook} {{ type filter hook {hook} priority 0; policy {policy}; }}'{(rule.Length > 0 ? $" && nft add rule inet guard {hook} {rule}" : "")}", "nft delete table inet guard");
    }

    /// <summary>The daemon is stopped, so that nothing mends what is done now; it goes on when healed.</summary>
    public void Freeze(int node)
    {
        var pid = Cluster.Number(Node(node).Pid);
        Commands.Run("kill", "-STOP", pid).Succeeded();
        OnHeal(() => Commands.Run("kill", "-CONT", pid));
    }

    /// <summary>The same daemon again, otherwise configured.</summary>
    public void Reconfigure(int node, Func<string, string> change)
    {
        var (it, file) = (Node(node), $"{Node(node).Directory}/config.yaml");
        var before = File.ReadAllText(file);
        it.Stop();
        File.WriteAllText(file, change(before));
        OnHeal(() =>
        {
            it.Stop();
            File.WriteAllText(file, before);
            it.Start();
        });
        it.Start();
    }

    public void Overwrite(string file, string text)
    {
        var before = File.ReadAllBytes(file);
        File.WriteAllText(file, text);
        OnHeal(() => File.WriteAllBytes(file, before));
    }

    private static CommandResult Shell(string netns, string command) => Commands.In(netns, "sh", "-c", command);
}
