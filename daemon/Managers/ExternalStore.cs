using System.Net.Security;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using OverlayNet.Daemon.Configuration;
using OverlayNet.Daemon.Registry.Store;
using OverlayNet.Daemon.Registry.Store.Etcd;
using OverlayNet.Daemon.Security;

namespace OverlayNet.Daemon.Managers;

/// <summary>A registry in an etcd that somebody else runs and looks after: managers are its clients, and no more.</summary>
internal static class ExternalStore
{
    public static bool IsUsed(DaemonOptions options) => options.Store.Count > 0;

    /// <exception cref="RegistryStoreException">A certificate or key cannot be read.</exception>
    public static EtcdClientOptions ClientOptions(DaemonOptions options, string clientId, ILogger logger, TimeProvider time) => new()
    {
        Members = [.. options.Store.Select(member => new UriBuilder(member) { Scheme = options.StoreCa is null ? "http" : "https" }.Uri)],
        ClientId = clientId,
        Handler = () => Handler(options),
        Logger = logger,
        Time = time,
    };

    /// <summary>Makes the registry there.</summary>
    /// <exception cref="RegistryStoreException">There is one already, or etcd does not answer.</exception>
    public static async Task<EtcdStore> CreateAsync(DaemonOptions options, ILogger logger, TimeProvider time, CancellationToken cancel)
    {
        var client = ClientOptions(options, options.NodeName, logger, time);
        if (await EtcdStore.OpenAsync(client, cancel: cancel).ConfigureAwait(false) is { } there)
        {
            await there.DisposeAsync().ConfigureAwait(false);
            throw new RegistryStoreException($"etcd at {client.Members[0].Authority} holds the registry of cluster {there.Identity.ClusterId} already; join that cluster, or delete what is under {EtcdStore.DefaultPrefix} in it");
        }
        return await EtcdStore.CreateAsync(client, new StoreIdentity(Guid.NewGuid().ToString("N")[..16], StoreIdentity.Next(0, time.GetUtcNow())), [], cancel: cancel).ConfigureAwait(false);
    }

    private static SocketsHttpHandler Handler(DaemonOptions options)
    {
        var handler = new SocketsHttpHandler { UseProxy = false, ConnectTimeout = TimeSpan.FromSeconds(3) };
        if (options.StoreCa is not { } ca)
            return handler;
        try
        {
            // Read at each connection's making: files that are replaced count from then on.
            var authorities = TrustBundle.Parse(File.ReadAllText(ca));
            handler.SslOptions.RemoteCertificateValidationCallback = (_, certificate, _, errors) =>
                (errors & ~SslPolicyErrors.RemoteCertificateChainErrors) == SslPolicyErrors.None && certificate is X509Certificate2 server && TrustBundle.Issuer(server, authorities) is not null;
            if (options.StoreCertificate is { } file)
            {
                var certificate = X509Certificate2.CreateFromPemFile(file, options.StoreKey ?? file);
                handler.SslOptions.LocalCertificateSelectionCallback = (_, _, _, _, _) => certificate;
            }
            return handler;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or CryptographicException)
        {
            handler.Dispose();
            throw new RegistryStoreException($"etcd.ca, etcd.cert or etcd.key cannot be read: {e.Message}", e);
        }
    }
}
