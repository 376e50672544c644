#!/usr/bin/env python3
"""The table of bench/capture: report.py RESULTS MEGABYTES PACKETS [--json]"""
import json
import re
import statistics
import sys

NAMES = {
    "none": "no capture",
    "idle": "--filter that nothing passes",
    "headers": "--network, --snap 128",
    "capture": "--network, whole packets",
    "nodes": "--network --on all, --snap 128",
    "tcpdump": "tcpdump, underlay only, whole packets",
}


def main():
    values, seen, dropped, read = {}, {}, {}, None
    for line in open(sys.argv[1]):
        words = line.split()
        if words[0] == "read":
            read = [float(word) for word in words[1:]]
        elif words[1] == "said":
            numbers = [int(number.replace(",", "")) for number in re.findall(r"[0-9][0-9,]*", " ".join(words[2:]))]
            if len(numbers) == 2:
                seen[words[0]] = seen.get(words[0], 0) + numbers[0]
            dropped[words[0]] = dropped.get(words[0], 0) + numbers[-1]
        else:
            values.setdefault((words[0], words[1]), []).append(float(words[2]))
    median = {key: statistics.median(list) for key, list in values.items()}
    rows = [
        {
            "case": case,
            "bulkRatio": median[case, "bulk"] / median["none", "bulk"],
            "exchangesRatio": median[case, "exchanges"] / median["none", "exchanges"],
            "mbitPerSecond": median[case, "bulk"],
            "exchangesPerSecond": median[case, "exchanges"],
            "packets": seen.get(case),
            "dropped": dropped.get(case),
        }
        for case in NAMES
        if (case, "bulk") in median
    ]
    file = {"megabytes": int(sys.argv[2]), "packets": int(sys.argv[3]), "peakMegabytes": read[0], "seconds": read[1], "cpuSeconds": read[2]}
    if "--json" in sys.argv:
        print(json.dumps({"traffic": rows, "file": file}))
        return
    print("| while this runs on node 1 | stream, no capture = 1 | exchanges, no capture = 1 | Mbit/s | exchanges/s | packets written | dropped by the kernel |")
    print("|---|---|---|---|---|---|---|")
    for row in rows:
        print(
            f"| {NAMES[row['case']]} | {row['bulkRatio']:.2f} | {row['exchangesRatio']:.2f} | {row['mbitPerSecond']:.0f} | {row['exchangesPerSecond']:.0f} "
            f"| {'–' if row['packets'] is None else row['packets']} | {'–' if row['dropped'] is None else row['dropped']} |")
    print()
    print(f"A file of {file['megabytes']} MB, {file['packets']} packets, read with findings: {file['peakMegabytes']:.0f} MB resident at most, "
          f"{file['seconds']:.1f} s, {file['cpuSeconds']:.1f} s of processor, {file['packets'] / file['seconds']:.0f} packets/s.")


main()
