using Microsoft.Data.Sqlite;

namespace OverlayNet.Daemon.Registry.Store;

/// <summary>Reads of the database beside the writer: each on a connection of its own, at one revision.</summary>
internal sealed class SqliteReader(string path)
{
    private const string Present = """
        SELECT kv.key AS key, value, kv.create_rev, mod_rev, kv.lease FROM kv JOIN history ON rev = mod_rev AND history.key = kv.key
        """;

    /// <summary>The version that each later row replaced, unless that is a later one itself.</summary>
    private const string ReplacedSince = """
        SELECT old.key AS key, old.value, old.create_rev, old.rev, old.lease FROM history AS since
        JOIN history AS old ON old.rev = since.prev_rev AND old.key = since.key
        WHERE since.rev > $at AND since.prev_rev BETWEEN 1 AND $at
        """;

    private readonly string _connection = SqliteSchema.ConnectionString(path, SqliteOpenMode.ReadOnly);

    /// <exception cref="CompactedException">The history does not reach back to <paramref name="atRevision"/>.</exception>
    public RangePage Range(string prefix, string? after, int limit, long? atRevision) => Read((connection, revision, compacted) =>
    {
        if (atRevision > revision)
            throw new RegistryStoreException($"revision {atRevision} is yet to come; the registry is at {revision}");
        if (atRevision < compacted)
            throw new CompactedException(atRevision.Value, compacted);
        using var command = connection.CreateCommand();
        var end = KeyRange.End(prefix);
        string Keys(string table) => $" {table}.key >= $from" + (end is null ? "" : $" AND {table}.key < $end") + (after is null ? "" : $" AND {table}.key > $after");
        command.CommandText = $"{Present} WHERE {Keys("kv")}"
            + (atRevision is null ? "" : $" AND mod_rev <= $at UNION ALL {ReplacedSince} AND {Keys("since")}")
            + " ORDER BY key" + (limit == 0 ? "" : " LIMIT $limit");
        command.Parameters.AddWithValue("$from", prefix);
        if (end is not null)
            command.Parameters.AddWithValue("$end", end);
        if (after is not null)
            command.Parameters.AddWithValue("$after", after);
        if (limit != 0)
            command.Parameters.AddWithValue("$limit", limit + 1L);
        if (atRevision is not null)
            command.Parameters.AddWithValue("$at", atRevision.Value);
        var items = new List<StoredValue>();
        using var reader = command.ExecuteReader();
        while (reader.Read())
            items.Add(Value(reader));
        var more = limit != 0 && items.Count > limit;
        if (more)
            items.RemoveAt(limit);
        return new RangePage(items, atRevision ?? revision, more);
    });

    /// <summary>Whole batches from a revision on, at most about <paramref name="changes"/> changes.</summary>
    /// <exception cref="CompactedException">The first of them are gone.</exception>
    public List<WatchBatch> History(long fromRevision, int changes) => Read((connection, _, compacted) =>
    {
        if (fromRevision <= compacted)
            throw new CompactedException(fromRevision, compacted + 1);
        using var command = connection.CreateCommand();
        command.CommandText = "SELECT key, value, create_rev, rev, lease FROM history WHERE rev >= $from ORDER BY rev, key";
        command.Parameters.AddWithValue("$from", fromRevision);
        var batches = new List<WatchBatch>();
        var batch = new List<KeyChange>();
        var batchRevision = 0L;
        var read = 0;
        using var reader = command.ExecuteReader();
        while (reader.Read())
        {
            var revision = reader.GetInt64(3);
            if (revision != batchRevision)
            {
                if (batch.Count > 0)
                    batches.Add(new WatchBatch(batchRevision, batch));
                if (read >= changes)
                    return batches;
                (batch, batchRevision) = ([], revision);
            }
            batch.Add(new KeyChange(reader.GetString(0), reader.IsDBNull(1) ? null : Value(reader)));
            read++;
        }
        if (batch.Count > 0)
            batches.Add(new WatchBatch(batchRevision, batch));
        return batches;
    });

    /// <summary>Copies the database to a file that does not exist yet.</summary>
    public void CopyTo(string file)
    {
        using var connection = Open();
        using var command = connection.CreateCommand();
        command.CommandText = "VACUUM INTO $file";
        command.Parameters.AddWithValue("$file", file);
        command.ExecuteNonQuery();
    }

    public (long Revision, long Compacted) Revisions() => Read((_, revision, compacted) => (revision, compacted));

    private T Read<T>(Func<SqliteConnection, long, long, T> read)
    {
        try
        {
            using var connection = Open();
            using var transaction = connection.BeginTransaction(deferred: true);
            return read(connection, Number(connection, SqliteSchema.NewestRevision), Number(connection, SqliteSchema.CompactedRevision));
        }
        catch (SqliteException e)
        {
            throw new RegistryStoreException($"cannot read the registry database {path}: {e.Message}", e);
        }
    }

    private SqliteConnection Open()
    {
        var connection = new SqliteConnection(_connection);
        connection.Open();
        return connection;
    }

    private static long Number(SqliteConnection connection, string sql)
    {
        using var command = connection.CreateCommand();
        command.CommandText = sql;
        return (long)command.ExecuteScalar()!;
    }

    private static StoredValue Value(Microsoft.Data.Sqlite.SqliteDataReader reader) => new(
        reader.GetString(0), (byte[])reader.GetValue(1), reader.GetInt64(2), reader.GetInt64(3), reader.GetInt64(4));
}
