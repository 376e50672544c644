using System.Net;
using Microsoft.Win32.SafeHandles;
using OverlayNet.Kernel;
using OverlayNet.Kernel.Bpf;

namespace OverlayNet.Dns.InKernel;

/// <summary>What the kernel answered and holds.</summary>
/// <param name="Answered">Queries answered there since the programs were loaded.</param>
/// <param name="Edns">Of these, those with EDNS.</param>
/// <param name="Passed">UDP queries to a listener that were left to the daemon.</param>
/// <param name="Limited">Of these, those of clients that ask too much.</param>
/// <param name="Names">Questions that are answered there now.</param>
/// <param name="Devices">Devices the programs are attached to.</param>
public sealed record KernelAnswerCounts(long Answered, long Edns, long Passed, long Limited, int Names, int Devices);

/// <summary>
/// Answers given by the kernel, where the query arrives, to questions that the server answered before: one address that
/// is the same for all of a network's clients. Each is put in when the server first gives it, and taken out before the
/// server's <see cref="DnsServer.Apply"/> that changes it returns. The programs hold the maps, so answers go on for as
/// long as somebody keeps the links that <see cref="Attach"/> gives, whether or not this process lives.
/// </summary>
public sealed class KernelAnswers : IDisposable
{
    /// <summary>Of the loopback device in every namespace (net/core/dev.c).</summary>
    private const int LoopbackIndex = 1;

    /// <summary>A table that fills sooner after it was emptied is left as it is: more is asked than it can hold.</summary>
    private static readonly TimeSpan emptyAgainAfter = TimeSpan.FromSeconds(10);

    private readonly Lock _lock = new();
    private readonly int _queriesPerSecond;
    private readonly TimeProvider _time;
    private readonly AnswerMaps _maps;
    private readonly HashSet<AnswerKey> _known = [];
    private readonly HashSet<AnswerKey> _leftBehind = [];
    private readonly Dictionary<string, uint> _networks = [];
    private readonly Dictionary<string, Listeners> _listeners = [];
    private readonly Dictionary<string, BpfLink> _links = [];
    private uint _lastListeners;
    private long _emptiedAt;
    private int _version;
    private bool _disposed;

    /// <summary>One network's listeners and the program that answers for them, loaded when first attached.</summary>
    private sealed class Listeners(uint number, int port)
    {
        public uint Number { get; } = number;

        public int Port { get; } = port;

        public Dictionary<IPAddress, ListenerValue> Addresses { get; } = [];

        public BpfProgram? Program { get; set; }
    }

    /// <param name="queriesPerSecond">Of one client; what is beyond is left to the server. 0: no limit.</param>
    /// <exception cref="KernelException">This kernel cannot: the message says what it refused.</exception>
    public KernelAnswers(int queriesPerSecond, TimeProvider? time = null)
    {
        _queriesPerSecond = queriesPerSecond;
        _time = time ?? TimeProvider.System;
        _maps = AnswerMaps.Create();
        try
        {
            // The verifier's opinion, and the hook's, before anything depends on them.
            NetworkNamespace.RunInNew(() =>
            {
                using var program = Load(0, 53);
                using var link = BpfLink.AttachTcx(program, LoopbackIndex, BpfAttachType.TcxIngress);
            });
        }
        catch
        {
            _maps.Dispose();
            throw;
        }
    }

    /// <summary>Changes whenever something was taken out. Read it before an answer is made that is to be put in.</summary>
    internal int Version => Volatile.Read(ref _version);

    public KernelAnswerCounts Counts
    {
        get
        {
            lock (_lock)
            {
                if (_disposed)
                    return new KernelAnswerCounts(0, 0, 0, 0, 0, 0);
                ref var counted = ref _maps.Counted[0];
                return new KernelAnswerCounts(
                    Volatile.Read(ref counted.Answered), Volatile.Read(ref counted.Edns), Volatile.Read(ref counted.Passed), Volatile.Read(ref counted.Limited),
                    _known.Count, _links.Count);
            }
        }
    }

