namespace OverlayNet.Daemon.Registry.Store;

/// <summary>Rules for keys that every store shares.</summary>
public static class KeyRange
{
    /// <summary>The first key after all keys with a prefix; null: there is none (the empty prefix).</summary>
    public static string? End(string prefix) =>
        prefix.Length == 0 ? null : prefix[..^1] + (char)(prefix[^1] + 1);

    /// <exception cref="ArgumentException">The key is empty or has other characters than printable ASCII.</exception>
    public static void Check(string key)
    {
        if (key.Length == 0)
            throw new ArgumentException("a key cannot be empty", nameof(key));
        CheckPrefix(key);
    }

    /// <exception cref="ArgumentException">The prefix has other characters than printable ASCII.</exception>
    public static void CheckPrefix(string prefix)
    {
        if (prefix.AsSpan().ContainsAnyExceptInRange('!', '~'))
            throw new ArgumentException($"key '{prefix}' has characters other than printable ASCII", nameof(prefix));
    }

    /// <exception cref="ArgumentException">A key is not allowed, or is written twice.</exception>
    public static void Check(Transaction transaction)
    {
        var written = new HashSet<string>(StringComparer.Ordinal);
        foreach (var guard in transaction.Guards)
            Check(guard.Key);
        foreach (var key in transaction.Puts.Select(p => p.Key).Concat(transaction.Deletes))
        {
            Check(key);
            if (!written.Add(key))
                throw new ArgumentException($"key '{key}' is written twice in one transaction");
        }
    }
}
