using System.ComponentModel;
using System.Diagnostics;
using System.Formats.Tar;
using System.IO.Compression;
using System.Text;
using OverlayNet.Kernel;

namespace OverlayNet.Tools.Bundle;

/// <summary>
/// A tar archive, gzip-compressed, of texts that were each redacted first. What could not be had is in it as its reason, so that its
/// absence is no riddle.
/// </summary>
internal sealed class SupportBundle : IDisposable
{
    private static readonly TimeSpan CommandTimeout = TimeSpan.FromSeconds(20);
    private readonly FileStream _file;
    private readonly GZipStream _compressed;
    private readonly TarWriter _tar;
    private readonly DateTimeOffset _now;
    private readonly string _root;

    /// <param name="root">Name of the directory inside.</param>
    /// <exception cref="IOException">It is there already, or cannot be written.</exception>
    public SupportBundle(string path, string root, DateTimeOffset now)
    {
        (_root, _now) = (root, now);
        _file = new FileStream(path, new FileStreamOptions { Mode = FileMode.CreateNew, Access = FileAccess.Write, UnixCreateMode = UnixFileMode.UserRead | UnixFileMode.UserWrite });
        _compressed = new GZipStream(_file, CompressionLevel.Optimal);
        _tar = new TarWriter(_compressed, TarEntryFormat.Pax);
    }

    public int Entries { get; private set; }

    public void Add(string name, string text)
    {
        using var data = new MemoryStream(Encoding.UTF8.GetBytes(Redaction.Of(text)));
        _tar.WriteEntry(new PaxTarEntry(TarEntryType.RegularFile, $"{_root}/{name}") { DataStream = data, ModificationTime = _now, Mode = UnixFileMode.UserRead | UnixFileMode.UserWrite });
        Entries++;
    }

    public void AddFile(string name, string path)
    {
        try
        {
            Add(name, File.ReadAllText(path));
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            Add($"{name}.missing", e.Message + "\n");
        }
    }

    /// <summary>What a program prints, run in a namespace.</summary>
    /// <param name="netns">Null: where this program runs.</param>
    public void AddOutput(string name, NetworkNamespace? netns, string program, params string[] arguments)
    {
        try
        {
            Add(name, netns is null ? Run(program, arguments) : netns.Run(() => Run(program, arguments)));
        }
        catch (Exception e) when (e is Win32Exception or IOException or InvalidOperationException)
        {
            Add($"{name}.missing", $"{program} {string.Join(' ', arguments)}: {e.Message}\n");
        }
    }

    public void Dispose()
    {
        _tar.Dispose();
        _compressed.Dispose();
        _file.Dispose();
    }

    private static string Run(string program, string[] arguments)
    {
        using var process = Process.Start(new ProcessStartInfo(program, arguments) { RedirectStandardOutput = true, RedirectStandardError = true })!;
        var error = process.StandardError.ReadToEndAsync();
        var output = process.StandardOutput.ReadToEndAsync();
        if (!process.WaitForExit(CommandTimeout))
        {
            process.Kill(entireProcessTree: true);
            throw new IOException($"it did not end within {CommandTimeout.TotalSeconds:0} s");
        }
        return process.ExitCode == 0 ? output.GetAwaiter().GetResult() : throw new IOException(error.GetAwaiter().GetResult().Trim());
    }
}
