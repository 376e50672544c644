using Xunit.Abstractions;
using Xunit.Sdk;

namespace OverlayNet.GuestTests.Framework;

/// <summary>Turns what a guest reported into the messages xunit's own runner would have sent.</summary>
internal sealed class HostReport(ITestAssembly assembly, IMessageSink sink)
{
    internal void Run(IReadOnlyList<IXunitTestCase> cases)
    {
        sink.OnMessage(new TestAssemblyStarting(cases, assembly, DateTime.Now, "guest kernel", nameof(GuestTestFramework)));
        var total = new RunSummary();
        if (cases.Count > 0)
        {
            var (results, log) = Guest.Run(cases.Select(one => one.UniqueID));
            var byCase = results.ToLookup(result => result.CaseId);
            foreach (var collection in cases.GroupBy(one => one.TestMethod.TestClass.TestCollection, TestCollectionComparer.Instance))
                total.Aggregate(Collection(collection.Key, [.. collection], byCase, log));
        }
        sink.OnMessage(new TestAssemblyFinished(cases, assembly, total.Time, total.Total, total.Failed, total.Skipped));
    }

    private RunSummary Collection(ITestCollection collection, List<IXunitTestCase> cases, ILookup<string, GuestResult> results, string log)
    {
        var total = new RunSummary();
        sink.OnMessage(new TestCollectionStarting(cases, collection));
        foreach (var ofClass in cases.GroupBy(one => one.TestMethod.TestClass, TestClassComparer.Instance))
        {
            var inClass = new RunSummary();
            sink.OnMessage(new TestClassStarting(ofClass, ofClass.Key));
            foreach (var ofMethod in ofClass.GroupBy(one => one.TestMethod, TestMethodComparer.Instance))
            {
                var inMethod = new RunSummary();
                sink.OnMessage(new TestMethodStarting(ofMethod, ofMethod.Key));
                foreach (var one in ofMethod)
                    inMethod.Aggregate(Case(one, [.. results[one.UniqueID]], log));
                sink.OnMessage(new TestMethodFinished(ofMethod, ofMethod.Key, inMethod.Time, inMethod.Total, inMethod.Failed, inMethod.Skipped));
                inClass.Aggregate(inMethod);
            }
            sink.OnMessage(new TestClassFinished(ofClass, ofClass.Key, inClass.Time, inClass.Total, inClass.Failed, inClass.Skipped));
            total.Aggregate(inClass);
        }
        sink.OnMessage(new TestCollectionFinished(cases, collection, total.Time, total.Total, total.Failed, total.Skipped));
        return total;
    }

    private RunSummary Case(IXunitTestCase one, List<GuestResult> results, string log)
    {
        var total = new RunSummary();
        sink.OnMessage(new TestCaseStarting(one));
        var ended = results.Where(result => result.Outcome != "started").ToList();
        foreach (var name in results.Where(result => result.Outcome == "started").Select(result => result.Name).Except(ended.Select(result => result.Name)))
            ended.Add(Lost(one, name, $"the guest ended during this test\n{log}"));
        if (ended.Count == 0)
            ended.Add(Lost(one, one.DisplayName, $"the guest ended before this test\n{log}"));
        foreach (var result in ended)
        {
            var test = new XunitTest(one, result.Name);
            sink.OnMessage(new TestStarting(test));
            sink.OnMessage(result.Outcome switch
            {
                "passed" => new TestPassed(test, result.Seconds, result.Output),
                "skipped" => new TestSkipped(test, result.SkipReason),
                _ => new TestFailed(test, result.Seconds, result.Output, result.ExceptionTypes, result.Messages, result.StackTraces, result.ParentIndices),
            });
            sink.OnMessage(new TestFinished(test, result.Seconds, result.Output));
            total.Aggregate(new RunSummary
            {
                Total = 1,
                Failed = result.Outcome == "failed" ? 1 : 0,
                Skipped = result.Outcome == "skipped" ? 1 : 0,
                Time = result.Seconds,
            });
        }
        sink.OnMessage(new TestCaseFinished(one, total.Time, total.Total, total.Failed, total.Skipped));
        return total;
    }

    private static GuestResult Lost(IXunitTestCase one, string name, string why) => new()
    {
        CaseId = one.UniqueID,
        Name = name,
        Outcome = "failed",
        ExceptionTypes = [typeof(InvalidOperationException).FullName!],
        Messages = [why],
        StackTraces = [null],
        ParentIndices = [-1],
    };
}
