namespace OverlayNet.Daemon.Configuration;

/// <summary>A setting that cannot be taken; the message names where it stands, its value and the remedy. The daemon exits with 2.</summary>
public sealed class ConfigurationException(string message) : Exception(message);
