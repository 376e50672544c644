using OverlayNet.ClusterTests.Harness;

namespace OverlayNet.RuntimeTests.Harness;

/// <summary>An image of nothing but busybox (static, musl-like resolver behaviour of its own), made on the spot: no registry is needed.</summary>
public static class BusyboxImage
{
    private static readonly string[] _applets = ["sh", "ip", "ping", "nslookup", "wget", "httpd", "sleep", "cat", "hostname"];

    /// <summary>Writes the image's root as a tar file.</summary>
    public static void WriteRoot(string tarFile)
    {
        var busybox = Programs.Require("busybox", "busybox-static");
        var root = Directory.CreateTempSubdirectory("overlaynet-test-image-").FullName;
        try
        {
            Directory.CreateDirectory(Path.Combine(root, "bin"));
            Directory.CreateDirectory(Path.Combine(root, "www"));
            File.Copy(busybox, Path.Combine(root, "bin", "busybox"));
            foreach (var applet in _applets)
                File.CreateSymbolicLink(Path.Combine(root, "bin", applet), "busybox");
            Commands.Run("tar", "-C", root, "-cf", tarFile, ".").Succeeded();
        }
        finally
        {
            Directory.Delete(root, recursive: true);
        }
    }
}
