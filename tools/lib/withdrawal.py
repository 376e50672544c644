#!/usr/bin/python3
"""Ends a container and measures until every node has withdrawn it.

usage: withdrawal.py NETNS PID ENDPOINT ADDRESS SERVICE NODE=SOCKET,NETNS,RESOLVER ...
Kills PID and removes the namespace NETNS, then asks every node at once until both its balancer's list (API, at SOCKET)
and its DNS (tasks.SERVICE at RESOLVER, asked from NETNS) are without it. Prints a line a node, milliseconds since just
before the kill. Exit code 1 when one has not withdrawn it after 10 s.
"""
import ctypes
import http.client
import json
import os
import signal
import socket
import struct
import sys
import threading
import time

LIMIT = 10.0
MNT_DETACH = 2
libc = ctypes.CDLL(None, use_errno=True)


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost", timeout=LIMIT)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


def enter(netns):
    """Moves the calling thread."""
    with open(f"/run/netns/{netns}") as handle:
        if libc.setns(handle.fileno(), 0x40000000) != 0:
            raise OSError(ctypes.get_errno(), f"setns {netns}")


def addresses_of(name, channel, sequence):
    """The A records of a name: every one that the answer ends in."""
    question = b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0" + struct.pack("!HH", 1, 1)
    channel.send(struct.pack("!HHHHHH", sequence, 0x0100, 1, 0, 0, 0) + question)
    while True:
        answer = channel.recv(4096)
        if struct.unpack("!H", answer[:2])[0] == sequence:
            break
    count, position, found = struct.unpack("!H", answer[6:8])[0], 12 + len(question), []
    for _ in range(count):
        while answer[position] not in (0,) and answer[position] < 0xC0:
            position += 1 + answer[position]
        position += 1 if answer[position] == 0 else 2
        kind, _, _, length = struct.unpack("!HHIH", answer[position:position + 10])
        position += 10
        if kind == 1:
            found.append(socket.inet_ntoa(answer[position:position + 4]))
        position += length
    return found


class Watcher(threading.Thread):
    def __init__(self, spec, service, endpoint, address):
        super().__init__(daemon=True)
        self.name, rest = spec.split("=", 1)
        self.socket, self.netns, self.resolver = rest.split(",")
        self.service, self.endpoint, self.address = service, endpoint, address
        self.ready, self.balancer, self.dns = threading.Event(), None, None

    def run(self):
        enter(self.netns)
        channel = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        channel.settimeout(1)
        channel.connect((self.resolver, 53))
        api, sequence = UnixConnection(self.socket), 0
        while self.balancer is None or self.dns is None:
            if self.balancer is None and not self.in_balancer(api):
                self.balancer = time.monotonic()
            sequence += 1
            try:
                if self.dns is None and self.address not in addresses_of(f"tasks.{self.service}", channel, sequence):
                    self.dns = time.monotonic()
            except socket.timeout:
                pass
            self.ready.set()
            time.sleep(0.001)

    def in_balancer(self, api):
        api.request("GET", f"/v1/services/{self.service}/backends")
        return any(self.endpoint in (backend["endpoint"], backend.get("id")) and backend["share"] > 0 for backend in json.loads(api.getresponse().read()))


def main():
    if len(sys.argv) < 7:
        sys.exit(__doc__)
    netns, pid, endpoint, address, service = sys.argv[1:6]
    watchers = [Watcher(spec, service, endpoint, address) for spec in sys.argv[6:]]
    for watcher in watchers:
        watcher.start()
    for watcher in watchers:
        watcher.ready.wait(LIMIT)
    early = [watcher.name for watcher in watchers if watcher.balancer or watcher.dns]
    if early:
        sys.exit(f"{endpoint} was not there to begin with on {', '.join(early)}")

    started = time.monotonic()
    os.kill(int(pid), signal.SIGKILL)
    path = f"/run/netns/{netns}".encode()
    if libc.umount2(path, MNT_DETACH) != 0:
        raise OSError(ctypes.get_errno(), f"unmount {path.decode()}")
    os.unlink(path)

    late = False
    for watcher in watchers:
        watcher.join(max(0.0, started + LIMIT - time.monotonic()))
        moments = [f"{what} {(when - started) * 1000:.1f} ms" if when else f"{what} NOT within {LIMIT:.0f} s" for what, when in (("balancer", watcher.balancer), ("DNS", watcher.dns))]
        late = late or not (watcher.balancer and watcher.dns)
        print(f"{watcher.name}: {', '.join(moments)}")
    sys.exit(1 if late else 0)


main()
