using OverlayNet.Tools;

return await CommandLine.Run(args, Console.Out, Console.Error, CancellationToken.None).ConfigureAwait(false);
