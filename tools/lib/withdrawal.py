#!/usr/bin/python3
"""Ends a container and measures until every node has withdrawn it.

usage: withdrawal.py NETNS PID ENDPOINT ADDRESS SERVICE PORT NODE=NETNS,RESOLVER ...
Kills PID and removes the namespace NETNS. NETNS "-": it stays, only the server ends; PID "-": nothing ends, but
whatever comes into NETNS or leaves it is dropped. From a client's namespace on every node it meanwhile asks for the names
(tasks.SERVICE at RESOLVER) and opens connections to SERVICE's VIP, one every few milliseconds. Prints a line a node,
milliseconds since just before that: the first answer without ADDRESS, and the moment from which every new
connection reached a live backend (the kernel has no more way to the dead one). Exit code 1 when either has not come
after 30 s.
"""
import ctypes
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import time

LIMIT = 30.0
BLACK_HOLE = b"""table inet black-hole {
    chain in { type filter hook input priority -300; policy drop; }
    chain out { type filter hook output priority -300; policy drop; }
}
"""
# A connection that is not there by then went to the dead: the live ones answer in well under a millisecond.
PATIENCE = 0.5
# So many connections in a row, each to a backend chosen anew, do not all miss a dead one by luck.
ENOUGH = 150
PACE = 0.002
MNT_DETACH = 2
libc = ctypes.CDLL(None, use_errno=True)


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


class Names(threading.Thread):
    """Asks until the address is out of the answer."""

    def __init__(self, netns, resolver, service, address):
        super().__init__(daemon=True)
        self.netns, self.resolver, self.service, self.address = netns, resolver, service, address
        self.ready, self.gone = threading.Event(), None

    def run(self):
        enter(self.netns)
        channel = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        channel.settimeout(1)
        channel.connect((self.resolver, 53))
        sequence = 0
        while self.gone is None:
            sequence += 1
            try:
                if self.address not in addresses_of(f"tasks.{self.service}", channel, sequence):
                    self.gone = time.monotonic()
            except socket.timeout:
                pass
            self.ready.set()
            time.sleep(0.001)


class Connections(threading.Thread):
    """Opens connections until enough in a row have been answered."""

    def __init__(self, netns, resolver, service, port):
        super().__init__(daemon=True)
        self.netns, self.resolver, self.service, self.port = netns, resolver, service, port
        self.ready, self.stop, self.good_from, self.opened, self.lost = threading.Event(), None, None, 0, 0

    def run(self):
        enter(self.netns)
        channel = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        channel.settimeout(5)
        channel.connect((self.resolver, 53))
        vip = addresses_of(self.service, channel, 1)[0]
        began, row = {}, []
        poll = select.poll()
        while self.good_from is None:
            now = time.monotonic()
            connection = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            connection.setblocking(False)
            try:
                connection.connect((vip, self.port))
            except BlockingIOError:
                pass
            except OSError:
                row.append((now, False))
                connection.close()
                connection = None
            if connection is not None:
                began[connection.fileno()] = (now, connection)
                poll.register(connection, select.POLLOUT)
            for descriptor, what in poll.poll(0):
                self.settle(began, poll, row, descriptor, not what & (select.POLLERR | select.POLLHUP))
            for descriptor in [descriptor for descriptor, (when, _) in began.items() if time.monotonic() - when > PATIENCE]:
                self.settle(began, poll, row, descriptor, False)
            self.ready.set()
            self.judge(began, row)
            time.sleep(PACE)

    @staticmethod
    def settle(began, poll, row, descriptor, answered):
        when, connection = began.pop(descriptor)
        poll.unregister(descriptor)
        connection.close()
        row.append((when, answered))

    def judge(self, began, row):
        """Done when ENOUGH were answered after the last that was not, and none that began before them is still open."""
        if self.stop is None:
            return
        lost = [when for when, answered in row if not answered and when >= self.stop]
        after = max(lost, default=self.stop)
        good = sorted(when for when, answered in row if answered and when > after)
        if len(good) < ENOUGH or any(when <= good[ENOUGH - 1] for when, _ in began.values()):
            return
        self.opened, self.lost = sum(when >= self.stop for when, _ in row), len(lost)
        self.good_from = good[0]


def main():
    if len(sys.argv) < 8:
        sys.exit(__doc__)
    netns, pid, endpoint, address, service, port = sys.argv[1:7]
    nodes = []
    for spec in sys.argv[7:]:
        name, rest = spec.split("=", 1)
        client, resolver = rest.split(",")
        nodes.append((name, Names(client, resolver, service, address), Connections(client, resolver, service, int(port))))
    watchers = [watcher for _, names, connections in nodes for watcher in (names, connections)]
    for watcher in watchers:
        watcher.start()
    for watcher in watchers:
        watcher.ready.wait(LIMIT)
    early = [name for name, names, _ in nodes if names.gone]
    if early:
        sys.exit(f"{endpoint} was not there to begin with on {', '.join(early)}")

    started = time.monotonic()
    if pid == "-":
        subprocess.run(["ip", "netns", "exec", netns, "nft", "-f", "-"], input=BLACK_HOLE, check=True)
    else:
        os.kill(int(pid), signal.SIGKILL)
    for _, _, connections in nodes:
        connections.stop = started
    if "-" not in (netns, pid):
        path = f"/run/netns/{netns}".encode()
        if libc.umount2(path, MNT_DETACH) != 0:
            raise OSError(ctypes.get_errno(), f"unmount {path.decode()}")
        os.unlink(path)

    for watcher in watchers:
        watcher.join(max(0.0, started + LIMIT - time.monotonic()))
    late = False
    for name, names, connections in nodes:
        late = late or not (names.gone and connections.good_from)
        said = [f"{what} {(when - started) * 1000:.1f} ms" if when else f"{what} NOT within {LIMIT:.0f} s" for what, when in (("names", names.gone), ("connections", connections.good_from))]
        print(f"{name}: {', '.join(said)} ({connections.lost} of {connections.opened} new connections still went to {endpoint})")
    sys.exit(1 if late else 0)


main()
