using System.Runtime.CompilerServices;
using OverlayNet.Dns.Forward;
using OverlayNet.Dns.Table;
using OverlayNet.Dns.Taps;

namespace OverlayNet.Dns.Answer;

/// <summary>
/// Turns a query into its answer in the same buffer, without allocating. One instance per thread: it owns scratch
/// memory, a random state and counters. Names that are not ours are left to the caller to forward.
/// </summary>
internal sealed unsafe partial class QueryProcessor
{
    /// <summary>Room a buffer needs beyond the largest answer, for the OPT record and its options.</summary>
    public const int Slack = 128;

    private readonly ParsedQuery[] _scratch = GC.AllocateArray<ParsedQuery>(1, pinned: true);
    private readonly ServerCookies _cookies;
    private ulong _random;

    // State of the answer being written.
    private ZoneInfo? _zone;
    private byte* _packet;
    private int _position;
    private int _limit;
    private int _answers;
    private int _authorities;
    private int _additionals;
    private byte _flags1;
    private int _rcode;
    private bool _authenticated;

    // Where the name was found; the network that all clients of the listener see first; whether the name can mean no other
    // there; and the size of a sole address.
    private NetworkView? _owner;
    private NetworkView? _first;
    private bool _unambiguous;
    private int _recordSize;

    private readonly QueryTap[] _taps;
    private readonly int[] _untilTap;

    /// <param name="cookies">Answers the COOKIE option.</param>
    /// <param name="taps">Who is shown every n-th answer.</param>
    public QueryProcessor(ServerCookies cookies, params QueryTap[] taps)
    {
        _cookies = cookies;
        _taps = taps;
        _untilTap = [.. taps.Select(tap => tap.Every)];
        _random = BitConverter.ToUInt64(System.Security.Cryptography.RandomNumberGenerator.GetBytes(8)) | 1;
    }

    public DnsCounters Counters { get; } = new();

    /// <summary>The query handled last; valid until the next one.</summary>
    public ref ParsedQuery Query => ref _scratch[0];

    /// <summary>The scope of the query handled last; null when it was answered before one was needed.</summary>
    public Scope? Scope { get; private set; }

    /// <summary>Whether anything was known when the query handled last was looked at.</summary>
    public bool Synced => _zone is { Synced: true };

    /// <summary>
    /// The one address record of the answer written last, when every client of the listener's network gets the same for as
    /// long as the name's entry stays; else empty. Valid until the next query.
    /// </summary>
    public ReadOnlySpan<byte> LastingRecord =>
        _unambiguous && _recordSize > 0 && _owner == _first && Query.Type is (ushort)RrType.A or (ushort)RrType.AAAA
            ? new ReadOnlySpan<byte>(_packet + Query.QuestionEnd, _recordSize)
            : default;

    /// <summary>Set to learn how an answer came about; null on the query path.</summary>
    public AnswerTrace? Trace { get; set; }

    public const int Drop = 0;
    public const int Forward = -1;

