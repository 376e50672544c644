using System.Text.Json;

namespace OverlayNet.Contracts;

/// <summary>
/// Fields of an object that a newer release has written and this one does not know. They are kept, so that a change of another
/// field, or passing the object on, does not take them from those who know them. Equal when names and texts are.
/// </summary>
public sealed class UnreadFields : Dictionary<string, JsonElement>, IEquatable<UnreadFields>
{
    public bool Equals(UnreadFields? other) =>
        other is not null && Count == other.Count
        && this.All(field => other.TryGetValue(field.Key, out var value) && value.GetRawText() == field.Value.GetRawText());

    public override bool Equals(object? obj) => Equals(obj as UnreadFields);

    public override int GetHashCode() => Keys.Aggregate(Count, (hash, name) => hash ^ name.GetHashCode(StringComparison.Ordinal));
}
