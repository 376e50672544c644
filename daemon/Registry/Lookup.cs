namespace OverlayNet.Daemon.Registry;

/// <summary>What a name or id given by a person refers to: one object, none, or several (then which).</summary>
/// <param name="Value">The object, when there is exactly one.</param>
/// <param name="Candidates">Every object that fits; more than one makes the reference ambiguous.</param>
public readonly record struct Lookup<T>(T? Value, IReadOnlyList<T> Candidates)
    where T : class
{
    public static Lookup<T> None { get; } = new(null, []);

    public bool Found => Value is not null;

    public bool Ambiguous => Candidates.Count > 1;

    internal static Lookup<T> Of(IReadOnlyList<T> candidates) =>
        candidates.Count == 0 ? None : new Lookup<T>(candidates.Count == 1 ? candidates[0] : null, candidates);
}
