using System.Collections.Concurrent;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.Logging;
using OverlayNet.Tools;

namespace OverlayNet.UnitTests.Tools;

/// <summary>A daemon's socket that gives fixed answers and keeps what it was asked.</summary>
internal sealed class FakeDaemon : IAsyncDisposable
{
    private readonly WebApplication _application;
    private readonly ConcurrentDictionary<string, (int Status, string Body)> _answers = new();

    private FakeDaemon(WebApplication application, string socket)
    {
        _application = application;
        Socket = socket;
    }

    public string Socket { get; }

    /// <summary>"METHOD /path?query" and body, in the order of arrival.</summary>
    public ConcurrentQueue<(string Request, string Body)> Asked { get; } = new();

    public static async Task<FakeDaemon> Start()
    {
        var socket = Path.Combine(Path.GetTempPath(), $"overlaynet-test-{Guid.NewGuid():N}.sock");
        var builder = WebApplication.CreateSlimBuilder();
        builder.Logging.ClearProviders();
        builder.WebHost.ConfigureKestrel(options => options.ListenUnixSocket(socket));
        var application = builder.Build();
        var daemon = new FakeDaemon(application, socket);
        application.Run(daemon.Answer);
        await application.StartAsync();
        return daemon;
    }

    public FakeDaemon On(string request, string body, int status = 200)
    {
        _answers[request] = (status, body);
        return this;
    }

    /// <summary>Runs the program against this daemon.</summary>
    public Task<(int Code, string Output, string Error)> Run(params string[] arguments) => Cli.Run(["--socket", Socket, .. arguments]);

    public async ValueTask DisposeAsync()
    {
        await _application.DisposeAsync();
        File.Delete(Socket);
    }

    private async Task Answer(HttpContext context)
    {
        using var reader = new StreamReader(context.Request.Body);
        var request = $"{context.Request.Method} {context.Request.Path}{context.Request.QueryString}";
        Asked.Enqueue((request, await reader.ReadToEndAsync()));
        var (status, body) = _answers.TryGetValue(request, out var answer)
            ? answer
            : (404, $$"""{"code":"not-found","message":"nothing at {{request}}","remedy":"ask for something else"}""");
        context.Response.StatusCode = status;
        await context.Response.WriteAsync(body);
    }
}

/// <summary>The program inside this process.</summary>
internal static class Cli
{
    public static async Task<(int Code, string Output, string Error)> Run(params string[] arguments)
    {
        var output = new StringWriter();
        var error = new StringWriter();
        var code = await CommandLine.Run(arguments, output, error, CancellationToken.None);
        return (code, output.ToString(), error.ToString());
    }
}
