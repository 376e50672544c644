namespace OverlayNet.ClusterTests.Harness;

/// <summary>Processes with a part of one processor (cgroup v1: cpu.cfs_quota_us, and as much for their real-time threads).</summary>
public sealed class CpuQuota : IDisposable
{
    private const string Root = "/sys/fs/cgroup/cpu";
    private readonly string _directory;
    private readonly int[] _pids;

    /// <param name="percent">Of one processor, for all of them together.</param>
    public CpuQuota(string name, int percent, params int[] pids)
    {
        _directory = $"{Root}/{name}";
        _pids = pids;
        if (!Directory.Exists(Root))
            throw new InvalidOperationException("the CPU controller of cgroup v1 is not mounted at /sys/fs/cgroup/cpu: boot with systemd.unified_cgroup_hierarchy=0");
        Directory.CreateDirectory(_directory);
        Write("cpu.cfs_period_us", "100000");
        Write("cpu.cfs_quota_us", $"{percent}000");
        // Without a share of their own real-time threads cannot be moved at all.
        if (File.Exists($"{_directory}/cpu.rt_runtime_us"))
            TryWrite("cpu.rt_runtime_us", $"{percent}000");
        Move(_directory);
    }

    public void Dispose()
    {
        Move(Root);
        for (var i = 0; i < 50 && Directory.Exists(_directory); i++)
        {
            try
            {
                Directory.Delete(_directory);
            }
            catch (IOException)
            {
                // A thread was born inside meanwhile.
                Move(Root);
                Thread.Sleep(20);
            }
        }
    }

    private void Move(string to)
    {
        foreach (var task in _pids.Where(pid => Directory.Exists($"/proc/{pid}/task")).SelectMany(pid => Directory.EnumerateDirectories($"/proc/{pid}/task")))
        {
            try
            {
                File.WriteAllText($"{to}/tasks", Path.GetFileName(task));
            }
            catch (IOException)
            {
                // It ended, or is real-time where the group has no share for that.
            }
        }
    }

    private void Write(string file, string value) => File.WriteAllText($"{_directory}/{file}", value);

    private void TryWrite(string file, string value)
    {
        try
        {
            Write(file, value);
        }
        catch (IOException)
        {
            // The parent has none to give: its real-time threads stay outside.
        }
    }
}
