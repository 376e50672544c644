using Microsoft.Data.Sqlite;
using SQLitePCL;

namespace OverlayNet.Daemon.Registry.Store;

/// <summary>
/// A statement that runs for every commit: prepared once, bound by position. A <see cref="SqliteCommand"/> looks its parameters up by
/// name, makes a reader and boxes each value every time, which on a fast disk was an eighth of what a commit took. Not for concurrent use.
/// </summary>
internal sealed class SqliteStatement : IDisposable
{
    private readonly sqlite3 _database;
    private readonly sqlite3_stmt _statement;

    /// <exception cref="SqliteException">SQLite does not understand it.</exception>
    public SqliteStatement(SqliteConnection connection, string sql)
    {
        _database = connection.Handle!;
        Check(raw.sqlite3_prepare_v3(_database, sql, raw.SQLITE_PREPARE_PERSISTENT, out _statement));
    }

    /// <param name="place">From 1.</param>
    public void Bind(int place, string text) => Check(raw.sqlite3_bind_text(_statement, place, text));

    /// <inheritdoc cref="Bind(int, string)"/>
    public void Bind(int place, long number) => Check(raw.sqlite3_bind_int64(_statement, place, number));

    /// <inheritdoc cref="Bind(int, string)"/>
    public void Bind(int place, ReadOnlySpan<byte> blob) =>
        // An empty span has no address, which SQLite would take for NULL.
        Check(blob.IsEmpty ? raw.sqlite3_bind_zeroblob(_statement, place, 0) : raw.sqlite3_bind_blob(_statement, place, blob));

    /// <inheritdoc cref="Bind(int, string)"/>
    public void BindNull(int place) => Check(raw.sqlite3_bind_null(_statement, place));

    /// <summary>Runs to the end; of the first row, if there is one, two numbers.</summary>
    /// <returns>False: there was no row.</returns>
    /// <exception cref="SqliteException">It failed; it may be run again.</exception>
    public bool Run(out long first, out long second)
    {
        (first, second) = (0, 0);
        var found = false;
        int result;
        while ((result = raw.sqlite3_step(_statement)) == raw.SQLITE_ROW)
        {
            if (found)
                continue;
            found = true;
            first = raw.sqlite3_column_int64(_statement, 0);
            second = raw.sqlite3_column_count(_statement) > 1 ? raw.sqlite3_column_int64(_statement, 1) : 0;
        }
        try
        {
            Check(result);
        }
        finally
        {
            // Its result is that of the last step again.
            _ = raw.sqlite3_reset(_statement);
        }
        return found;
    }

    /// <returns>How many rows it changed.</returns>
    /// <inheritdoc cref="Run(out long, out long)"/>
    public int Run()
    {
        Run(out _, out _);
        return raw.sqlite3_changes(_database);
    }

    public void Dispose() => _statement.Dispose();

    private void Check(int result) => SqliteException.ThrowExceptionForRC(result, _database);
}
