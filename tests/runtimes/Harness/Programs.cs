namespace OverlayNet.RuntimeTests.Harness;

/// <summary>Programs of the system that the tests judge with.</summary>
public static class Programs
{
    private static readonly string[] _directories = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];

    /// <summary>The program's path.</summary>
    /// <exception cref="InvalidOperationException">It is not installed; says which package has it.</exception>
    public static string Require(string program, string package) =>
        _directories.Select(directory => Path.Combine(directory, program)).FirstOrDefault(File.Exists)
        ?? throw new InvalidOperationException($"{program} is missing: apt-get install --no-install-recommends {package} (or tools/install-packages test)");
}