    /// <summary>Answers in place.</summary>
    /// <param name="packet">The query; room for <see cref="Limits.EdnsUdp"/> (UDP) or 65535 (TCP) plus <see cref="Slack"/>.</param>
    /// <param name="length">Octets of the query.</param>
    /// <param name="tcp">Whether the answer may have 65535 octets.</param>
    /// <param name="client">Where it came from: decides which networks are searched.</param>
    /// <param name="view">What the listener answers from.</param>
    /// <param name="again">A query that was counted before.</param>
    /// <returns>Length of the answer, <see cref="Drop"/>, or <see cref="Forward"/> with the packet untouched.</returns>
    public int Process(byte* packet, int length, bool tcp, in ClientAddress client, ListenerView view, bool again = false)
    {
        Scope = null;
        _owner = _first = null;
        _unambiguous = false;
        _recordSize = 0;
        if (length < Header.Size || (packet[Header.Flags1] & Header.Qr) != 0)
        {
            Counters.Malformed++;
            return Drop;
        }

        if (!again)
            Counters.Queries++;
        _packet = packet;
        _answers = _authorities = _additionals = 0;
        _flags1 = (byte)(Header.Qr | (packet[Header.Flags1] & (Header.OpcodeMask | Header.Rd)));
        _rcode = (int)Rcode.NoError;
        _authenticated = false;

        if ((packet[Header.Flags1] & Header.OpcodeMask) != 0)
            return HeaderOnly(Rcode.NotImp);

        ref var query = ref _scratch[0];
        if (Read16(packet + Header.QdCount) != 1 || !query.TryParseQuestion(packet, length))
            return HeaderOnly(Rcode.FormErr);
        _position = query.QuestionEnd;

        var additional = Read16(packet + Header.ArCount);
        var others = Read16(packet + Header.AnCount) + Read16(packet + Header.NsCount);
        if (!query.TryParseRecords(packet, length, others, additional))
        {
            query.HasOpt = false;
            return Error(Rcode.FormErr, ref query, tcp, client);
        }

        _limit = tcp ? Limits.Tcp : query.HasOpt ? Math.Clamp((int)query.UdpSize, Limits.PlainUdp, Limits.EdnsUdp) : Limits.PlainUdp;
        if (query.HasOpt)
        {
            Counters.Edns++;
            _limit -= OptSize(ref query, tcp);
            if (query.EdnsVersion != 0)
                return Error(Rcode.BadVers, ref query, tcp, client);
        }

        if (query.Class != ClassCode.In)
            return Error(Rcode.Refused, ref query, tcp, client);
        if (query.Type is (ushort)RrType.AXFR or (ushort)RrType.IXFR)
            return Error(Rcode.Refused, ref query, tcp, client);
        if (query.Type is 0 or (ushort)RrType.OPT)
            return Error(Rcode.FormErr, ref query, tcp, client);

        var scope = view.ScopeOf(client);
        Scope = scope;
        _first = view.OwnNetworkFirst ? scope.Views[0] : null;
        if (!Resolve(ref query, view, scope))
        {
            if (Trace is not null)
                Trace.Rule = "forward: not a name of ours";
            return Forward;
        }

        return Finish(ref query, tcp, client);
    }

    /// <summary>Answers the query handled last (which said <see cref="Forward"/>) with an error, in place.</summary>
    public int Fail(Rcode rcode, bool tcp, in ClientAddress client)
    {
        _rcode = (int)rcode;
        return Finish(ref _scratch[0], tcp, client);
    }

    /// <summary>Answers the query handled last (which said <see cref="Forward"/>) with what an upstream said, in place.</summary>
    /// <param name="answer">Checked records.</param>
    /// <param name="age">Seconds it was kept; taken off the TTLs.</param>
    /// <param name="fixedTtl">When given, every TTL.</param>
    /// <param name="tcp">As in <see cref="Process"/>.</param>
    /// <param name="client">As in <see cref="Process"/>.</param>
    public int WriteForwarded(ForwardedAnswer answer, uint age, uint? fixedTtl, bool tcp, in ClientAddress client)
    {
        ref var query = ref _scratch[0];
        // RFC 6840 §5.8: AD only to those who asked with DO or AD.
        _authenticated = answer.Authenticated && (query.DnssecOk || (_packet[Header.Flags2] & Header.Ad) != 0);
        _rcode = (int)answer.Rcode;
        var room = _limit - _position;
        var size = answer.Body.Length;
        if (size <= room)
        {
            (_answers, _authorities) = (answer.Answers, answer.Authorities);
        }
        else
        {
            // Whole answer records that fit: some clients use a truncated answer instead of trying TCP.
            _flags1 |= Header.Tc;
            (_answers, size) = answer.Fit(room);
        }

        answer.Write(new Span<byte>(_packet + _position, size), age, fixedTtl);
        _position += size;
        return Finish(ref query, tcp, client);
    }

    /// <summary>An empty truncated answer that makes the client come back over TCP.</summary>
    public int Truncate(byte* packet, int length)
    {
        if (length < Header.Size || (packet[Header.Flags1] & Header.Qr) != 0)
            return Drop;
        _packet = packet;
        _answers = _authorities = _additionals = 0;
        _flags1 = (byte)(Header.Qr | Header.Tc | (packet[Header.Flags1] & (Header.OpcodeMask | Header.Rd)));
        ref var query = ref _scratch[0];
        if (Read16(packet + Header.QdCount) != 1 || !query.TryParseQuestion(packet, length))
            return Drop;
        _position = query.QuestionEnd;
        _rcode = 0;
        _authenticated = false;
        WriteHeader(questions: 1);
        return _position;
    }

