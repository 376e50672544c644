namespace OverlayNet.Daemon.Runtimes.Cni;

/// <summary>A call that fails, told in CNI's own terms (spec 1.1, section "Error").</summary>
/// <param name="code">One of <see cref="CniErrorCode"/>.</param>
/// <param name="details">What to do about it.</param>
public sealed class CniException(int code, string message, string details = "") : Exception(message)
{
    public int Code { get; } = code;
    public string Details { get; } = details;
}

/// <summary>Error codes of CNI spec 1.1; from 100 on they are the plugin's own.</summary>
public static class CniErrorCode
{
    public const int IncompatibleVersion = 1;
    public const int UnsupportedField = 2;
    public const int InvalidEnvironment = 4;
    public const int Io = 5;
    public const int Decode = 6;
    public const int InvalidConfig = 7;
    public const int TryAgain = 11;

    /// <summary>STATUS: no ADD can be served now.</summary>
    public const int NotAvailable = 50;

    /// <summary>The registry refused: an address that is taken, a subnet that is full.</summary>
    public const int Refused = 100;

    /// <summary>CHECK: the container's network is not as ADD left it.</summary>
    public const int NotAsAdded = 101;
}
