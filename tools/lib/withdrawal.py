#!/usr/bin/python3
"""Ends a container and measures until every node has withdrawn it.

usage: withdrawal.py NETNS PID ENDPOINT ADDRESS SERVICE NODE=SOCKET,NETNS,RESOLVER ...
Kills PID and removes the namespace NETNS, then asks every node at once until its DNS (tasks.SERVICE at RESOLVER, asked
from NETNS) is without it, and until it says (API, at SOCKET) that its kernel reflects a revision without it. Prints a
line a node, milliseconds since just before the kill. Exit code 1 when one has not withdrawn it after 10 s.
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
        self.ready, self.kernel, self.dns = threading.Event(), None, None
        self.without = None

    def run(self):
        enter(self.netns)
        channel = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        channel.settimeout(1)
        channel.connect((self.resolver, 53))
        api, sequence = UnixConnection(self.socket), 0
        # Names go first and paths last: the kernel need not be asked about before. Each question costs the node time.
        while self.dns is None:
            sequence += 1
            try:
                if self.address not in addresses_of(f"tasks.{self.service}", channel, sequence):
                    self.dns = time.monotonic()
            except socket.timeout:
                pass
            self.ready.set()
            time.sleep(0.001)
        while not self.applied(api):
            time.sleep(0.002)
        self.kernel = time.monotonic()

    def applied(self, api):
        """Whether the node's kernel reflects a registry without the endpoint."""
        if self.without is None:
            api.request("GET", f"/v1/services/{self.service}/backends")
            answer = api.getresponse()
            backends = json.loads(answer.read())
            if any(backend["endpoint"] == self.endpoint and backend["share"] > 0 for backend in backends):
                return False
            self.without = int(answer.headers["X-OverlayNet-Revision"])
        api.request("GET", "/v1/status")
        return json.loads(api.getresponse().read())["appliedRevision"] >= self.without


def main():
    if len(sys.argv) < 7:
        sys.exit(__doc__)
    netns, pid, endpoint, address, service = sys.argv[1:6]
    watchers = [Watcher(spec, service, endpoint, address) for spec in sys.argv[6:]]
    for watcher in watchers:
        watcher.start()
    for watcher in watchers:
        watcher.ready.wait(LIMIT)
    early = [watcher.name for watcher in watchers if watcher.dns]
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
        moments = [f"{what} {(when - started) * 1000:.1f} ms" if when else f"{what} NOT within {LIMIT:.0f} s" for what, when in (("DNS", watcher.dns), ("kernel", watcher.kernel))]
        late = late or not (watcher.kernel and watcher.dns)
        print(f"{watcher.name}: {', '.join(moments)}")
    sys.exit(1 if late else 0)


main()
