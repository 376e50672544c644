using OverlayNet.Contracts;

namespace OverlayNet.Daemon.Runtimes.Cni;

/// <summary>Which container and interface a call is about.</summary>
/// <param name="Netns">Absolute path; empty when the runtime has none any more.</param>
internal sealed record CniAttachment(string ContainerId, string Netns, string IfName)
{
    private const int MaxInterfaceName = 15;

    /// <exception cref="CniException">Code 4; names every variable that is wrong, as the specification asks.</exception>
    public static CniAttachment Of(CniRequest request, bool needsNetns)
    {
        List<string> wrong = [];
        var id = request.ContainerId ?? "";
        if (id.Length == 0)
            wrong.Add("CNI_CONTAINERID is missing");
        else if (!char.IsAsciiLetterOrDigit(id[0]) || id.Any(c => !char.IsAsciiLetterOrDigit(c) && c is not ('_' or '.' or '-')))
            wrong.Add($"CNI_CONTAINERID '{id}' begins not with a letter or digit, or has others than letters, digits, '_', '.' and '-'");
        var name = request.IfName ?? "";
        if (name.Length == 0)
            wrong.Add("CNI_IFNAME is missing");
        else if (name.Length > MaxInterfaceName || name is "." or ".." || name.Any(c => c is '/' or ':' or <= ' ' or > '~'))
            wrong.Add($"CNI_IFNAME '{name}' cannot be the name of a network interface");
        var netns = request.Netns ?? "";
        if (needsNetns && netns.Length == 0)
            wrong.Add("CNI_NETNS is missing");
        else if (netns.Length > 0 && netns[0] != '/')
            wrong.Add($"CNI_NETNS '{netns}' is not an absolute path");
        return wrong.Count == 0
            ? new CniAttachment(id, netns, name)
            : throw new CniException(CniErrorCode.InvalidEnvironment, string.Join("; ", wrong), "runtimes set these; by hand use 'overlaynet attach'");
    }
}
