using System.Text.Json;
using OverlayNet.Contracts;

namespace OverlayNet.UnitTests.Daemon;

/// <summary>Fields absent from a text have their initial values, in every message.</summary>
public sealed class ContractDefaultsTests
{
    [Fact]
    public void AbsentFieldsKeepTheirInitialValues()
    {
        var node = JsonSerializer.Deserialize("""{"id":"i","name":"n","dc":"d","address":"192.0.2.1"}""", OverlayNetJson.Default.Node)!;
        Assert.Equal((7373, 1500, ""), (node.ApiPort, node.UnderlayMtu, node.Version));
        Assert.Empty(node.Labels);
        Assert.Empty(node.HostRoutes);
        var request = JsonSerializer.Deserialize(
            """{"id":"i","name":"n","nodeId":"d","network":"x"}""", OverlayNetJson.Default.EndpointCreateRequest)!;
        Assert.Equal((1, "eth0", ""), (request.Weight, request.Interface, request.Netns));
    }

    [Fact]
    public void NoPropertyWithAnInitialValueIsInitOnly()
    {
        foreach (var type in typeof(Node).Assembly.GetTypes().Where(t => t is { IsClass: true, IsAbstract: false, IsGenericType: false } && OverlayNetJson.Default.GetTypeInfo(t) is not null))
        {
            if (OverlayNetJson.Default.GetTypeInfo(type)!.Kind != System.Text.Json.Serialization.Metadata.JsonTypeInfoKind.Object)
                continue;
            var fresh = System.Runtime.CompilerServices.RuntimeHelpers.GetUninitializedObject(type);
            var created = Activator.CreateInstance(type)!;
            foreach (var property in type.GetProperties().Where(p => p.SetMethod is not null))
            {
                var isInit = property.SetMethod!.ReturnParameter.GetRequiredCustomModifiers()
                    .Contains(typeof(System.Runtime.CompilerServices.IsExternalInit));
                if (isInit)
                    Assert.True(Equals(property.GetValue(fresh), property.GetValue(created)), $"{type.Name}.{property.Name}");
            }
        }
    }
}
