using System.Diagnostics;
using System.Globalization;
using System.Net;
using OverlayNet.Daemon.Registry.Store;
using OverlayNet.Daemon.Registry.Store.Etcd;
using OverlayNet.Daemon.Security;

namespace OverlayNet.Daemon.Managers;

/// <summary>Where a manager's etcd listens, and with which certificate.</summary>
/// <param name="Name">The member's name: the node's id.</param>
/// <param name="Quota">Bytes that its data may grow to.</param>
public sealed record EtcdPlace(string State, string Name, IPAddress Address, int ClientPort, int PeerPort, long Quota = 4L << 30)
{
    public string ClientUrl => $"https://{HostPort.Format(Address, ClientPort)}";

    public string PeerUrl => $"https://{HostPort.Format(Address, PeerPort)}";

    public string CertificateFile => Path.Combine(State, "identity", "node.pem");

    public string AuthorityFile => Path.Combine(State, "identity", "ca.pem");
}

/// <summary>
/// This manager's etcd: a child that outlives the daemon. A killed daemon leaves it running, and the next one finds it by its pid and
/// start time: a second process on the same data would hang without a word.
/// </summary>
public sealed class EtcdProcess(EtcdPlace place)
{
    public const string Program = "etcd";
    private const string PidFile = "etcd.pid", LogFile = "etcd.log", TrustFile = "etcd.trust";
    private const long MaxLog = 16 << 20;
    private static readonly TimeSpan StopPatience = TimeSpan.FromSeconds(5), Pause = TimeSpan.FromMilliseconds(20);

    /// <summary>Longer than the log of a boot can be: what etcd says of a failure to start is in its last lines.</summary>
    private const int LastLines = 3;

    /// <returns>Null: there is no etcd on this machine.</returns>
    public static string? Find() => (Environment.GetEnvironmentVariable("PATH") ?? "/usr/bin").Split(':')
        .Concat(["/usr/bin", "/usr/local/bin"])
        .Select(folder => Path.Combine(folder, Program))
        .FirstOrDefault(File.Exists);

    /// <summary>The process that is recorded and lives; null: none.</summary>
    public int? Running
    {
        get
        {
            try
            {
                var parts = File.ReadAllText(Path.Combine(place.State, PidFile)).Split(' ', StringSplitOptions.TrimEntries);
                var pid = int.Parse(parts[0], CultureInfo.InvariantCulture);
                return StartTime(pid) == parts[1] ? pid : null;
            }
            catch (Exception e) when (e is IOException or FormatException or IndexOutOfRangeException)
            {
                return null;
            }
        }
    }

    public string DataPath(StoreRecord record) => Path.Combine(place.State, record.DataDirectory);

    /// <summary>Starts it unless it runs.</summary>
    /// <param name="more">Further flags.</param>
    /// <exception cref="RegistryStoreException">There is no etcd here.</exception>
    public void Start(StoreRecord record, params IEnumerable<string> more)
    {
        if (Running is not null)
            return;
        var program = Find() ?? throw new RegistryStoreException("there is no etcd on this machine; install it: apt-get install etcd-server");
        var log = Path.Combine(place.State, LogFile);
        if (File.Exists(log) && new FileInfo(log).Length > MaxLog)
            File.Move(log, log + ".1", overwrite: true);
        Directory.CreateDirectory(DataPath(record), UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);
        // A session of its own, no pipe to the daemon: nothing of the daemon's end reaches it.
        var start = new ProcessStartInfo("setsid") { UseShellExecute = false, WorkingDirectory = place.State };
        foreach (var argument in (string[])["/bin/sh", "-c", "log=$1; shift; exec \"$@\" >>\"$log\" 2>&1 </dev/null", "sh", log, program, .. Flags(record), .. more])
            start.ArgumentList.Add(argument);
        start.Environment["ETCD_UNSUPPORTED_ARCH"] = "arm64";
        File.WriteAllText(Path.Combine(place.State, TrustFile), TrustBundle.Hash(TrustBundle.Parse(File.ReadAllText(place.AuthorityFile))));
        using var process = Process.Start(start) ?? throw new RegistryStoreException("etcd could not be started");
        File.WriteAllText(Path.Combine(place.State, PidFile), $"{process.Id.ToString(CultureInfo.InvariantCulture)} {StartTime(process.Id)}\n");
    }

