using OverlayNet.Kernel.Bpf;

namespace OverlayNet.UnitTests.Kernel.Bpf;

public class BpfTypesTests
{
    [Fact]
    public void EncodesAnIntAndAnArrayOfIt() => Assert.Equal(
        "9feb010018000000000000002800000028000000" + "05000000" // header: lengths of types and names
        + "01000000" + "00000001" + "04000000" + "20000000" // u32
        + "00000000" + "00000003" + "00000000" + "01000000" + "01000000" + "06000000" // u32[6]
        + "0075333200", // names
        Convert.ToHexStringLower(BpfTypes.Encode(24)));

    [Fact]
    public void RefusesWhatIsNotMadeOfWords() => Assert.Throws<ArgumentException>(() => BpfTypes.Encode(23));
}
