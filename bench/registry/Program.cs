using System.Diagnostics;
using System.Globalization;
using System.Net;
using System.Net.Sockets;
using System.Text.Json.Nodes;
using Microsoft.Data.Sqlite;
using OverlayNet.Daemon.Registry.Store;
using OverlayNet.Daemon.Registry.Store.Etcd;

namespace OverlayNet.Bench.Registry;

/// <summary>Store and raw engine take turns on the same disk; what counts is their ratio.</summary>
internal static class Program
{
    private const int ValueBytes = 400;
    private static readonly int[] Writers = [1, 16, 64];

    private static async Task<int> Main(string[] args)
    {
        var (quick, json) = (args.Contains("--quick"), args.Contains("--json"));
        var (rounds, time) = quick ? (3, TimeSpan.FromSeconds(1)) : (7, TimeSpan.FromSeconds(3));
        var directory = Directory.CreateTempSubdirectory("overlaynet-bench-registry-").FullName;
        using var etcd = new Etcd(Path.Combine(directory, "etcd"));
        try
        {
            await etcd.WaitAsync();
            await using var sqlite = SqliteStore.Open(new SqliteStoreOptions { Path = Path.Combine(directory, "store.db") });
            using var rawSqlite = new RawSqlite(Path.Combine(directory, "raw.db"));
            await using var etcdStore = await EtcdStore.CreateAsync(etcd.Options, new StoreIdentity("bench", 1), []);
            using var rawEtcd = new RawEtcd(etcd.Url);
            var results = new JsonObject();
            foreach (var (name, store, raw) in new (string, IRegistryStore, IRaw)[] { ("sqlite", sqlite, rawSqlite), ("etcd", etcdStore, rawEtcd) })
            {
                foreach (var writers in Writers)
                {
                    var (ours, theirs, ratios) = (new List<double>(), new List<double>(), new List<double>());
                    for (var round = -1; round < rounds; round++)
                    {
                        // Both orders alike often: what the disk does meanwhile must not favour one.
                        var first = round % 2 == 0;
                        var a = first ? await StoreRateAsync(store, writers, time) : await raw.RateAsync(writers, time);
                        var b = first ? await raw.RateAsync(writers, time) : await StoreRateAsync(store, writers, time);
                        if (round < 0)
                            continue;
                        ours.Add(first ? a : b);
                        theirs.Add(first ? b : a);
                        ratios.Add(ours[^1] / theirs[^1]);
                    }
                    results[$"{name}-{writers.ToString(CultureInfo.InvariantCulture)}"] = new JsonObject
                    {
                        ["ratio"] = Math.Round(Median(ratios), 2),
                        ["ratioLow"] = Math.Round(ratios.Min(), 2),
                        ["ratioHigh"] = Math.Round(ratios.Max(), 2),
                        ["store"] = Math.Round(Median(ours)),
                        ["raw"] = Math.Round(Median(theirs)),
                    };
                }
                var delays = await DelaysAsync(store, quick ? 300 : 2000);
                results[$"{name}-change-to-follower"] = new JsonObject { ["p50Ms"] = Math.Round(delays[delays.Count / 2], 2), ["p99Ms"] = Math.Round(delays[(int)(delays.Count * 0.99)], 2), ["maxMs"] = Math.Round(delays[^1], 2) };
            }
            if (json)
                Console.WriteLine(results.ToJsonString());
            else
                Print(results);
            return 0;
        }
        finally
        {
            etcd.Dispose();
            Directory.Delete(directory, recursive: true);
        }
    }

    private static void Print(JsonObject results)
    {
        Console.WriteLine($"{"store, writers",-28}{"ratio to raw",-14}{"[low-high]",-14}{"store/s",10}{"raw/s",10}");
        foreach (var (name, value) in results.Where(r => r.Value!["ratio"] is not null))
            Console.WriteLine($"{name,-28}{value!["ratio"],-14}{$"[{value["ratioLow"]}-{value["ratioHigh"]}]",-14}{value["store"],10}{value["raw"],10}");
        foreach (var (name, value) in results.Where(r => r.Value!["p50Ms"] is not null))
            Console.WriteLine($"{name,-28}p50 {value!["p50Ms"]} ms, p99 {value["p99Ms"]} ms, max {value["maxMs"]} ms, at 200 changes/s");
    }

