using Microsoft.AspNetCore.Server.Kestrel.Core;
using Microsoft.AspNetCore.Server.Kestrel.Transport.Sockets;
using OverlayNet.Daemon.Api;

namespace OverlayNet.Daemon.Hosting;

/// <summary>Kestrel with nothing around it: no configuration files, no watchers, no default endpoints.</summary>
internal static class WebHost
{
    public static WebApplication Build(ILoggerFactory loggers, Action<KestrelServerOptions> listen)
    {
        // A content root of our own: the default is the working directory, which the file watcher would walk when it is '/'.
        var builder = WebApplication.CreateEmptyBuilder(new WebApplicationOptions { ContentRootPath = AppContext.BaseDirectory });
        builder.Services.AddSingleton(loggers);
        builder.Services.AddRoutingCore();
        builder.Services.Configure<SocketTransportOptions>(LocalSocket.Configure);
        builder.WebHost.UseKestrelCore().UseKestrelHttpsConfiguration();
        builder.WebHost.ConfigureKestrel(kestrel =>
        {
            kestrel.AddServerHeader = false;
            listen(kestrel);
        });
        var app = builder.Build();
        app.UseRouting();
        return app;
    }
}