    /// <summary>Says where a network's listeners are; called again, takes another set of addresses.</summary>
    /// <param name="id">Name for <see cref="Attach"/> and <see cref="Remove"/>.</param>
    /// <param name="networkId">Whose clients ask there.</param>
    /// <param name="addresses">Those of the listeners.</param>
    /// <param name="mac">Frames to the listeners are for this address.</param>
    /// <param name="port">Theirs, host order; the same at every call.</param>
    /// <exception cref="KernelException">The kernel refused.</exception>
    public void Listen(string id, string networkId, IReadOnlyCollection<IPAddress> addresses, MacAddress mac, int port)
    {
        lock (_lock)
        {
            if (!_listeners.TryGetValue(id, out var listeners))
                _listeners[id] = listeners = new Listeners(++_lastListeners, port);
            var value = ListenerValue.Of(NumberOf(networkId), mac);
            foreach (var address in addresses)
            {
                if (listeners.Addresses.TryGetValue(address, out var held) && held == value)
                    continue;
                _maps.Listeners.Set(ListenerKey.Of(listeners.Number, address), value);
                listeners.Addresses[address] = value;
            }

            foreach (var address in listeners.Addresses.Keys.Except(addresses).ToList())
            {
                _maps.Listeners.Remove(ListenerKey.Of(listeners.Number, address));
                listeners.Addresses.Remove(address);
            }
        }
    }

    /// <summary>Answers queries for these listeners that arrive at a device of the calling thread's network namespace.</summary>
    /// <param name="id">Of the listeners.</param>
    /// <param name="link">Name for <see cref="Holds"/>, <see cref="LinkOf"/> and <see cref="Detach"/>.</param>
    /// <param name="interfaceIndex">An Ethernet device, or loopback: answers leave by it.</param>
    /// <param name="inherited">A link of an earlier process, whose program is replaced; null: none. Becomes this object's.</param>
    /// <returns>True when the link is a new one.</returns>
    /// <exception cref="ArgumentException">No such listeners.</exception>
    /// <exception cref="KernelException">The kernel refused: no such device, or one without TCX (Linux 6.6).</exception>
    public bool Attach(string id, string link, int interfaceIndex, BpfLink? inherited = null)
    {
        lock (_lock)
        {
            if (!_listeners.TryGetValue(id, out var listeners))
                throw new ArgumentException($"There are no listeners '{id}'.", nameof(id));
            if (_links.Remove(link, out var before))
                before.Dispose();
            try
            {
                Delete(_leftBehind);
                _leftBehind.Clear();
                var program = listeners.Program ??= Load(listeners.Number, listeners.Port);
                if (inherited is not null && inherited.Describe().InterfaceIndex == interfaceIndex)
                {
                    inherited.Replace(program);
                    _links[link] = inherited;
                    return false;
                }

                inherited?.Dispose();
                inherited = null;
                _links[link] = BpfLink.AttachTcx(program, interfaceIndex, BpfAttachType.TcxIngress);
                return true;
            }
            catch when (inherited is not null)
            {
                // It would go on with answers that nobody changes any more.
                using (inherited)
                    inherited.Detach();
                throw;
            }
        }
    }

    /// <summary>Whether a program answers there: nobody detached it, and its device is there.</summary>
    public bool Holds(string link)
    {
        lock (_lock)
            return _links.TryGetValue(link, out var held) && held.Describe().InterfaceIndex != 0;
    }

    /// <summary>The descriptor of a link, for somebody who keeps it when this process ends; valid until it is detached.</summary>
    /// <exception cref="ArgumentException">No such link.</exception>
    public SafeFileHandle LinkOf(string link)
    {
        lock (_lock)
        {
            return _links.TryGetValue(link, out var held)
                ? new SafeFileHandle(held.Fd, ownsHandle: false)
                : throw new ArgumentException($"Nothing is attached as '{link}'.", nameof(link));
        }
    }

    /// <summary>Stops answering at a device. False: nothing was attached under that name.</summary>
    public bool Detach(string link)
    {
        lock (_lock)
        {
            if (!_links.Remove(link, out var held))
                return false;
            held.Detach();
            held.Dispose();
            return true;
        }
    }

    /// <summary>Stops answering for listeners wherever they are still attached. False: there are none of that name.</summary>
    public bool Remove(string id)
    {
        lock (_lock)
        {
            if (!_listeners.Remove(id, out var listeners))
                return false;
            foreach (var address in listeners.Addresses.Keys)
                _maps.Listeners.Remove(ListenerKey.Of(listeners.Number, address));
            listeners.Program?.Dispose();
            return true;
        }
    }