    private int HeaderOnly(Rcode rcode)
    {
        _position = Header.Size;
        _rcode = (int)rcode;
        WriteHeader(questions: 0);
        return _position;
    }

    private int Error(Rcode rcode, ref ParsedQuery query, bool tcp, in ClientAddress client)
    {
        _rcode = (int)rcode;
        return Finish(ref query, tcp, client);
    }

    private int Finish(ref ParsedQuery query, bool tcp, in ClientAddress client)
    {
        if (query.HasOpt)
            WriteOpt(ref query, tcp, client);
        WriteHeader(questions: 1);
        for (var i = 0; i < _taps.Length; i++)
        {
            if (--_untilTap[i] > 0)
                continue;
            _untilTap[i] = _taps[i].Every;
            _taps[i].Take(client, tcp, query, (Rcode)_rcode, new ReadOnlySpan<byte>(_packet, _position));
        }

        return _position;
    }

    private void WriteHeader(int questions)
    {
        _packet[Header.Flags1] = _flags1;
        _packet[Header.Flags2] = (byte)(Header.Ra | (_authenticated ? Header.Ad : 0) | (_packet[Header.Flags2] & Header.Cd) | (_rcode & Header.RcodeMask));
        Write16(_packet + Header.QdCount, questions);
        Write16(_packet + Header.AnCount, _answers);
        Write16(_packet + Header.NsCount, _authorities);
        Write16(_packet + Header.ArCount, _additionals);
        Counters.Count((Rcode)_rcode);
        if ((_flags1 & Header.Tc) != 0)
            Counters.Truncated++;
    }

    private static int OptSize(ref ParsedQuery query, bool tcp) =>
        11 + (query.CookieLength != 0 ? 4 + ServerCookies.FullSize : 0) + (tcp && query.KeepaliveAsked ? 6 : 0);

    /// <summary>RFC 6891 §6.1.2: our size, version 0, the upper bits of the rcode, DO as asked (RFC 3225 §3).</summary>
    private void WriteOpt(ref ParsedQuery query, bool tcp, in ClientAddress client)
    {
        Span<byte> cookie = stackalloc byte[ServerCookies.FullSize];
        if (query.CookieLength != 0)
            _cookies.Answer(new ReadOnlySpan<byte>(Unsafe.AsPointer(ref query.Cookie[0]), query.CookieLength), client, cookie);

        var p = _packet + _position;
        p[0] = 0;
        Write16(p + 1, (int)RrType.OPT);
        Write16(p + 3, Limits.EdnsUdp);
        p[5] = (byte)(_rcode >> 4);
        p[6] = 0;
        p[7] = query.DnssecOk ? (byte)0x80 : (byte)0;
        p[8] = 0;
        var end = p + 11;
        if (query.CookieLength != 0)
        {
            Write16(end, EdnsOption.Cookie);
            Write16(end + 2, cookie.Length);
            cookie.CopyTo(new Span<byte>(end + 4, cookie.Length));
            end += 4 + cookie.Length;
        }

        if (tcp && query.KeepaliveAsked)
        {
            Write16(end, EdnsOption.TcpKeepalive);
            Write16(end + 2, 2);
            Write16(end + 4, KeepaliveUnits);
            end += 6;
        }

        Write16(p + 9, (int)(end - p - 11));
        _position += (int)(end - p);
        _additionals++;
    }

    /// <summary>Idle time-out of TCP connections in RFC 7828's units of 100 ms.</summary>
    internal const int KeepaliveUnits = 100;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static int Read16(byte* p) => (p[0] << 8) | p[1];

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Write16(byte* p, int value)
    {
        p[0] = (byte)(value >> 8);
        p[1] = (byte)value;
    }

    private static void Write32(byte* p, uint value)
    {
        Write16(p, (int)(value >> 16));
        Write16(p + 2, (int)(value & 0xFFFF));
    }
}
