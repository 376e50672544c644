using System.Globalization;
using OverlayNet.ClusterTests.Harness;
using OverlayNet.RuntimeTests.Harness;

namespace OverlayNet.RuntimeTests.Package;

/// <summary>
/// A bare Debian under a real systemd, booted by systemd-nspawn on an overlay of the cached root, with network and mount
/// namespaces of its own: what a host is to the package.
/// </summary>
public sealed class SystemdMachine : IDisposable
{
    public const string Address = "192.0.2.1";
    private readonly string _directory;
    private readonly BackgroundProcess _nspawn;

    /// <param name="isHost">With an underlay, as a host has one; else a container that has a loopback and nothing more.</param>
    public SystemdMachine(bool isHost = true)
    {
        Programs.Require("systemd-nspawn", "systemd-container");
        var root = Commands.Run(TimeSpan.FromMinutes(10), "bash", Path.Combine(Tree.Root, "tools", "lib", "debian-root")).Succeeded().Text;
        _directory = Directory.CreateTempSubdirectory("overlaynet-test-machine-").FullName;
        foreach (var name in new[] { "upper", "work", "root" })
            Directory.CreateDirectory(Path.Combine(_directory, name));
        Commands.Run("mount", "-t", "overlay", "overlay", "-o", $"lowerdir={root},upperdir={_directory}/upper,workdir={_directory}/work", Root).Succeeded();
        _nspawn = BackgroundProcess.InHost(
            "systemd-nspawn", "--quiet", "--directory", Root, "--machine", Path.GetFileName(_directory), "--register=no", "--keep-unit", "--private-network",
            "--capability=all", "--system-call-filter=bpf perf_event_open", "--console=pipe", "--boot", "--", "--log-target=console");
        Wait.Until("systemd is up", () => Leader is not null && Run("systemctl", "is-system-running").Text is "running" or "degraded", TimeSpan.FromSeconds(120), () => _nspawn.Output);
        // The underlay, and a way out of it.
        if (isHost)
            Run("sh", "-c", $"ip link add underlay type veth peer name wire && ip link set wire up && ip addr add {Address}/24 dev underlay && ip link set underlay up && ip route add default via 192.0.2.254").Succeeded();
    }

    public string Root => Path.Combine(_directory, "root");

    /// <summary>Its first process, as pid of this machine; null: none yet, or no more.</summary>
    public int? Leader => File.Exists($"/proc/{_nspawn.Pid}/task/{_nspawn.Pid}/children")
        && File.ReadAllText($"/proc/{_nspawn.Pid}/task/{_nspawn.Pid}/children").Split(' ', StringSplitOptions.RemoveEmptyEntries) is [var first, ..]
            ? int.Parse(first, CultureInfo.InvariantCulture)
            : null;

    /// <summary>A program inside.</summary>
    public CommandResult Run(string program, params IEnumerable<string> arguments) => Commands.Run("nsenter", [.. Enter, "--pid", program, .. arguments]);

    /// <summary>A program inside that goes on. Not in the machine's pid namespace: nsenter would stay in front of it and keep its signals.</summary>
    public BackgroundProcess Start(string program, params IEnumerable<string> arguments) => BackgroundProcess.InHost("nsenter", [.. Enter, program, .. arguments]);

    /// <summary>A file of the tests or a package, where programs inside find it.</summary>
    public string Bring(string file)
    {
        var name = $"/root/{Path.GetFileName(file)}";
        File.Copy(file, Root + name, overwrite: true);
        return name;
    }

    public void Dispose()
    {
        if (Leader is { } leader)
        {
            // Power off at once: systemd as pid 1 does so on this signal (SIGRTMIN+14).
            Commands.Run("kill", "-s", "48", leader.ToString(CultureInfo.InvariantCulture));
            try
            {
                Wait.Until("the machine is off", () => _nspawn.Ended);
            }
            catch (TimeoutException)
            {
                // Killed below, with everything inside.
            }
        }
        _nspawn.Dispose();
        Commands.Run("umount", "--lazy", Root);
        Directory.Delete(_directory, recursive: true);
    }

    private string[] Enter => ["--target", Leader!.Value.ToString(CultureInfo.InvariantCulture), "--mount", "--uts", "--ipc", "--net", "--cgroup", "--root", "--wd"];
}
