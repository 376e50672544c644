#!/usr/bin/env python3
"""Writes a pcap file of a given size with mixed traffic, the same at every run: large_capture.py FILE MEGABYTES [BULK [SEED]]

TCP in VXLAN (openings of ever new flows, some never answered, and full segments), plain TCP, DNS queries and answers, VRRP adverts, ARP.
Checksums are right where a decoder checks them. Flows and names never come again, so whatever remembers without a bound grows with the file.
BULK (4) is how many full segments there are for each opening."""
import random
import socket
import struct
import sys


def checksum(data):
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    total = (total & 0xFFFF) + (total >> 16)
    return ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF


def ethernet(payload, kind=0x0800, source=b"\x02\0\0\0\0\1", destination=b"\x02\0\0\0\0\2"):
    return destination + source + struct.pack(">H", kind) + payload


def ip(protocol, source, destination, payload, ttl=64):
    head = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 20 + len(payload), 0, 0x4000, ttl, protocol, 0, source, destination)
    return head[:10] + struct.pack(">H", checksum(head)) + head[12:] + payload


def pseudo(protocol, source, destination, length):
    return source + destination + struct.pack(">BBH", 0, protocol, length)


def tcp(source, destination, sport, dport, flags, sequence, payload=b""):
    segment = struct.pack(">HHIIBBHHH", sport, dport, sequence, 0, 0x50, flags, 65535, 0, 0) + payload
    total = checksum(pseudo(6, source, destination, len(segment)) + segment)
    return ip(6, source, destination, segment[:16] + struct.pack(">H", total) + segment[18:])


def udp(source, destination, sport, dport, payload):
    # 0: not computed, as VXLAN's outer header has it.
    return ip(17, source, destination, struct.pack(">HHHH", sport, dport, 8 + len(payload), 0) + payload)


def name(text):
    return b"".join(bytes([len(label)]) + label.encode() for label in text.split(".")) + b"\0"


def frames(rng, bulk):
    nodes = [socket.inet_aton(f"192.0.2.{n}") for n in range(1, 5)]
    body = rng.randbytes(1340)
    segment = tcp(socket.inet_aton("10.10.0.5"), socket.inet_aton("10.10.0.6"), 40000, 80, 0x18, 1, body)
    full = ethernet(udp(nodes[0], nodes[1], 49152, 4789, struct.pack(">II", 0x08000000, 4096 << 8) + ethernet(segment)))
    advert = ip(112, nodes[0], socket.inet_aton("224.0.0.18"), struct.pack(">BBBBHH4s", 0x31, 51, 100, 1, 100, 0, socket.inet_aton("192.0.2.100")), ttl=255)
    count = 0
    while True:
        count += 1
        client = struct.pack(">I", 0x0A0A0000 + count // 60000 % 60000 + 10)
        server = struct.pack(">I", 0x0A0B0000 + rng.randrange(1, 60000))
        port = 1024 + count % 60000
        outer = lambda inner: ethernet(udp(rng.choice(nodes), rng.choice(nodes), 49152 + count % 16384, 4789, struct.pack(">II", 0x08000000, 4096 << 8) + ethernet(inner)))
        yield outer(tcp(client, server, port, 80, 0x02, count))
        if rng.random() < 0.7:
            yield outer(tcp(server, client, 80, port, 0x12, count))
        question = struct.pack(">HHHHHH", count & 0xFFFF, 0x0100, 1, 0, 0, 0) + name(f"n{count}.app.dc1.overlay.internal") + struct.pack(">HH", 1, 1)
        yield ethernet(udp(client, nodes[2], port, 53, question))
        if rng.random() < 0.9:
            answer = struct.pack(">HHHHHH", count & 0xFFFF, 0x8580, 1, 1, 0, 0) + question[12:] + struct.pack(">HHHIH4s", 0xC00C, 1, 1, 5, 4, server)
            yield ethernet(udp(nodes[2], client, 53, port, answer))
        if count % 50 == 0:
            yield ethernet(advert)
            yield ethernet(struct.pack(">HHBBH", 1, 0x0800, 6, 4, 1) + b"\x02\0\0\0\0\1" + client + b"\0" * 6 + server, kind=0x0806)
        for _ in range(bulk):
            yield full


def main():
    path, octets = sys.argv[1], int(sys.argv[2]) * 1_000_000
    bulk, seed = [int(text) for text in sys.argv[3:]] + [4, 9][len(sys.argv) - 3:]
    rng = random.Random(seed)
    written, number = 24, 0
    with open(path, "wb", buffering=1 << 20) as file:
        file.write(struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 262144, 1))
        for frame in frames(rng, bulk):
            number += 1
            # 20 microseconds apart.
            at = number * 20_000
            file.write(struct.pack("<IIII", 1_800_000_000 + at // 1_000_000_000, at % 1_000_000_000, len(frame), len(frame)) + frame)
            written += 16 + len(frame)
            if written >= octets:
                break
    print(number)


main()
