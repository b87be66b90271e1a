"""Docker's command line for one container, whose image is the embedded tritonserver.

Its programs are the real ones of the folder that is built: serve.sh and alive.py. The state, a JSON
file, is in the folder $DOCKER_STUB; so is `home.json`, what the image would have: an environment,
and more options of tritonserver.
"""

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

HOME = Path(os.environ["DOCKER_STUB"])
STATE = HOME / "state.json"


def read():
    return json.loads(STATE.read_text()) if STATE.exists() else {}


def keep(**changes):
    STATE.write_text(json.dumps(read() | changes))


def environment():
    state, home = read(), json.loads((HOME / "home.json").read_text())
    return {**home["environment"], "MODELS": state["models"], "HTTP_PORT": state["port"]}


def start():
    home = json.loads((HOME / "home.json").read_text())
    guard = "import os, subprocess, sys; code = subprocess.call(sys.argv[2:]);" \
        "open(sys.argv[1], 'w').write(str(code))"  # fmt: skip
    command = [Path(read()["folder"]) / "serve.sh", *home["options"]]
    (HOME / "code").unlink(missing_ok=True)
    process = subprocess.Popen(
        [sys.executable, "-c", guard, HOME / "code", *command],
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    keep(pid=process.pid)


def inside():
    """The container's processes."""
    try:
        return psutil.Process(read()["pid"]).children(recursive=True)
    except (psutil.NoSuchProcess, KeyError):
        return []


def stop(seconds):
    processes = inside()
    if processes:
        processes[0].send_signal(signal.SIGTERM)
    _, left = psutil.wait_procs(processes, timeout=seconds)
    for process in left:
        process.kill()
    deadline = time.monotonic() + 5
    while not (HOME / "code").exists() and time.monotonic() < deadline:
        time.sleep(0.05)


def executed(words):
    if words == ["bodypose-alive"]:
        alive = Path(read()["folder"]) / "alive.py"
        return subprocess.run([sys.executable, alive], env=environment(), check=False).returncode
    if words[:2] == ["sh", "-c"]:
        word = words[2].split()[2]
        assert words[2] == f"grep -l {word} /proc/[0-9]*/cmdline; true"
        for process in inside():
            if any(word in part for part in process.cmdline()):
                print(f"/proc/{process.pid}/cmdline")
        return 0
    assert words[:2] == ["kill", "-9"], words
    (process,) = (each for each in inside() if each.pid == int(words[2]))
    process.kill()
    return 0


def main(command, *words):
    words = list(words)
    if command == "build":
        keep(folder=words[-1])
    elif command == "image":
        print(f"sha256:{'0' * 64}")
    elif command == "run":
        named = dict(itertools.pairwise(words))
        keep(port=named["--publish"].split(":")[1], models=named["--volume"].split(":")[0])
        start()
    elif command == "exec":
        return executed(words[1:])
    elif command == "restart":
        stop(10)
        start()
    elif command == "stop":
        stop(float(words[1]))
    elif command == "inspect":
        print((HOME / "code").read_text())
    else:
        assert command == "rm"
        for process in inside():
            process.kill()
    return 0


sys.exit(main(*sys.argv[1:]))
