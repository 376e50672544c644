using System.Reflection;
using Xunit.Abstractions;
using Xunit.Sdk;

[assembly: TestFramework("OverlayNet.GuestTests.Framework.GuestTestFramework", "OverlayNet.GuestTests")]
[assembly: CollectionBehavior(DisableTestParallelization = true)]

namespace OverlayNet.GuestTests.Framework;

/// <summary>
/// Makes every test of this assembly run in the guest kernel: on the host, a run of test cases becomes one boot of
/// the guest with exactly those cases in it, and each result is reported as if it had been run here.
/// </summary>
public sealed class GuestTestFramework(IMessageSink sink) : XunitTestFramework(sink)
{
    protected override ITestFrameworkExecutor CreateExecutor(AssemblyName assemblyName) => Guest.IsInside
        ? base.CreateExecutor(assemblyName)
        : new HostExecutor(assemblyName, SourceInformationProvider, DiagnosticMessageSink);

    private sealed class HostExecutor(AssemblyName assembly, ISourceInformationProvider source, IMessageSink diagnostics)
        : XunitTestFrameworkExecutor(assembly, source, diagnostics)
    {
        protected override void RunTestCases(
            IEnumerable<IXunitTestCase> testCases, IMessageSink executionMessageSink, ITestFrameworkExecutionOptions executionOptions)
        {
            var cases = testCases.ToList();
            new HostReport(TestAssembly, executionMessageSink).Run(cases);
        }
    }
}
