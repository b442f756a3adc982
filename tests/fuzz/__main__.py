"""``make fuzz N=...``: any number of mutated models, in a process of its own that is watched.

A model that takes longer than ten seconds, or ends the process, is written to a file, as is one whose error is not this
package's or that asks for more memory than it was given; the rest goes on behind it.
"""

from __future__ import annotations

import argparse
import os
import queue
import resource
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

from fuzz import case
from fuzz.seeds import node_tests, seeds

# A case may take so much beside what the process has when it starts: the bound, and what its functions need beside.
ROOM = 512 << 20
SLOW = 10.0
PLACE = Path(__file__).parents[2] / ".hypothesis" / "fuzz"


def main() -> int:
    """Run the cases; 1 where one of them does what it must not."""
    parser = argparse.ArgumentParser(prog="python -m fuzz")
    parser.add_argument("count", type=int)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--start", type=int, default=0)
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        return worker(arguments.seed, arguments.start, arguments.count)
    return watch(arguments.seed, arguments.start, arguments.count)


def worker(seed: int, start: int, count: int) -> int:
    """Run cases, saying before each that it begins and after it how it ended."""
    models = [*seeds(), *node_tests()]
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + ROOM, resource.RLIM_INFINITY))
    for index in range(start, start + count):
        print(f"{index} begins", flush=True)
        whole = case.model_of(models, seed, index)
        told = case.run(whole, case.ending())
        signal.setitimer(signal.ITIMER_REAL, 0)
        print(f"{index} {told.splitlines()[0].split(':')[0]}", flush=True)
        if told not in ("ran", "refused"):
            keep(seed, index, whole, told)
    return 0


def keep(seed: int, index: int, whole: bytes, told: str) -> None:
    """Write a model that did what it must not, and what it did."""
    PLACE.mkdir(parents=True, exist_ok=True)
    (PLACE / f"{seed}-{index}.onnx").write_bytes(whole)
    (PLACE / f"{seed}-{index}.txt").write_text(told)
    print(f"# {seed}-{index} {told.strip().splitlines()[-1][:200]}", flush=True)


def watch(seed: int, start: int, count: int) -> int:
    """Start the worker, and start it again behind a case that ended it or kept it too long."""
    found: Counter[str] = Counter()
    at, end, models = start, start + count, None
    while at < end:
        command = [sys.executable, "-m", "fuzz", "--worker", "--seed", str(seed), "--start", str(at), str(end - at)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ)
        lines: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=lambda p=process, q=lines: ([q.put(line) for line in p.stdout], q.put(None))).start()
        patience, current, why = 300.0, None, ""
        while True:
            try:
                line = lines.get(timeout=patience)
            except queue.Empty:
                why = "hang"
                process.send_signal(signal.SIGKILL)
                break
            if line is None:
                why = "crash" if current is not None else ""
                break
            if line.startswith("#"):
                print(line, end="", flush=True)
                continue
            index, _, told = line.strip().partition(" ")
            current = int(index) if told == "begins" else None
            patience = SLOW
            if current is None:
                found[told] += 1
                at = int(index) + 1
                if at % 5000 == 0:
                    print(f"{at - start} of {count}: {dict(found)}", flush=True)
        code = process.wait()
        if why and current is not None:
            found[why] += 1
            models = models or [*seeds(), *node_tests()]
            keep(seed, current, case.model_of(models, seed, current), f"{why}: the process ended with {code}")
            at = current + 1
        elif code != 0:
            print(f"the worker could not be started: {code}")
            return 1
    print(f"seed {seed}, {count} models: {dict(found)}")
    return int(any(found[word] for word in ("foreign", "memory", "hang", "crash")))


if __name__ == "__main__":
    sys.exit(main())