    /// <summary>The number a network has in keys; the same for as long as this object lives.</summary>
    internal uint NumberOf(string networkId)
    {
        lock (_lock)
        {
            if (!_networks.TryGetValue(networkId, out var number))
                _networks[networkId] = number = (uint)_networks.Count + 1;
            return number;
        }
    }

    /// <summary>Puts an answer in, unless something was taken out since it was made.</summary>
    /// <param name="version">What <see cref="Version"/> was before the answer was made.</param>
    /// <param name="network">From <see cref="NumberOf"/>.</param>
    /// <param name="type">A or AAAA.</param>
    /// <param name="name">As asked, lower-case wire form with the root octet.</param>
    /// <param name="record">16 or 28 octets.</param>
    internal void Learn(int version, uint network, ushort type, ReadOnlySpan<byte> name, ReadOnlySpan<byte> record)
    {
        if (name.Length > AnswerKey.NameRoom || !_lock.TryEnter())
            return;
        try
        {
            if (version != _version || _links.Count == 0)
                return;
            var key = AnswerKey.Of(network, type, name);
            if (_known.Count >= AnswerMaps.MostAnswers)
            {
                if (_time.GetElapsedTime(_emptiedAt) < emptyAgainAfter)
                    return;
                Empty();
            }

            if (_known.Contains(key))
                return;
            var value = default(AnswerRecord);
            record.CopyTo(value);
            _maps.Answers.Set(key, value);
            _known.Add(key);
        }
        catch (KernelException)
        {
            // No memory: the server goes on answering.
        }
        finally
        {
            _lock.Exit();
        }
    }

    /// <summary>Whether a question is answered in the kernel now.</summary>
    internal bool Knows(uint network, ushort type, ReadOnlySpan<byte> name)
    {
        lock (_lock)
            return type is (ushort)RrType.A or (ushort)RrType.AAAA && name.Length <= AnswerKey.NameRoom && _known.Contains(AnswerKey.Of(network, type, name));
    }

    /// <summary>Takes names out, under all types.</summary>
    internal void Forget(uint network, IReadOnlyCollection<byte[]> names)
    {
        if (names.Count == 0)
            return;
        lock (_lock)
        {
            Volatile.Write(ref _version, _version + 1);
            var gone = new List<AnswerKey>();
            foreach (var name in names)
            {
                if (name.Length > AnswerKey.NameRoom)
                    continue;
                foreach (var type in (ReadOnlySpan<ushort>)[(ushort)RrType.A, (ushort)RrType.AAAA])
                {
                    var key = AnswerKey.Of(network, type, name);
                    if (_known.Remove(key))
                        gone.Add(key);
                }
            }

            TakeOut(gone);
        }
    }

    /// <summary>Takes everything out.</summary>
    internal void Clear()
    {
        lock (_lock)
            Empty();
    }

    /// <summary>Closes what this process holds. Links that somebody else keeps go on answering.</summary>
    public void Dispose()
    {
        lock (_lock)
        {
            if (_disposed)
                return;
            _disposed = true;
            foreach (var link in _links.Values)
                link.Dispose();
            _links.Clear();
            foreach (var listeners in _listeners.Values)
                listeners.Program?.Dispose();
            _listeners.Clear();
            _maps.Dispose();
        }
    }

    private void Empty()
    {
        Volatile.Write(ref _version, _version + 1);
        TakeOut(_known);
        _known.Clear();
        _emptiedAt = _time.GetTimestamp();
    }

    private void TakeOut(IReadOnlyCollection<AnswerKey> keys)
    {
        try
        {
            Delete(keys);
        }
        catch (KernelException)
        {
            // No memory for it. Better no answers by the kernel than old ones: the programs go, and come back without these.
            _leftBehind.UnionWith(keys);
            foreach (var link in _links.Values)
            {
                link.Detach();
                link.Dispose();
            }

            _links.Clear();
        }
    }

    private void Delete(IReadOnlyCollection<AnswerKey> keys)
    {
        if (keys.Count == 0)
            return;
        _maps.Answers.RemoveAll<AnswerKey>(keys.ToArray());
        Interlocked.Increment(ref _maps.Counted[0].Generation);
    }

    private BpfProgram Load(uint listeners, int port) => BpfProgram.Load(
        BpfProgramType.SchedulerClassifier, "on.dns.answer", AnswerProgram.Build(_maps, listeners, port, _queriesPerSecond), BpfAttachType.TcxIngress);
}