    /// <summary>The CAs it trusts (<see cref="TrustBundle.Hash"/>): those there were when it was started, since it reads its own certificate anew but not these. Empty: unknown.</summary>
    public string Trust
    {
        get
        {
            try
            {
                return File.ReadAllText(Path.Combine(place.State, TrustFile));
            }
            catch (IOException)
            {
                return "";
            }
        }
    }

    /// <summary>Ends it, gently first: a leader hands over.</summary>
    public async Task StopAsync()
    {
        if (Running is not { } pid)
            return;
        Kill(pid, "TERM");
        var watch = Stopwatch.StartNew();
        while (Running is not null && watch.Elapsed < StopPatience)
            await Task.Delay(Pause).ConfigureAwait(false);
        if (Running is not null)
            Kill(pid, "KILL");
        while (Running is not null && watch.Elapsed < StopPatience * 2)
            await Task.Delay(Pause).ConfigureAwait(false);
        File.Delete(Path.Combine(place.State, PidFile));
    }

    /// <summary>What it said last, for an error.</summary>
    public string LastWords()
    {
        try
        {
            return string.Join(" | ", File.ReadLines(Path.Combine(place.State, LogFile)).TakeLast(LastLines));
        }
        catch (IOException)
        {
            return "";
        }
    }

    private IEnumerable<string> Flags(StoreRecord record) =>
    [
        "--name", place.Name,
        "--data-dir", DataPath(record),
        "--listen-client-urls", place.ClientUrl, "--advertise-client-urls", place.ClientUrl,
        "--listen-peer-urls", place.PeerUrl, "--initial-advertise-peer-urls", place.PeerUrl,
        "--initial-cluster", record.InitialCluster, "--initial-cluster-state", record.InitialState, "--initial-cluster-token", record.Token,
        // Workers have certificates of the same CA; only a manager's has this name.
        "--client-cert-auth", "--trusted-ca-file", place.AuthorityFile, "--cert-file", place.CertificateFile, "--key-file", place.CertificateFile,
        "--client-cert-allowed-hostname", CertificateAuthority.ManagerName,
        "--peer-client-cert-auth", "--peer-trusted-ca-file", place.AuthorityFile, "--peer-cert-file", place.CertificateFile, "--peer-key-file", place.CertificateFile,
        "--peer-cert-allowed-hostname", CertificateAuthority.ManagerName,
        "--enable-grpc-gateway=false", "--pre-vote", "--heartbeat-interval", "100", "--election-timeout", "1000",
        "--auto-compaction-mode", "periodic", "--auto-compaction-retention", "1h", "--quota-backend-bytes", place.Quota.ToString(CultureInfo.InvariantCulture),
        "--max-txn-ops", EtcdStore.MaxOperations.ToString(CultureInfo.InvariantCulture),
        "--logger", "zap", "--log-outputs", "stderr", "--log-level", "warn",
    ];

    /// <summary>Field 22 of /proc/PID/stat (proc(5)): with the pid it names one process for ever. Null: it is gone, or a zombie.</summary>
    internal static string? StartTime(int pid)
    {
        try
        {
            var stat = File.ReadAllText($"/proc/{pid.ToString(CultureInfo.InvariantCulture)}/stat");
            var fields = stat[(stat.LastIndexOf(')') + 2)..].Split(' ');
            return fields[0] == "Z" ? null : fields[19];
        }
        catch (IOException)
        {
            return null;
        }
    }

    private static void Kill(int pid, string signal)
    {
        using var kill = Process.Start("kill", [$"-{signal}", pid.ToString(CultureInfo.InvariantCulture)]);
        kill.WaitForExit();
    }
}
