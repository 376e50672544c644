using Microsoft.Data.Sqlite;

namespace OverlayNet.Daemon.Registry.Store;

/// <summary>The statements by which the writer thread changes the database, prepared once. Not for concurrent use.</summary>
internal sealed class SqliteWriter : IDisposable
{
    private readonly SqliteConnection _connection;
    private readonly SqliteStatement _begin;
    private readonly SqliteStatement _find;
    private readonly SqliteStatement _insert;
    private readonly SqliteStatement _update;
    private readonly SqliteStatement _delete;
    private readonly SqliteStatement _record;
    private readonly SqliteStatement _commit;
    private readonly SqliteStatement _rollback;

    public SqliteWriter(SqliteConnection connection)
    {
        _connection = connection;
        _begin = new SqliteStatement(connection, "BEGIN IMMEDIATE");
        _find = new SqliteStatement(connection, "SELECT create_rev, mod_rev FROM kv WHERE key = ?1");
        _insert = new SqliteStatement(connection, "INSERT INTO kv VALUES (?1, ?2, ?2, ?3)");
        _update = new SqliteStatement(connection, "UPDATE kv SET mod_rev = ?2, lease = ?3 WHERE key = ?1");
        _delete = new SqliteStatement(connection, "DELETE FROM kv WHERE key = ?1");
        _record = new SqliteStatement(connection, "INSERT INTO history (key, rev, value, create_rev, lease, prev_rev) VALUES (?1, ?2, ?3, ?4, ?5, ?6)");
        _commit = new SqliteStatement(connection, "COMMIT");
        _rollback = new SqliteStatement(connection, "ROLLBACK");
    }

    public void Begin() => _begin.Run();

    public void Commit() => _commit.Run();

    /// <summary>Ends a transaction that failed; SQLite may have ended it already.</summary>
    public void Rollback()
    {
        try
        {
            _rollback.Run();
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
        var (created, replaced) = Find(put.Key);
        if (replaced == 0)
            created = revision;
        var store = replaced == 0 ? _insert : _update;
        store.Bind(1, put.Key);
        store.Bind(2, revision);
        store.Bind(3, put.Lease);
        store.Run();
        _record.Bind(3, put.Value.Span);
        Record(put.Key, revision, created, put.Lease, replaced);
        return new StoredValue(put.Key, put.Value, created, revision, put.Lease);
    }

    /// <returns>False when the key is absent.</returns>
    public bool Delete(string key, long revision)
    {
        var (_, deleted) = Find(key);
        if (deleted == 0)
            return false;
        _delete.Bind(1, key);
        _delete.Run();
        _record.BindNull(3);
        Record(key, revision, 0, 0, deleted);
        return true;
    }

    /// <summary>The newest revision; see <see cref="SqliteSchema.NewestRevision"/>.</summary>
    public long Revision() => Number(SqliteSchema.NewestRevision);

    /// <summary>See <see cref="SqliteSchema.CompactedRevision"/>.</summary>
    public long Compacted() => Number(SqliteSchema.CompactedRevision);

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
    /// <param name="from">The revision compacted to before.</param>
    /// <param name="to">The revision to compact to.</param>
    public void RemoveHistory(long from, long to)
    {
        Execute($"UPDATE meta SET value = ({SqliteSchema.NewestRevision}) WHERE name = 'revision'");
        Execute(
            """
            DELETE FROM history WHERE (rev, key) IN (
                SELECT prev_rev, key FROM history WHERE rev > $1 AND rev <= $2 AND prev_rev > 0)
            """, from, to);
        Execute("DELETE FROM history WHERE rev > $1 AND rev <= $2 AND value IS NULL", from, to);
        Execute("UPDATE meta SET value = $1 WHERE name = 'compacted'", to);
    }

    public void Dispose()
    {
        foreach (var statement in (SqliteStatement[])[_begin, _find, _insert, _update, _delete, _record, _commit, _rollback])
            statement.Dispose();
    }

    private void Record(string key, long revision, long created, long lease, long replaced)
    {
        _record.Bind(1, key);
        _record.Bind(2, revision);
        _record.Bind(4, created);
        _record.Bind(5, lease);
        _record.Bind(6, replaced);
        _record.Run();
    }

    private long Number(string sql) => Convert.ToInt64(Query(sql).Single()[0], null);

    private SqliteCommand Command(string sql, object[] values)
    {
        var command = _connection.CreateCommand();
        command.CommandText = sql;
        for (var i = 0; i < values.Length; i++)
            command.Parameters.AddWithValue($"${i + 1}", values[i]);
        return command;
    }

    private void Execute(string sql, params object[] values)
    {
        using var command = Command(sql, values);
        command.ExecuteNonQuery();
    }

    private List<object[]> Query(string sql, params object[] values)
    {
        using var command = Command(sql, values);
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