    /// <summary>What the registry does: a new object guarded to be absent, and one more key beside it.</summary>
    private static Task<double> StoreRateAsync(IRegistryStore store, int writers, TimeSpan time) => RateAsync(writers, time, async (writer, n) =>
    {
        var key = $"bench/{writer}/{n % 200}";
        await store.CommitAsync(new Transaction { Guards = [Guard.Absent($"absent/{key}")], Puts = [new Put(key, new byte[ValueBytes])] });
    });

    internal static async Task<double> RateAsync(int writers, TimeSpan time, Func<int, int, Task> commit)
    {
        var watch = Stopwatch.StartNew();
        var counts = await Task.WhenAll(Enumerable.Range(0, writers).Select(writer => Task.Run(async () =>
        {
            var n = 0;
            for (; watch.Elapsed < time; n++)
                await commit(writer, n);
            return n;
        })));
        return counts.Sum() / watch.Elapsed.TotalSeconds;
    }

    private static async Task<List<double>> DelaysAsync(IRegistryStore store, int count)
    {
        var sent = new System.Collections.Concurrent.ConcurrentDictionary<string, long>();
        var delays = new List<double>();
        var from = (await store.RangeAsync("delay/")).Revision + 1;
        using var stop = new CancellationTokenSource();
        var follower = Task.Run(async () =>
        {
            await foreach (var batch in store.WatchAsync("delay/", from, stop.Token))
            {
                delays.AddRange(batch.Changes.Select(change => Stopwatch.GetElapsedTime(sent[change.Key]).TotalMilliseconds));
                if (delays.Count == count)
                    return;
            }
        });
        using var pace = new PeriodicTimer(TimeSpan.FromMilliseconds(5));
        for (var i = 0; i < count && await pace.WaitForNextTickAsync(); i++)
        {
            var key = $"delay/{i:d6}";
            sent[key] = Stopwatch.GetTimestamp();
            _ = store.CommitAsync(new Transaction { Puts = [new Put(key, new byte[ValueBytes])] }).AsTask();
        }
        await follower.WaitAsync(TimeSpan.FromSeconds(60));
        delays.Sort();
        return delays;
    }

    private static double Median(List<double> values) => values.Order().ElementAt(values.Count / 2);

    internal interface IRaw
    {
        Task<double> RateAsync(int writers, TimeSpan time);
    }

    /// <summary>SQLite as fast as it durably goes for one writing thread: WAL, FULL, as many rows a transaction as there are writers.</summary>
    private sealed class RawSqlite : IRaw, IDisposable
    {
        private readonly SqliteConnection _connection;

        public RawSqlite(string path)
        {
            _connection = new SqliteConnection($"Data Source={path};Pooling=False");
            _connection.Open();
            Execute("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; CREATE TABLE kv (key TEXT PRIMARY KEY, value BLOB, rev INTEGER) WITHOUT ROWID; CREATE TABLE history (rev INTEGER, key TEXT, value BLOB, PRIMARY KEY (key, rev)) WITHOUT ROWID;");
        }

        public Task<double> RateAsync(int writers, TimeSpan time) => Task.Run(() =>
        {
            using var put = _connection.CreateCommand();
            put.CommandText = "INSERT INTO kv VALUES ($k, $v, $r) ON CONFLICT (key) DO UPDATE SET value = $v, rev = $r; INSERT OR REPLACE INTO history VALUES ($r, $k, $v);";
            var (key, value, revision) = (put.Parameters.Add("$k", SqliteType.Text), put.Parameters.Add("$v", SqliteType.Blob), put.Parameters.Add("$r", SqliteType.Integer));
            value.Value = new byte[ValueBytes];
            var watch = Stopwatch.StartNew();
            var n = 0L;
            while (watch.Elapsed < time)
            {
                using var transaction = _connection.BeginTransaction();
                put.Transaction = transaction;
                for (var writer = 0; writer < writers; writer++)
                {
                    (key.Value, revision.Value) = ($"bench/{writer}/{n / writers % 200}", n++);
                    put.ExecuteNonQuery();
                }
                transaction.Commit();
            }
            return n / watch.Elapsed.TotalSeconds;
        });

