using Xunit.Abstractions;
using Xunit.Sdk;

namespace OverlayNet.GuestTests.Framework;

/// <summary>Turns what a guest reports into the messages xunit's own runner would have sent, as it comes.</summary>
internal sealed class HostReport(ITestAssembly assembly, IMessageSink sink)
{
    private readonly Dictionary<ITestCollection, RunSummary> collections = new(TestCollectionComparer.Instance);
    private readonly Dictionary<ITestClass, RunSummary> classes = new(TestClassComparer.Instance);
    private readonly Dictionary<ITestMethod, RunSummary> methods = new(TestMethodComparer.Instance);
    private readonly Dictionary<string, List<GuestResult>> pending = [];
    private IReadOnlyList<IXunitTestCase> all = [];

    internal void Run(IReadOnlyList<IXunitTestCase> cases)
    {
        all = cases;
        sink.OnMessage(new TestAssemblyStarting(cases, assembly, DateTime.Now, "guest kernel", nameof(GuestTestFramework)));
        var total = new RunSummary();
        if (cases.Count > 0)
        {
            var open = cases.ToDictionary(one => one.UniqueID);
            var log = Guest.Run(open.Keys.ToList(), result =>
            {
                if (!pending.TryGetValue(result.CaseId, out var results))
                    pending[result.CaseId] = results = [];
                if (result.Outcome != "ended")
                    results.Add(result);
                else if (open.Remove(result.CaseId, out var one))
                    Case(one, results, "");
            });
            foreach (var one in open.Values)
                Case(one, pending.GetValueOrDefault(one.UniqueID) ?? [], log);
            total = Finish();
        }
        sink.OnMessage(new TestAssemblyFinished(cases, assembly, total.Time, total.Total, total.Failed, total.Skipped));
    }

    private void Case(IXunitTestCase one, List<GuestResult> results, string log)
    {
        var total = new RunSummary();
        Begin(one);
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
        foreach (var summary in (RunSummary[])[methods[one.TestMethod], classes[one.TestMethod.TestClass], collections[one.TestMethod.TestClass.TestCollection]])
            summary.Aggregate(total);
    }

    /// <summary>The first case of a collection, class or method starts that; they all finish at the end.</summary>
    private void Begin(IXunitTestCase one)
    {
        var method = one.TestMethod;
        var ofClass = method.TestClass;
        if (collections.TryAdd(ofClass.TestCollection, new RunSummary()))
            sink.OnMessage(new TestCollectionStarting(CasesOf(ofClass.TestCollection), ofClass.TestCollection));
        if (classes.TryAdd(ofClass, new RunSummary()))
            sink.OnMessage(new TestClassStarting(CasesOf(ofClass), ofClass));
        if (methods.TryAdd(method, new RunSummary()))
            sink.OnMessage(new TestMethodStarting(CasesOf(method), method));
    }

    private RunSummary Finish()
    {
        var total = new RunSummary();
        foreach (var (method, sum) in methods)
            sink.OnMessage(new TestMethodFinished(CasesOf(method), method, sum.Time, sum.Total, sum.Failed, sum.Skipped));
        foreach (var (ofClass, sum) in classes)
            sink.OnMessage(new TestClassFinished(CasesOf(ofClass), ofClass, sum.Time, sum.Total, sum.Failed, sum.Skipped));
        foreach (var (collection, sum) in collections)
        {
            sink.OnMessage(new TestCollectionFinished(CasesOf(collection), collection, sum.Time, sum.Total, sum.Failed, sum.Skipped));
            total.Aggregate(sum);
        }
        return total;
    }

    private IEnumerable<ITestCase> CasesOf(ITestCollection collection) =>
        all.Where(one => TestCollectionComparer.Instance.Equals(one.TestMethod.TestClass.TestCollection, collection));

    private IEnumerable<ITestCase> CasesOf(ITestClass ofClass) => all.Where(one => TestClassComparer.Instance.Equals(one.TestMethod.TestClass, ofClass));

    private IEnumerable<ITestCase> CasesOf(ITestMethod method) => all.Where(one => TestMethodComparer.Instance.Equals(one.TestMethod, method));

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
