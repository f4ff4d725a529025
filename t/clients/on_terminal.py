#!/usr/bin/env python3
"""Runs a command whose standard error is a pseudo-terminal, and prints its exit status and what it wrote there.

Usage: on_terminal.py [--stop] PATTERN ACTION COMMAND [ARGUMENT]...

Once standard error matches PATTERN, or after a minute, ACTION is run in a shell. With --stop the command is stopped for
2.5 seconds as soon as it has two threads, so that work of any length takes over two seconds. Standard output of the
command is that of this program. Exits with 77 where the system has no pseudo-terminal.
"""

import os
import re
import select
import signal
import subprocess
import sys
import time

args = sys.argv[1:]
stops = args[0] == "--stop"
pattern, action, *command = args[stops:]

try:
    terminal, end = os.openpty()
except OSError as error:
    print(f"no pseudo-terminal: {error}")
    sys.exit(77)
process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=end)
os.close(end)

while stops and process.poll() is None:
    if len(os.listdir(f"/proc/{process.pid}/task")) > 1:
        process.send_signal(signal.SIGSTOP)
        time.sleep(2.5)
        process.send_signal(signal.SIGCONT)
        break

written = b""
deadline = time.monotonic() + 60
while True:
    if action and not select.select([terminal], [], [], max(0, deadline - time.monotonic()))[0]:
        # Without the report the command would wait forever.
        subprocess.run(action, shell=True, check=True)
        action = ""
    try:
        read = os.read(terminal, 4096)
    except OSError:
        # The command has closed the other end.
        break
    if not read:
        break
    written += read
    if action and re.search(pattern.encode(), written):
        subprocess.run(action, shell=True, check=True)
        action = ""
sys.stderr.write(written.decode().replace("\r\n", "\n"))
print(f"exit {process.wait()}", file=sys.stderr)