        public void Dispose() => _connection.Dispose();

        private void Execute(string sql)
        {
            using var command = _connection.CreateCommand();
            command.CommandText = sql;
            command.ExecuteNonQuery();
        }
    }

    /// <summary>etcd's own put, by a bare gRPC call written as bytes: no guards, no answers read beyond their end.</summary>
    private sealed class RawEtcd(Uri address) : IRaw, IDisposable
    {
        private readonly HttpClient _http = new(new SocketsHttpHandler { UseProxy = false });

        public Task<double> RateAsync(int writers, TimeSpan time) => Program.RateAsync(writers, time, async (writer, n) =>
        {
            using var request = new HttpRequestMessage(HttpMethod.Post, new Uri(address, "/etcdserverpb.KV/Put"))
            {
                Version = HttpVersion.Version20,
                VersionPolicy = HttpVersionPolicy.RequestVersionExact,
                Content = new ByteArrayContent(Frame($"raw/{writer}/{n % 200}")),
            };
            request.Headers.TE.Add(new("trailers"));
            request.Content.Headers.ContentType = new("application/grpc");
            using var response = await _http.SendAsync(request);
            await response.Content.ReadAsByteArrayAsync();
            if (response.TrailingHeaders.GetValues("grpc-status").Single() != "0")
                throw new InvalidOperationException("etcd refused a put");
        });

        public void Dispose() => _http.Dispose();

        /// <summary>PutRequest: key is field 1, value field 2 (rpc.proto).</summary>
        private static byte[] Frame(string key)
        {
            var name = System.Text.Encoding.ASCII.GetBytes(key);
            byte[] message = [0x0A, (byte)name.Length, .. name, 0x12, (ValueBytes & 0x7F) | 0x80, ValueBytes >> 7, .. new byte[ValueBytes]];
            return [0, 0, 0, (byte)(message.Length >> 8), (byte)message.Length, .. message];
        }
    }

    private sealed class Etcd : IDisposable
    {
        private readonly Process _process;

        public Etcd(string directory)
        {
            Url = new Uri($"http://127.0.0.1:{FreePort()}");
            var peer = $"http://127.0.0.1:{FreePort()}";
            var start = new ProcessStartInfo("etcd") { UseShellExecute = false, RedirectStandardError = true, RedirectStandardOutput = true };
            foreach (var argument in (string[])["--name", "bench", "--data-dir", directory, "--listen-client-urls", Url.ToString().TrimEnd('/'), "--advertise-client-urls", Url.ToString().TrimEnd('/'),
                "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", $"bench={peer}", "--logger", "zap", "--log-level", "error", "--max-txn-ops", "1024"])
                start.ArgumentList.Add(argument);
            _process = Process.Start(start)!;
            _process.BeginErrorReadLine();
            _process.BeginOutputReadLine();
        }

        public Uri Url { get; }

        public EtcdClientOptions Options => new() { Members = [Url] };

        public async Task WaitAsync()
        {
            for (var attempt = 0; ; attempt++)
            {
                try
                {
                    await EtcdStore.OpenAsync(Options);
                    return;
                }
                catch (RegistryStoreException) when (attempt < 20)
                {
                    await Task.Delay(200);
                }
            }
        }

        public void Dispose()
        {
            if (!_process.HasExited)
            {
                _process.Kill();
                _process.WaitForExit();
            }
        }

        private static int FreePort()
        {
            using var socket = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
            socket.Bind(new IPEndPoint(IPAddress.Loopback, 0));
            return ((IPEndPoint)socket.LocalEndPoint!).Port;
        }
    }
}
