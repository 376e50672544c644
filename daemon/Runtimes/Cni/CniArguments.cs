namespace OverlayNet.Daemon.Runtimes.Cni;

/// <summary>CNI_ARGS: <c>KEY=VALUE;KEY=VALUE</c>. Unknown keys are other plugins' business, as IgnoreUnknown has it everywhere.</summary>
public static class CniArguments
{
    /// <exception cref="CniException">Code 4: an entry has no '='.</exception>
    public static IReadOnlyDictionary<string, string> Parse(string? text)
    {
        var arguments = new Dictionary<string, string>(StringComparer.Ordinal);
        foreach (var entry in (text ?? "").Split(';', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries))
        {
            var equals = entry.IndexOf('=');
            if (equals <= 0)
                throw new CniException(CniErrorCode.InvalidEnvironment, $"CNI_ARGS '{text}': '{entry}' is not KEY=VALUE", "write CNI_ARGS=\"KEY=VALUE;KEY=VALUE\"");
            arguments[entry[..equals]] = entry[(equals + 1)..];
        }
        return arguments;
    }
}
