using OverlayNet.ClusterTests.Harness;
using OverlayNet.RuntimeTests.Harness;

namespace OverlayNet.RuntimeTests.Docker;

/// <summary>
/// Root file systems for <c>docker import</c>, made of programs of this host once and kept, since no image registry is needed
/// for what is tested here.
/// </summary>
public static class Images
{
    /// <summary>busybox only, linked statically, and a resolver of musl's.</summary>
    public const string Busybox = "busybox";

    /// <summary>Debian's C library with getent and socat.</summary>
    public const string Debian = "debian";

    private const string Cache = "/var/cache/overlaynet-tests/docker-images-1";

    private const string MuslResolver = """
        #include <arpa/inet.h>
        #include <netdb.h>
        #include <stdio.h>
        int main(int argc, char **argv) {
            struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *found;
            int code = getaddrinfo(argv[argc - 1], 0, &hints, &found);
            if (code) { puts(gai_strerror(code)); return 1; }
            for (char text[64]; found; found = found->ai_next)
                if (!getnameinfo(found->ai_addr, found->ai_addrlen, text, sizeof text, 0, 0, NI_NUMERICHOST)) puts(text);
            return 0;
        }
        """;

    private static readonly Lock _gate = new();

    /// <summary>The tar file of an image.</summary>
    public static string Tar(string image)
    {
        lock (_gate)
            return Make(image);
    }

    private static string Make(string image)
    {
        var tar = Path.Combine(Cache, $"{image}.tar");
        if (File.Exists(tar))
            return tar;
        Directory.CreateDirectory(Cache);
        var root = Directory.CreateTempSubdirectory("overlaynet-image-").FullName;
        try
        {
            foreach (var directory in (string[])["bin", "etc", "lib", "proc", "sys", "dev", "tmp", "run", "var"])
                Directory.CreateDirectory(Path.Combine(root, directory));
            var busybox = Programs.Require("busybox", "busybox-static");
            Copy(busybox, Path.Combine(root, "bin/busybox"));
            foreach (var applet in Commands.Run(busybox, "--list").Succeeded().Lines.Where(applet => applet != "busybox"))
                File.CreateSymbolicLink(Path.Combine(root, "bin", applet), "busybox");
            File.WriteAllText(Path.Combine(root, "etc/passwd"), "root:x:0:0:root:/:/bin/sh\n");
            if (image == Debian)
                AddGlibc(root);
            else
                AddMusl(root);
            var half = $"{tar}.{Environment.ProcessId}";
            Commands.Run("tar", "-C", root, "-cf", half, ".").Succeeded();
            File.Move(half, tar, overwrite: true);
            return tar;
        }
        finally
        {
            Directory.Delete(root, recursive: true);
        }
    }

    private static void AddMusl(string root)
    {
        var source = Path.Combine(root, "tmp/resolve.c");
        File.WriteAllText(source, MuslResolver);
        Commands.Run(Programs.Require("musl-gcc", "musl-tools"), "-static", "-O1", "-o", Path.Combine(root, "bin/resolve"), source).Succeeded();
        File.Delete(source);
    }

    private static void AddGlibc(string root)
    {
        foreach (var (program, package) in new[] { ("getent", "libc-bin"), ("socat", "socat") })
        {
            var path = Programs.Require(program, package);
            Copy(path, Path.Combine(root, "bin", program));
            foreach (var library in Commands.Run("ldd", path).Succeeded().Lines.SelectMany(line => line.Split([' ', '\t'])).Where(word => word.StartsWith('/')))
                Copy(library, root + library);
        }
        File.WriteAllText(Path.Combine(root, "etc/nsswitch.conf"), "passwd: files\nhosts: files dns\n");
    }

    private static void Copy(string from, string to)
    {
        if (File.Exists(to))
            return;
        Directory.CreateDirectory(Path.GetDirectoryName(to)!);
        File.Copy(File.ResolveLinkTarget(from, returnFinalTarget: true)?.FullName ?? from, to);
    }
}
