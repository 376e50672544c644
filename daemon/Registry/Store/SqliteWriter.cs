using Microsoft.Data.Sqlite;

namespace OverlayNet.Daemon.Registry.Store;

/// <summary>The statements by which the writer thread changes the database, prepared once. Not for concurrent use.</summary>
internal sealed class SqliteWriter : IDisposable
{
    private readonly SqliteConnection _connection;
    private readonly SqliteStatement _find;
    private readonly SqliteStatement _put;
    private readonly SqliteStatement _delete;
    private readonly SqliteStatement _record;
    private readonly SqliteCommand _setMeta;
    private readonly SqliteCommand _begin;
    private readonly SqliteCommand _commit;
    private readonly SqliteCommand _rollback;

    public SqliteWriter(SqliteConnection connection)
    {
        _connection = connection;
        _find = new SqliteStatement(connection, "SELECT create_rev, mod_rev FROM kv WHERE key = ?1");
        _put = new SqliteStatement(
            connection,
            """
            INSERT INTO kv VALUES (?1, ?2, ?3, ?3, ?4)
            ON CONFLICT (key) DO UPDATE SET value = excluded.value, mod_rev = excluded.mod_rev, lease = excluded.lease
            RETURNING create_rev
            """);
        _delete = new SqliteStatement(connection, "DELETE FROM kv WHERE key = ?1");
        _record = new SqliteStatement(connection, "INSERT INTO history (key, rev, value, create_rev, lease) VALUES (?1, ?2, ?3, ?4, ?5)");
        _setMeta = Command("UPDATE meta SET value = $2 WHERE name = $1", 2);
        _begin = Command("BEGIN IMMEDIATE", 0);
        _commit = Command("COMMIT", 0);
        _rollback = Command("ROLLBACK", 0);
    }

    public void Begin() => _begin.ExecuteNonQuery();

    public void Commit() => _commit.ExecuteNonQuery();

    /// <summary>Ends a transaction that failed; SQLite may have ended it already.</summary>
    public void Rollback()
    {
        try
        {
            _rollback.ExecuteNonQuery();
        }
        catch (SqliteException)
        {
            // "cannot rollback - no transaction is active": what was wanted.
        }
    }

    /// <returns>Revisions of a key; (0, 0) when it is absent.</returns>
    public (long Create, long Mod) Find(string key)
    {
        _find.Bind(1, key);
        _find.Run(out var create, out var mod);
        return (create, mod);
    }

    public StoredValue Put(in Put put, long revision)
    {
        _put.Bind(1, put.Key);
        _put.Bind(2, put.Value.Span);
        _put.Bind(3, revision);
        _put.Bind(4, put.Lease);
        // What was created before keeps its revision of creation, which comes back with the same statement.
        _put.Run(out var created, out _);
        _record.Bind(3, put.Value.Span);
        Record(put.Key, revision, created, put.Lease);
        return new StoredValue(put.Key, put.Value, created, revision, put.Lease);
    }

    /// <returns>False when the key is absent.</returns>
    public bool Delete(string key, long revision)
    {
        _delete.Bind(1, key);
        if (_delete.Run() == 0)
            return false;
        _record.BindNull(3);
        Record(key, revision, 0, 0);
        return true;
    }

    public void SetMeta(string name, long value) => Run(_setMeta, name, value);

    public long GetMeta(string name) => Convert.ToInt64(Query("SELECT value FROM meta WHERE name = $1", name).Single()[0], null);

    /// <summary>The registry lives in another store from now on; here nothing is written any more.</summary>
    public bool Sealed { get; private set; }

    public void Seal(bool on)
    {
        if (on)
            Execute("INSERT OR REPLACE INTO meta VALUES ('sealed', 1)");
        else
            Execute("DELETE FROM meta WHERE name = 'sealed'");
        Sealed = on;
    }

    public void ReadSeal() => Sealed = Query("SELECT value FROM meta WHERE name = 'sealed'").Count > 0;

    public void AddLease(long id, long ttlMs) => Execute("INSERT INTO lease VALUES ($1, $2)", id, ttlMs);

    public void RemoveLease(long id) => Execute("DELETE FROM lease WHERE id = $1", id);

    public List<(long Id, long TtlMs)> Leases() =>
        [.. Query("SELECT id, ttl_ms FROM lease").Select(r => ((long)r[0], (long)r[1]))];

    public List<string> KeysOf(long lease) =>
        [.. Query("SELECT key FROM kv WHERE lease = $1 AND lease <> 0", lease).Select(r => (string)r[0])];

    /// <summary>
    /// Removes what was superseded or deleted up to a revision. The newest version of each key stays, so that the registry
    /// can be read as it was at any later revision.
    /// </summary>
    /// <param name="from">The revision compacted to before: keys untouched since have nothing to remove.</param>
    public void RemoveHistory(long from, long to)
    {
        Execute(
            """
            DELETE FROM history WHERE rev <= $2
              AND key IN (SELECT key FROM history WHERE rev > $1 AND rev <= $2)
              AND (value IS NULL OR EXISTS (
                SELECT 1 FROM history AS newer WHERE newer.key = history.key AND newer.rev > history.rev AND newer.rev <= $2))
            """, from, to);
    }

    public void Dispose()
    {
        foreach (var statement in (IDisposable[])[_find, _put, _delete, _record, _setMeta, _begin, _commit, _rollback])
            statement.Dispose();
    }

    private void Record(string key, long revision, long created, long lease)
    {
        _record.Bind(1, key);
        _record.Bind(2, revision);
        _record.Bind(4, created);
        _record.Bind(5, lease);
        _record.Run();
    }

    private SqliteCommand Command(string sql, int parameters)
    {
        var command = _connection.CreateCommand();
        command.CommandText = sql;
        for (var i = 1; i <= parameters; i++)
            command.Parameters.Add(new SqliteParameter { ParameterName = $"${i}" });
        return command;
    }

    /// <returns>How many rows it changed.</returns>
    private static int Run(SqliteCommand command, params ReadOnlySpan<object> values)
    {
        Bind(command, values);
        return command.ExecuteNonQuery();
    }

    private static void Bind(SqliteCommand command, params ReadOnlySpan<object> values)
    {
        for (var i = 0; i < values.Length; i++)
            command.Parameters[i].Value = values[i];
    }

    private void Execute(string sql, params object[] values)
    {
        using var command = Command(sql, values.Length);
        Run(command, values);
    }

    private List<object[]> Query(string sql, params object[] values)
    {
        using var command = Command(sql, values.Length);
        for (var i = 0; i < values.Length; i++)
            command.Parameters[i].Value = values[i];
        using var reader = command.ExecuteReader();
        var rows = new List<object[]>();
        while (reader.Read())
        {
            var row = new object[reader.FieldCount];
            reader.GetValues(row);
            rows.Add(row);
        }
        return rows;
    }
}
