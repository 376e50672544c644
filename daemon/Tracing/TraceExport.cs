using OpenTelemetry;
using OpenTelemetry.Exporter;
using OpenTelemetry.Resources;
using OpenTelemetry.Trace;
using OverlayNet.Contracts;

namespace OverlayNet.Daemon.Tracing;

/// <summary>Sends the daemon's spans to a collector by OTLP over HTTP (https://opentelemetry.io/docs/specs/otlp/#otlphttp), protobuf encoded.</summary>
internal static class TraceExport
{
    private const int DelayMilliseconds = 1000, TimeoutMilliseconds = 5000;

    /// <param name="endpoint">A collector's base, to which <c>/v1/traces</c> is added, or the whole address. Null: nothing is traced.</param>
    /// <returns>Dispose it to send what is left; null: nothing is traced.</returns>
    public static IDisposable? Start(Uri? endpoint, string nodeName) => endpoint is null ? null : Sdk.CreateTracerProviderBuilder()
        .AddSource(Traces.SourceName)
        .SetSampler(new ParentBasedSampler(new AlwaysOnSampler()))
        .SetResourceBuilder(ResourceBuilder.CreateEmpty().AddService("overlaynetd", serviceVersion: Protocol.Release, autoGenerateServiceInstanceId: false, serviceInstanceId: nodeName)
            .AddAttributes([new("host.name", Environment.MachineName)]))
        .AddOtlpExporter(options =>
        {
            options.Protocol = OtlpExportProtocol.HttpProtobuf;
            options.Endpoint = endpoint.AbsolutePath == "/" ? new Uri(endpoint, "/v1/traces") : endpoint;
            options.TimeoutMilliseconds = TimeoutMilliseconds;
            options.BatchExportProcessorOptions = new BatchExportProcessorOptions<System.Diagnostics.Activity> { ScheduledDelayMilliseconds = DelayMilliseconds };
        })
        .Build();
}
