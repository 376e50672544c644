using System.Globalization;

namespace OverlayNet.Daemon.Registry;

/// <summary>Another process works on the same state directory.</summary>
/// <param name="Pid">Who holds it; null when it could not be read.</param>
public sealed class StateLockedException(string directory, int? pid) : Exception(
    $"the state directory {directory} is in use by {(pid is null ? "another process" : $"process {pid}")}; "
    + "stop it first, or give this daemon a state directory of its own (--state)")
{
    public int? Pid { get; } = pid;
}

/// <summary>
/// The right to work on a state directory, held by one process at a time: flock(2) on a file, with the holder's pid in another
/// (.NET cannot open a file that is locked, not even to read). The kernel lets go when the process ends, however it ends.
/// </summary>
public sealed class StateLock : IDisposable
{
    public const string LockFile = "daemon.lock";
    public const string PidFile = "daemon.pid";

    private readonly FileStream _file;

    private StateLock(FileStream file) => _file = file;

    /// <exception cref="StateLockedException">Another process holds it.</exception>
    public static StateLock Acquire(string directory)
    {
        var path = Path.Combine(directory, LockFile);
        FileStream file;
        try
        {
            // FileShare.None is flock(LOCK_EX | LOCK_NB) on Linux.
            file = new FileStream(path, new FileStreamOptions
            {
                Mode = FileMode.OpenOrCreate,
                Access = FileAccess.ReadWrite,
                Share = FileShare.None,
                UnixCreateMode = UnixFileMode.UserRead | UnixFileMode.UserWrite,
            });
        }
        catch (IOException) when (File.Exists(path))
        {
            throw new StateLockedException(directory, Holder(directory));
        }
        File.WriteAllText(Path.Combine(directory, PidFile), Environment.ProcessId.ToString(CultureInfo.InvariantCulture) + "\n");
        return new StateLock(file);
    }

    /// <summary>The pid of a directory's newest holder, whether or not it still runs; null when there is none.</summary>
    public static int? Holder(string directory)
    {
        try
        {
            return int.TryParse(File.ReadAllText(Path.Combine(directory, PidFile)), CultureInfo.InvariantCulture, out var pid) ? pid : null;
        }
        catch (IOException)
        {
            return null;
        }
    }

    public void Dispose() => _file.Dispose();
}
