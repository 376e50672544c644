namespace OverlayNet.RuntimeTests.Harness;

/// <summary>Programs of the system that the tests judge with.</summary>
public static class Programs
{
    private static readonly string[] _directories = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];

    /// <summary>The program's path.</summary>
    /// <exception cref="InvalidOperationException">It is not installed; says which package has it.</exception>
    public static string Require(string program, string package) =>
        _directories.Select(directory => Path.Combine(directory, program)).FirstOrDefault(File.Exists)
        ?? throw Missing(program, package);

    /// <summary>A program at the place its package puts it, whatever else has its name.</summary>
    /// <inheritdoc cref="Require"/>
    public static string RequireAt(string path, string package) => File.Exists(path) ? path : throw Missing(path, package);

    private static InvalidOperationException Missing(string program, string package) => new($"{program} is missing: apt-get install --no-install-recommends {package} (or tools/install-packages test)");
}
