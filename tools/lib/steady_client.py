#!/usr/bin/python3
"""Keeps asking a URL, one new connection and one look-up of its name a request, and holds one more connection open.

usage: steady_client.py URL [SECONDS_BETWEEN_REQUESTS]
Ends on SIGTERM or SIGINT with one line of JSON: requests ok and failed, the errors, answers by backend, the slowest
request, and how the held connection fared.
"""
import collections
import http.client
import json
import signal
import sys
import threading
import time
import urllib.parse

TIMEOUT = 5.0


class Held(threading.Thread):
    """One connection for as long as the program runs, with a request each 50 ms."""

    def __init__(self, host, port):
        super().__init__(daemon=True)
        self.connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT)
        self.exchanges, self.error = 0, None

    def run(self):
        try:
            self.connection.connect()
            # A lost connection is an error here, not a reason to connect again.
            self.connection.auto_open = 0
            while True:
                self.connection.request("GET", "/")
                self.connection.getresponse().read()
                self.exchanges += 1
                time.sleep(0.05)
        except (OSError, http.client.HTTPException) as error:
            self.error = f"{type(error).__name__}: {error}"


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    url = urllib.parse.urlsplit(sys.argv[1])
    host, port = url.hostname, url.port or 80
    pause = float(sys.argv[2]) if len(sys.argv) > 2 else 0.002
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())

    held = Held(host, port)
    held.start()
    ok, errors, backends, slowest = 0, [], collections.Counter(), 0.0
    while not stopped.is_set():
        started = time.monotonic()
        try:
            connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT)
            connection.request("GET", "/", headers={"Connection": "close"})
            answer = connection.getresponse().read().decode().split()
            connection.close()
            backends[answer[0]] += 1
            ok += 1
        except (OSError, http.client.HTTPException) as error:
            errors.append(f"{time.strftime('%H:%M:%S')} {type(error).__name__}: {error}")
        slowest = max(slowest, time.monotonic() - started)
        if ok == 1 and not errors:
            print("running", flush=True)
        stopped.wait(pause)
    print(json.dumps({
        "ok": ok,
        "failed": len(errors),
        "errors": errors[:10],
        "backends": dict(sorted(backends.items())),
        "slowestMs": round(slowest * 1000, 1),
        "heldExchanges": held.exchanges,
        "heldError": held.error,
    }), flush=True)


main()
