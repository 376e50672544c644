namespace OverlayNet.Vip.Health;

/// <summary>When so few of a service's endpoints are good that sending traffic to those alone would only bring them down, or there are none.</summary>
public static class Panic
{
    /// <param name="serving">Endpoints that pass.</param>
    /// <param name="failing">Endpoints that fail; those drained, in maintenance or still starting are not counted at all.</param>
    /// <param name="percent">Below this share; 0: only when none passes.</param>
    public static bool On(int serving, int failing, int percent) =>
        failing > 0 && (serving == 0 || serving * 100 < (serving + failing) * percent);
}
