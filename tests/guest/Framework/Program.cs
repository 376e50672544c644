using System.Text.Json;
using Xunit.Abstractions;
using Xunit.Sdk;

namespace OverlayNet.GuestTests.Framework;

/// <summary>Inside the guest: runs the test cases of a list and writes one line a result. Arguments: LIST RESULTS.</summary>
public static class Program
{
    public static int Main(string[] arguments)
    {
        if (!Guest.IsInside || arguments.Length != 2)
        {
            Console.Error.WriteLine("this program is started in the guest kernel; run 'dotnet test tests/guest' instead");
            return 2;
        }
        var wanted = File.ReadAllLines(arguments[0]).ToHashSet();
        using var output = new StreamWriter(arguments[1]) { AutoFlush = true };
        var assembly = typeof(Program).Assembly;
        using var framework = new GuestTestFramework(new Sink(_ => { }));
        var found = new List<ITestCase>();
        using (var discovered = new ManualResetEventSlim())
        using (var discoverer = framework.GetDiscoverer(new ReflectionAssemblyInfo(assembly)))
        {
            discoverer.Find(false, new Sink(message =>
            {
                if (message is ITestCaseDiscoveryMessage { TestCase: var one } && wanted.Contains(one.UniqueID))
                    found.Add(one);
                else if (message is IDiscoveryCompleteMessage)
                    discovered.Set();
            }), new Defaults());
            discovered.Wait();
        }
        using var finished = new ManualResetEventSlim();
        using var executor = framework.GetExecutor(assembly.GetName());
        executor.RunTests(found, new Sink(message =>
        {
            if (Describe(message) is { } result)
                output.WriteLine(JsonSerializer.Serialize(result, GuestJson.Default.GuestResult));
            if (message is ITestAssemblyFinished)
                finished.Set();
        }), new Defaults());
        finished.Wait();
        return 0;
    }

    private static GuestResult? Describe(IMessageSinkMessage message) => message switch
    {
        ITestStarting started => Result(started, "started"),
        ITestPassed passed => Result(passed, "passed"),
        ITestSkipped skipped => Result(skipped, "skipped") with { SkipReason = skipped.Reason },
        ITestFailed failed => Failed(Result(failed, "failed"), failed),
        ITestCaseFinished finished => new GuestResult { CaseId = finished.TestCase.UniqueID, Name = finished.TestCase.DisplayName, Outcome = "ended" },
        // A fixture or a clean-up that threw: it belongs to no test, so every case it covers has it.
        ITestClassCleanupFailure or ITestCollectionCleanupFailure or ITestAssemblyCleanupFailure or ITestCleanupFailure or IErrorMessage =>
            Report((IFailureInformation)message),
        _ => null,
    };

    private static GuestResult Result(ITestMessage message, string outcome) => new()
    {
        CaseId = message.TestCase.UniqueID,
        Name = message.Test.DisplayName,
        Outcome = outcome,
        Seconds = (message as ITestResultMessage)?.ExecutionTime ?? 0,
        Output = (message as ITestResultMessage)?.Output ?? "",
    };

    private static GuestResult Failed(GuestResult result, IFailureInformation failure) => result with
    {
        ExceptionTypes = failure.ExceptionTypes,
        Messages = failure.Messages,
        StackTraces = failure.StackTraces,
        ParentIndices = failure.ExceptionParentIndices,
    };

    private static GuestResult? Report(IFailureInformation failure)
    {
        Console.Error.WriteLine(ExceptionUtility.CombineMessages(failure) + "\n" + ExceptionUtility.CombineStackTraces(failure));
        return failure is ITestMessage test ? Failed(Result(test, "failed"), failure) : null;
    }

    private sealed class Sink(Action<IMessageSinkMessage> action) : LongLivedMarshalByRefObject, IMessageSink
    {
        public bool OnMessage(IMessageSinkMessage message)
        {
            action(message);
            return true;
        }
    }

    /// <summary>No option set: xunit's defaults, and what the assembly's attributes say.</summary>
    private sealed class Defaults : ITestFrameworkDiscoveryOptions, ITestFrameworkExecutionOptions
    {
        public TValue GetValue<TValue>(string name) => default!;

        public void SetValue<TValue>(string name, TValue value) => throw new NotSupportedException(name);
    }
}
