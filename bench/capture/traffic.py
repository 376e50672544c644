#!/usr/bin/env python3
"""Traffic to be captured: traffic.py serve ADDRESS; traffic.py ask ADDRESS SECONDS prints Mbit/s of one stream and exchanges/s of one octet each."""
import socket
import sys
import threading
import time

PORT = 5001


def serve(address):
    listener = socket.create_server((address, PORT))
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=answer, args=(connection,), daemon=True).start()


def answer(connection):
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    kind = connection.recv(1)
    buffer = bytearray(1 << 18)
    total = 0
    try:
        while True:
            got = connection.recv_into(buffer, 1 if kind == b"e" else len(buffer))
            if got == 0:
                break
            total += got
            if kind == b"e":
                connection.sendall(b"x")
        connection.sendall(total.to_bytes(8, "big"))
    except ConnectionError:
        pass
    connection.close()


def ask(address, seconds):
    with socket.create_connection((address, PORT)) as stream:
        stream.sendall(b"b")
        chunk = bytes(1 << 17)
        began = time.monotonic()
        while time.monotonic() - began < seconds:
            stream.sendall(chunk)
        stream.shutdown(socket.SHUT_WR)
        # What has arrived counts, and when all of it had.
        total = int.from_bytes(stream.recv(8, socket.MSG_WAITALL), "big")
        print("bulk", total * 8 / 1e6 / (time.monotonic() - began))
    with socket.create_connection((address, PORT)) as stream:
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        stream.sendall(b"e")
        began, count = time.monotonic(), 0
        while time.monotonic() - began < seconds:
            stream.sendall(b"x")
            stream.recv(1)
            count += 1
        print("exchanges", count / (time.monotonic() - began))


if sys.argv[1] == "serve":
    serve(sys.argv[2])
else:
    ask(sys.argv[2], float(sys.argv[3]))
