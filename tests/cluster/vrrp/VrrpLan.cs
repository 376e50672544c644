using System.Collections.Concurrent;
using System.Collections.Immutable;
using System.Diagnostics;
using Microsoft.Extensions.Logging.Abstractions;
using OverlayNet.ClusterTests.Vip;
using OverlayNet.Vip.Vrrp;

namespace OverlayNet.ClusterTests.Vrrp;

/// <summary>Hosts as namespaces on one bridge: 10.77.0.N/24, 2001:db8:77::N/64 and fe80::77:N on eth0.</summary>
public sealed class VrrpLan : IDisposable
{
    private readonly TestNamespace _switch = new("sw");
    private readonly List<VrrpHost> _hosts = [];

    public VrrpLan(int hosts)
    {
        _switch.Run("ip", "link", "add", "br0", "type", "bridge", "mcast_snooping", "0");
        _switch.Run("ip", "link", "set", "br0", "up");
        for (var i = 1; i <= hosts; i++)
            _hosts.Add(new VrrpHost(_switch, i));
    }

    public VrrpHost this[int number] => _hosts[number - 1];

    public TestNamespace Switch => _switch;

    /// <summary>Waits for a condition; the failure says what was awaited and what the hosts looked like.</summary>
    public void Await(string what, Func<bool> condition, double seconds = 15)
    {
        var watch = Stopwatch.StartNew();
        while (!condition())
        {
            if (watch.Elapsed.TotalSeconds > seconds)
                Assert.Fail($"after {seconds} s still not: {what}\n{string.Join('\n', _hosts.Select(h => h.Describe()))}");
            Thread.Sleep(10);
        }
    }

    public void Dispose()
    {
        foreach (var host in _hosts)
            host.Dispose();
        _switch.Dispose();
    }
}

/// <summary>One host of a <see cref="VrrpLan"/>, running this project's VRRP or keepalived.</summary>
public sealed class VrrpHost : IDisposable
{
    private readonly TestNamespace _namespace;
    private readonly ConcurrentQueue<string> _log = new();
    private readonly string _files = Directory.CreateTempSubdirectory("onvt-").FullName;
    private Process? _keepalived;

    internal VrrpHost(TestNamespace lan, int number)
    {
        Number = number;
        _namespace = new TestNamespace($"h{number}");
        lan.Run("ip", "link", "add", $"p{number}", "type", "veth", "peer", "name", "eth0", "netns", _namespace.Name);
        lan.Run("ip", "link", "set", $"p{number}", "master", "br0", "up");
        Run("ip", "link", "set", "eth0", "addrgenmode", "none");
        Run("ip", "addr", "add", $"10.77.0.{number}/24", "dev", "eth0");
        Run("ip", "addr", "add", $"fe80::77:{number}/64", "dev", "eth0", "nodad");
        Run("ip", "addr", "add", $"2001:db8:77::{number}/64", "dev", "eth0", "nodad");
        Run("ip", "link", "set", "eth0", "up");
    }

    public int Number { get; }
    public TestNamespace Namespace => _namespace;
    public VrrpRunner? Runner { get; private set; }
    public ConcurrentQueue<VrrpOutput> Said { get; } = new();
    public IEnumerable<string> KeepalivedLog => _log;

    public string Run(string program, params string[] arguments) => _namespace.Run(program, arguments);

    public void Start(params ImmutableArray<VrrpConfig> members)
    {
        using var netns = _namespace.Open();
        Runner = new VrrpRunner([.. members.Select(c => new VrrpMember("eth0", c))], NullLogger.Instance, netns, (_, output) => Said.Enqueue(output));
    }

    public void Stop()
    {
        Runner?.Dispose();
        Runner = null;
    }

    /// <summary>Starts keepalived in the foreground with its own files.</summary>
    public void StartKeepalived(string instances)
    {
        if (!File.Exists("/usr/sbin/keepalived"))
            throw new InvalidOperationException("keepalived is not installed: apt-get install keepalived");
        var config = Path.Combine(_files, "keepalived.conf");
        File.WriteAllText(config, "global_defs {\n  vrrp_garp_master_delay 1\n  max_auto_priority 0\n}\n" + instances);
        var start = new ProcessStartInfo("nsenter",
            [$"--net={_namespace.Path}", "--", "stdbuf", "-oL", "/usr/sbin/keepalived", "--dont-fork", "--log-console", "--log-detail", "--dont-respawn", "--vrrp",
             "--use-file", config, "--pid", Path.Combine(_files, "ka.pid"), "--vrrp_pid", Path.Combine(_files, "vrrp.pid")])
        {
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };
        var process = Process.Start(start)!;
        process.OutputDataReceived += (_, line) => Keep(line.Data);
        process.ErrorDataReceived += (_, line) => Keep(line.Data);
        process.BeginOutputReadLine();
        process.BeginErrorReadLine();
        _keepalived = process;
    }

    /// <summary>SIGTERM and wait: keepalived sends priority 0 and removes its addresses.</summary>
    public void StopKeepalived() => EndKeepalived("-TERM");

    /// <summary>The child that speaks VRRP, for signals.</summary>
    public int KeepalivedVrrpPid => int.Parse(File.ReadAllText(Path.Combine(_files, "vrrp.pid")).Trim());

    public bool Has(string address) => _namespace.Run("ip", "-o", "addr", "show", "dev", "eth0").Contains($" {address}/", StringComparison.Ordinal);

    public string Describe() => $"host {Number}: {_namespace.TryRun("ip", "-br", "addr").Output.ReplaceLineEndings(" ")} {Runner?.Routers[0].State} {Runner?.Failure}\n  {string.Join("\n  ", _log)}";

    public void Dispose()
    {
        Stop();
        if (_keepalived is { HasExited: false })
            EndKeepalived("-KILL");
        _namespace.Dispose();
        Directory.Delete(_files, recursive: true);
    }

    private void EndKeepalived(string signal)
    {
        var vrrp = File.Exists(Path.Combine(_files, "vrrp.pid")) ? KeepalivedVrrpPid : 0;
        TestNamespace.Execute("kill", [signal, $"{_keepalived!.Id}"]);
        if (signal == "-KILL" && vrrp != 0)
            TestNamespace.Execute("kill", [signal, $"{vrrp}"]);
        if (!_keepalived.WaitForExit(10_000))
            _keepalived.Kill(entireProcessTree: true);
        _keepalived.Dispose();
        _keepalived = null;
    }

    private void Keep(string? line)
    {
        if (line is not null)
            _log.Enqueue(line);
    }
}
