using YamlDotNet.RepresentationModel;

namespace OverlayNet.Daemon.Configuration;

/// <summary>File, then environment, then flags: each overrides what came before.</summary>
public static class ConfigurationLoader
{
    public const string DefaultFile = "/etc/overlaynet/overlaynetd.yaml";
    private const string EnvironmentPrefix = "OVERLAYNET_";

    /// <param name="arguments">The command line without the program's name.</param>
    /// <param name="environment">By variable name.</param>
    /// <exception cref="ConfigurationException">An unknown key, a value that cannot be read, a file that is not there.</exception>
    public static DaemonOptions Load(IReadOnlyList<string> arguments, IReadOnlyDictionary<string, string> environment)
    {
        var flags = ReadFlags(arguments);
        var options = new DaemonOptions();
        var named = flags.Remove("config", out var file);
        file ??= environment.GetValueOrDefault(EnvironmentPrefix + "CONFIG") ?? DefaultFile;
        if (File.Exists(file))
        {
            foreach (var (key, value) in ReadYaml(file))
                Set(options, key, value, $"{file}: {key}");
        }
        else if (named)
        {
            throw new ConfigurationException($"--config {file}: there is no such file; name one, or leave the flag out for the defaults");
        }
        foreach (var option in OptionKeys.All)
        {
            var variable = EnvironmentPrefix + Dashed(option.Key).Replace('-', '_').ToUpperInvariant();
            if (environment.TryGetValue(variable, out var value))
                Set(options, option.Key, value, variable);
        }
        foreach (var (flag, value) in flags)
        {
            var option = OptionKeys.All.FirstOrDefault(o => Dashed(o.Key) == flag)
                ?? throw new ConfigurationException($"--{flag}: unknown; the settings are {string.Join(", ", OptionKeys.All.Select(o => "--" + Dashed(o.Key)))}");
            Set(options, option.Key, value, "--" + flag);
        }
        return options;
    }

    /// <summary>The documentation of all keys, for --help.</summary>
    public static string Usage() => string.Join('\n',
        OptionKeys.All.Select(option => $"  --{Dashed(option.Key),-24} {option.Key}: {option.Meaning}"));

    /// <summary><c>manager.unmanagedAfter</c> → <c>manager-unmanaged-after</c>.</summary>
    private static string Dashed(string key) => string.Concat(key.Select(c =>
        c == '.' ? "-" : char.IsUpper(c) ? "-" + char.ToLowerInvariant(c) : c.ToString()));

    private static void Set(DaemonOptions options, string key, string value, string where)
    {
        var option = OptionKeys.All.FirstOrDefault(o => o.Key == key)
            ?? throw new ConfigurationException($"{where}: unknown setting; the settings are {string.Join(", ", OptionKeys.All.Select(o => o.Key))}");
        try
        {
            option.Set(options, value);
        }
        catch (FormatException e)
        {
            throw new ConfigurationException($"{where}: '{value}' cannot be taken: {e.Message}");
        }
    }

    private static Dictionary<string, string> ReadFlags(IReadOnlyList<string> arguments)
    {
        var flags = new Dictionary<string, string>();
        for (var i = 0; i < arguments.Count; i++)
        {
            var argument = arguments[i];
            if (!argument.StartsWith("--", StringComparison.Ordinal))
                throw new ConfigurationException($"'{argument}' is not a flag; settings are given as --name value");
            var equals = argument.IndexOf('=');
            if (equals > 0)
                flags[argument[2..equals]] = argument[(equals + 1)..];
            else if (i + 1 < arguments.Count)
                flags[argument[2..]] = arguments[++i];
            else
                throw new ConfigurationException($"{argument}: a value is missing");
        }
        return flags;
    }

    private static IEnumerable<(string Key, string Value)> ReadYaml(string file)
    {
        var stream = new YamlStream();
        try
        {
            using var reader = File.OpenText(file);
            stream.Load(reader);
        }
        catch (YamlDotNet.Core.YamlException e)
        {
            throw new ConfigurationException($"{file}, line {e.Start.Line}: {e.InnerException?.Message ?? e.Message}");
        }
        return stream.Documents.Count == 0 ? [] : Flatten(file, stream.Documents[0].RootNode, "");
    }

    private static IEnumerable<(string Key, string Value)> Flatten(string file, YamlNode node, string path)
    {
        switch (node)
        {
            case YamlMappingNode mapping:
                foreach (var (key, value) in mapping.Children)
                {
                    foreach (var entry in Flatten(file, value, path.Length == 0 ? key.ToString() : $"{path}.{key}"))
                        yield return entry;
                }
                break;
            case YamlSequenceNode sequence:
                yield return (path, string.Join(',', sequence.Children.Select(child => child.ToString())));
                break;
            case YamlScalarNode scalar when path.Length > 0:
                yield return (path, scalar.Value ?? "");
                break;
            default:
                throw new ConfigurationException($"{file}: settings are written as 'key: value' lines, sections by indenting");
        }
    }
}
