// Runtimes and whole clusters on two processors: side by side they would measure each other's load.
[assembly: CollectionBehavior(DisableTestParallelization = true)]
