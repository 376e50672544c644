using OverlayNet.Contracts;
using OverlayNet.Daemon.Agent;
using OverlayNet.Daemon.Api;
using OverlayNet.Daemon.Hosting;
using OverlayNet.Daemon.Registry;

namespace OverlayNet.Daemon.Runtimes.Cni;

/// <summary>The plugin's way in. Refusals are CNI's own error objects: the plugin prints the body as it is.</summary>
internal static class CniRoute
{
    public static ApiRoute For(NodeDaemon daemon) =>
        new("POST", "/v1/cni", Access.Local, "A call of the CNI plugin; answers and refusals are CNI's", call => Handle(call, daemon), OverlayNetJson.Default.CniRequest);

    private static async Task Handle(ApiCall call, NodeDaemon daemon)
    {
        var version = CniVersions.Newest;
        try
        {
            var request = await call.BodyAsync(OverlayNetJson.Default.CniRequest, strict: false).ConfigureAwait(false);
            version = VersionOf(request);
            await Answer(call, StatusCodes.Status200OK, await new CniHandler(AgentFor(daemon, request)).Handle(request, call.Aborted).ConfigureAwait(false)).ConfigureAwait(false);
        }
        catch (CniException e)
        {
            await Answer(call, StatusCodes.Status422UnprocessableEntity, CniResult.WriteError(version, e.Code, e.Message, e.Details)).ConfigureAwait(false);
        }
        catch (RegistryException e)
        {
            await Answer(call, StatusCodes.Status422UnprocessableEntity, CniResult.WriteError(version, CniErrorCode.Decode, e.Error.Message, e.Error.Remedy ?? "")).ConfigureAwait(false);
        }
    }

    private static NodeAgent AgentFor(NodeDaemon daemon, CniRequest request)
    {
        try
        {
            return daemon.RequireAgent();
        }
        catch (RegistryException e)
        {
            throw new CniException(request.Command == "STATUS" ? CniErrorCode.NotAvailable : CniErrorCode.TryAgain, e.Error.Message, e.Error.Remedy ?? "");
        }
    }

    private static string VersionOf(CniRequest request) =>
        request.Config.ValueKind == System.Text.Json.JsonValueKind.Object && request.Config.TryGetProperty("cniVersion", out var version)
        && version.GetString() is { } text && CniVersions.Supported.Contains(text) ? text : CniVersions.Newest;

    private static async Task Answer(ApiCall call, int status, byte[] body)
    {
        call.Context.Response.StatusCode = status;
        call.Context.Response.ContentType = "application/json";
        call.Context.Response.ContentLength = body.Length;
        await call.Context.Response.Body.WriteAsync(body, call.Aborted).ConfigureAwait(false);
    }
}
