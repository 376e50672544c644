#!/usr/bin/python3
"""Opens a new connection for each request, so many a second, until it is told to stop; then one JSON line says how they fared.

usage: paced_client.py HOST PORT RATE
"""
import asyncio
import collections
import json
import signal
import sys
import time


async def ask(host, port, result):
    writer = None
    begun = time.monotonic()
    try:
        async with asyncio.timeout(10):
            reader, writer = await asyncio.open_connection(host, port)
            writer.write(b"GET / HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n")
            answer = await reader.read()
        head, _, body = answer.partition(b"\r\n\r\n")
        if b" 200 " not in head.split(b"\r\n")[0]:
            raise OSError(f"answer {head[:40]!r}")
        result["backends"][body.split()[0].decode()] += 1
        result["ok"] += 1
        result["slowestMs"] = max(result["slowestMs"], (time.monotonic() - begun) * 1000)
    except Exception as error:
        result["failed"] += 1
        if len(result["errors"]) < 10:
            result["errors"].append(f"{type(error).__name__}: {error}")
    finally:
        if writer:
            writer.close()


async def main():
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    host, port, rate = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    result = {"ok": 0, "failed": 0, "errors": [], "backends": collections.Counter(), "slowestMs": 0.0}
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    print("running", flush=True)
    tasks, begun, sent = set(), time.monotonic(), 0
    while not stop.is_set():
        due = int((time.monotonic() - begun) * rate)
        # A machine that cannot keep up is not made to catch up in one burst.
        for _ in range(min(due - sent, 50)):
            task = asyncio.create_task(ask(host, port, result))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        sent = due
        await asyncio.sleep(0.005)
    if tasks:
        await asyncio.wait(tasks)
    result["seconds"] = time.monotonic() - begun
    print(json.dumps(result), flush=True)


asyncio.run(main())
