using System.Diagnostics;
using System.Globalization;
using System.Text.Json.Nodes;
using OverlayNet.ClusterTests.Harness;
using OverlayNet.RuntimeTests.Harness;

namespace OverlayNet.RuntimeTests.Docker;

/// <summary>
/// A dockerd on a node of a cluster: in the node's network namespace and in a mount namespace of its own, so that it finds its
/// own node's plugin under /run/docker/plugins. What it mounts under its directory is seen by the node's daemon too, as on a
/// host of its own. The mount namespace outlives dockerd, as a host's does.
/// </summary>
public sealed class DockerHost : IDisposable
{
    private const string Package = "docker.io";
    private static readonly TimeSpan StartPatience = TimeSpan.FromSeconds(60);
    private readonly Process _holder;
    private readonly string[] _options;
    private readonly string? _root;
    private Process? _dockerd;

    /// <param name="options">Further options of dockerd.</param>
    public DockerHost(ClusterNode node, params string[] options)
        : this(node, null, options)
    {
    }

    /// <param name="root">The root whose dockerd is to run; null: this machine's.</param>
    /// <param name="options">Further options of dockerd.</param>
    public DockerHost(ClusterNode node, string? root, string[] options)
    {
        Node = node;
        _options = options;
        _root = root;
        Directory = Path.Combine(node.Directory, "docker");
        System.IO.Directory.CreateDirectory(Path.Combine(Directory, "plugins"));
        System.IO.Directory.CreateDirectory("/run/docker/plugins");
        Commands.Run("mount", "--bind", Directory, Directory).Succeeded();
        Commands.Run("mount", "--make-shared", Directory).Succeeded();
        // The holder's other mounts go nowhere: what this host's root is shared with must not see the plugins of one node.
        _holder = Start("unshare", "--mount", "--propagation", "unchanged", "sh", "-c",
            $"mount --make-private / 2>/dev/null; mount --make-private /run 2>/dev/null; mount --bind {Directory}/plugins /run/docker/plugins && {(root is null ? "" : OtherRoot.Enter(root) + " && ")}echo held && exec sleep infinity");
        if (_holder.StandardOutput.ReadLine() != "held")
            throw new InvalidOperationException("no mount namespace for dockerd");
    }

    public ClusterNode Node { get; }

    public string Directory { get; }

    public string Socket => $"{Directory}/docker.sock";

    public string LogFile => $"{Directory}/dockerd.log";

    public void Start()
    {
        // Left by a dockerd that was killed: another process may have these pids by now.
        foreach (var stale in new[] { "docker.pid", "exec/containerd/containerd.pid" }.Select(name => Path.Combine(Directory, name)).Where(File.Exists))
            File.Delete(stale);
        var script = string.Join(' ', (string[])
        [
            "exec", _root is null ? Programs.Require("dockerd", Package) : "dockerd", "--data-root", $"{Directory}/data", "--exec-root", $"{Directory}/exec", "--pidfile", $"{Directory}/docker.pid",
            "-H", $"unix://{Socket}", "--dns", "169.254.53.53", "--log-level", "warn", .. _options, $">>{LogFile}", "2>&1",
        ]);
        _dockerd = Start("nsenter", $"--mount=/proc/{Pid(_holder)}/ns/mnt", $"--net=/run/netns/{Node.Netns}", "sh", "-c", script);
        Wait.Until($"dockerd of {Node.Name} answers", () => _dockerd.HasExited || TryRun("version").Code == 0, StartPatience, () => LogTail());
        if (_dockerd.HasExited)
            throw new InvalidOperationException($"dockerd of {Node.Name} ended at once: {LogTail()}");
    }

    /// <summary>Ends dockerd as its service manager does.</summary>
    public void Stop() => End("TERM");

    public void Kill() => End("KILL");

    public void Import(string image)
    {
        if (TryRun("image", "inspect", image).Code != 0)
            Run("import", Images.Tar(image), image);
    }

    /// <summary>The docker program against this dockerd, whatever comes of it.</summary>
    public CommandResult TryRun(params IEnumerable<string> arguments) =>
        Commands.Run(Docker, ["-H", $"unix://{Socket}", .. arguments]);

    public CommandResult Run(params IEnumerable<string> arguments) => TryRun(arguments).Succeeded();

    public JsonNode Inspect(string container) => JsonNode.Parse(Run("inspect", container).Output)![0]!;

    /// <summary>A container's address on a network.</summary>
    public string Address(string container, string network) =>
        (string)Inspect(container)["NetworkSettings"]!["Networks"]![network]!["IPAddress"]!;

    /// <summary>Runs a program in a container.</summary>
    public CommandResult Exec(string container, params IEnumerable<string> command) => TryRun(["exec", container, .. command]);

    public string LogTail() => File.Exists(LogFile) ? string.Join('\n', File.ReadLines(LogFile).TakeLast(30)) : "(no log)";

    public void Dispose()
    {
        if (_dockerd is { HasExited: false })
        {
            if (TryRun("ps", "-aq").Lines is { Count: > 0 } containers)
                TryRun(["rm", "-f", .. containers]);
            Stop();
        }
        KeepLog();
        Sweep(Directory);
        if (!_holder.HasExited)
        {
            _holder.Kill();
            _holder.WaitForExit();
        }
        // What it mounted stays mounted here too.
        foreach (var mount in MountsUnder(Directory))
            Commands.Run("umount", "-l", mount);
        _dockerd?.Dispose();
        _holder.Dispose();
    }

    /// <summary>Ends what dockerd started (containerd, shims, containers of a killed one): all of it names the directory.</summary>
    internal static void Sweep(string directory)
    {
        foreach (var process in Processes.Naming(directory + "/exec"))
            Commands.Run("kill", "-KILL", process.ToString(CultureInfo.InvariantCulture));
    }

    internal static IReadOnlyList<string> MountsUnder(string directory) =>
    [
        .. File.ReadLines("/proc/self/mountinfo").Select(line => line.Split(' ')[4])
            .Where(mount => mount == directory || mount.StartsWith(directory + "/", StringComparison.Ordinal))
            .OrderByDescending(mount => mount.Length),
    ];

    private static string Docker => field ??= Programs.RequireAt("/usr/bin/docker", Package);

    private void End(string signal)
    {
        if (_dockerd is not { HasExited: false } dockerd)
            return;
        Commands.Run("kill", $"-{signal}", Pid(dockerd));
        if (!dockerd.WaitForExit(StartPatience))
            throw new TimeoutException($"dockerd of {Node.Name} does not end: {LogTail()}");
    }

    private void KeepLog()
    {
        if (Environment.GetEnvironmentVariable("OVERLAYNET_TEST_LOGS") is { Length: > 0 } logs && File.Exists(LogFile))
        {
            System.IO.Directory.CreateDirectory(logs);
            File.Copy(LogFile, Path.Combine(logs, $"{Node.Netns}-dockerd.log"), overwrite: true);
        }
    }

    private static string Pid(Process process) => process.Id.ToString(CultureInfo.InvariantCulture);

    private static Process Start(string program, params IEnumerable<string> arguments)
    {
        var start = new ProcessStartInfo(program) { UseShellExecute = false, RedirectStandardOutput = true };
        foreach (var argument in arguments)
            start.ArgumentList.Add(argument);
        return Process.Start(start)!;
    }
}
