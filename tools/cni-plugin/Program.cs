using OverlayNet.Tools.Cni;

using var input = Console.OpenStandardInput();
using var output = Console.OpenStandardOutput();
return CniPlugin.Run(Environment.GetEnvironmentVariable, input, output);
