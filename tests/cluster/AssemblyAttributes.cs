// Whole clusters on two processors: side by side they would measure each other's load instead of what they test.
[assembly: CollectionBehavior(DisableTestParallelization = true)]
