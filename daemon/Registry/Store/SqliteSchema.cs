using Microsoft.Data.Sqlite;

namespace OverlayNet.Daemon.Registry.Store;

/// <summary>The database behind <see cref="SqliteStore"/>: opening, creating, checking.</summary>
internal static class SqliteSchema
{
    private const int Version = 2;

    // SQLite's primary result codes (sqlite.org/rescode.html).
    public const int Corrupt = 11;
    public const int Full = 13;
    public const int NotADatabase = 26;

    /// <summary>
    /// A value is written once, to <c>history</c>, whose rows come in the order of their revisions: a group of commits fills a few
    /// pages instead of changing one for each value. <c>kv</c> says which revision of a key is the present one. <c>prev_rev</c> is
    /// that of the version which a row replaced, 0 when there was none: what was present at an older revision is found by it.
    /// </summary>
    private const string Tables = """
        CREATE TABLE kv (
            key TEXT PRIMARY KEY, create_rev INTEGER NOT NULL, mod_rev INTEGER NOT NULL, lease INTEGER NOT NULL) WITHOUT ROWID;
        CREATE INDEX kv_lease ON kv (lease) WHERE lease <> 0;
        CREATE TABLE history (
            rev INTEGER NOT NULL, key TEXT NOT NULL, value BLOB, create_rev INTEGER NOT NULL, lease INTEGER NOT NULL,
            prev_rev INTEGER NOT NULL, PRIMARY KEY (rev, key)) WITHOUT ROWID;
        """;

    /// <summary><c>revision</c> in <c>meta</c>: the newest one when history was last removed; a later one is history's.</summary>
    private const string Create = """
        CREATE TABLE meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
        CREATE TABLE lease (id INTEGER PRIMARY KEY, ttl_ms INTEGER NOT NULL);
        """ + Tables;

    /// <summary>The newest revision: the last in history, or of what was removed from it.</summary>
    public const string NewestRevision = "SELECT max(value, coalesce((SELECT max(rev) FROM history), 0)) FROM meta WHERE name = 'revision'";

    /// <summary>Revisions up to this one have no superseded versions any more.</summary>
    public const string CompactedRevision = "SELECT value FROM meta WHERE name = 'compacted'";

    /// <summary>Version 1 kept each value twice, and history by key.</summary>
    private const string FromVersion1 = """
        DROP INDEX kv_lease;
        DROP INDEX history_rev;
        ALTER TABLE kv RENAME TO kv_1;
        ALTER TABLE history RENAME TO history_1;
        """ + Tables + """
        INSERT INTO kv SELECT key, create_rev, mod_rev, lease FROM kv_1 ORDER BY key;
        INSERT INTO history
            SELECT rev, key, value, create_rev, lease,
                CASE WHEN lag(value) OVER versions IS NULL THEN 0 ELSE lag(rev) OVER versions END
            FROM history_1 WINDOW versions AS (PARTITION BY key ORDER BY rev) ORDER BY rev, key;
        DROP TABLE kv_1;
        DROP TABLE history_1;
        """;

    /// <summary>Opens the writer's connection; creates the database when there is none.</summary>
    /// <param name="identity">Of a new database; null: a new cluster.</param>
    /// <exception cref="RegistryStoreException">Not a registry database, damaged, or of a newer version.</exception>
    public static SqliteConnection Open(string path, StoreIdentity? identity = null)
    {
        try
        {
            CreatePrivateFile(path);
            var connection = new SqliteConnection(ConnectionString(path, SqliteOpenMode.ReadWrite));
            try
            {
                connection.Open();
                // FULL: with NORMAL acknowledged transactions were lost in simulated power cuts.
                Execute(connection, "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA busy_timeout=5000;");
                Prepare(connection, path, identity ?? new StoreIdentity(Guid.NewGuid().ToString(), 1));
                return connection;
            }
            catch
            {
                connection.Dispose();
                throw;
            }
        }
        catch (SqliteException e)
        {
            throw Damaged(path, e.Message, e);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new RegistryStoreException($"cannot open the registry database {path}: {e.Message}", e);
        }
    }

    public static string ConnectionString(string path, SqliteOpenMode mode) =>
        new SqliteConnectionStringBuilder { DataSource = path, Mode = mode, Pooling = false }.ToString();

    public static void Execute(SqliteConnection connection, string sql)
    {
        using var command = connection.CreateCommand();
        command.CommandText = sql;
        command.ExecuteNonQuery();
    }

    private static object? Scalar(SqliteConnection connection, string sql)
    {
        using var command = connection.CreateCommand();
        command.CommandText = sql;
        return command.ExecuteScalar();
    }

    private static void Prepare(SqliteConnection connection, string path, StoreIdentity identity)
    {
        var version = Convert.ToInt32(Scalar(connection, "PRAGMA user_version"), null);
        if (version > Version)
            throw new RegistryStoreException(
                $"the registry database {path} has version {version}; this program knows up to {Version}: upgrade it");
        if (version == 1)
        {
            using var upgrade = connection.BeginTransaction();
            Execute(connection, FromVersion1);
            Execute(connection, $"PRAGMA user_version = {Version}");
            upgrade.Commit();
            version = Version;
        }
        if (version == Version)
        {
            var check = Scalar(connection, "PRAGMA quick_check(1)") as string;
            if (check != "ok")
                throw Damaged(path, check ?? "no answer", null);
            return;
        }
        if (Convert.ToInt64(Scalar(connection, "SELECT count(*) FROM sqlite_master"), null) != 0)
            throw Damaged(path, "it is a database of another program", null);
        using var transaction = connection.BeginTransaction();
        Execute(connection, Create);
        using var insert = connection.CreateCommand();
        insert.CommandText = "INSERT INTO meta VALUES ('cluster', $c), ('incarnation', $i), ('revision', 0), ('compacted', 0)";
        insert.Parameters.AddWithValue("$c", identity.ClusterId);
        insert.Parameters.AddWithValue("$i", identity.Incarnation);
        insert.ExecuteNonQuery();
        Execute(connection, $"PRAGMA user_version = {Version}");
        transaction.Commit();
    }

    /// <summary>The registry holds the CA's key: the file is its owner's alone from its first moment (SQLite's -wal and -shm follow it).</summary>
    private static void CreatePrivateFile(string path)
    {
        if (File.Exists(path))
            return;
        using var _ = new FileStream(path, new FileStreamOptions
        {
            Mode = FileMode.OpenOrCreate,
            Access = FileAccess.ReadWrite,
            UnixCreateMode = UnixFileMode.UserRead | UnixFileMode.UserWrite,
        });
    }

    private static RegistryStoreException Damaged(string path, string why, Exception? inner) => new(
        $"the registry database {path} cannot be read: {why}; restore a backup with 'overlaynet restore FILE', "
        + "or move the file away to begin an empty cluster", inner);
}
