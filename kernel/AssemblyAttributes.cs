using System.Runtime.CompilerServices;

// Every struct that crosses into libc is blittable; nothing is marshalled behind our back.
[assembly: DisableRuntimeMarshalling]
