namespace OverlayNet.Daemon.Runtimes.Cni;

/// <summary>Versions of the CNI specification and what each of them has.</summary>
public static class CniVersions
{
    public const string Newest = "1.1.0";

    // In order: a version has what those before it have.
    private static readonly string[] _supported = ["0.3.0", "0.3.1", "0.4.0", "1.0.0", Newest];

    public static IReadOnlyList<string> Supported => _supported;

    /// <exception cref="CniException">Code 1: older than 0.3.0, or newer than this plugin.</exception>
    public static void Require(string version)
    {
        if (Array.IndexOf(_supported, version) < 0)
            throw new CniException(CniErrorCode.IncompatibleVersion, $"cniVersion '{version}' is not supported", $"write one of {string.Join(", ", _supported)}");
    }

    /// <summary>Whether a version is at least another; both are supported ones.</summary>
    public static bool AtLeast(string version, string least) => Array.IndexOf(_supported, version) >= Array.IndexOf(_supported, least);

    /// <exception cref="CniException">Code 1: the command came with a later version.</exception>
    public static void RequireCommand(string command, string version)
    {
        var since = command switch
        {
            "CHECK" => "0.4.0",
            "GC" or "STATUS" => "1.1.0",
            _ => "0.3.0",
        };
        if (!AtLeast(version, since))
            throw new CniException(CniErrorCode.IncompatibleVersion, $"{command} needs cniVersion {since}, and the configuration says {version}", $"write \"cniVersion\": \"{since}\"");
    }
}
