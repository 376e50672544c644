#!/usr/bin/python3
"""Asks a DNS server again and again and compares every answer with what it must be.

usage: dns_checker.py SERVER EXPECTED.json [QUERIES_PER_SECOND]
EXPECTED.json: {"name": ["address", ...], ...}, all of them in every answer. A query is repeated as a resolver does
(after one second; thirty times, the slowest is reported). Ends on SIGTERM with one line of JSON: right, wrong, unanswered, repeated, slowestMs, errors.
"""
import json
import random
import signal
import socket
import struct
import sys
import time

TRIES, TIMEOUT = 30, 1.0


def query(ident, name):
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    return struct.pack(">HHHHHH", ident, 0x0100, 1, 0, 0, 0) + labels + b"\0\0\1\0\1"


def addresses(message, question_length):
    """Addresses of an answer whose records all point at the question (12 octets, then 4 of address)."""
    _, flags, _, count, _, _ = struct.unpack(">HHHHHH", message[:12])
    found, at = [], question_length
    for _ in range(count):
        found.append(socket.inet_ntoa(message[at + 12 : at + 16]))
        at += 16
    return flags & 15, sorted(found)


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    server = sys.argv[1]
    with open(sys.argv[2], encoding="ascii") as file:
        expected = {name: sorted(value) for name, value in json.load(file).items()}
    pause = 1 / float(sys.argv[3]) if len(sys.argv) > 3 else 0.005
    running = [True]
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: running.clear())
    names = list(expected)
    counts = {"right": 0, "wrong": 0, "unanswered": 0, "repeated": 0}
    errors, slowest = [], 0.0
    print("running", flush=True)
    while running:
        name = random.choice(names)
        started, answer = time.monotonic(), None
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.connect((server, 53))
            sock.settimeout(TIMEOUT)
            packet = query(random.randrange(65536), name)
            for attempt in range(TRIES):
                counts["repeated"] += attempt > 0
                try:
                    sock.send(packet)
                    answer = sock.recv(4096)
                    break
                except OSError as error:
                    last = error
        slowest = max(slowest, time.monotonic() - started)
        if answer is None:
            counts["unanswered"] += 1
            errors.append(f"{name}: {last}")
            continue
        rcode, found = addresses(answer, len(packet))
        if answer[:2] == packet[:2] and rcode == 0 and found == expected[name]:
            counts["right"] += 1
        else:
            counts["wrong"] += 1
            errors.append(f"{name}: rcode {rcode}, {found}, not {expected[name]}")
        time.sleep(pause)
    print(json.dumps({**counts, "slowestMs": round(slowest * 1000, 1), "errors": errors[:10]}), flush=True)


if __name__ == "__main__":
    main()
