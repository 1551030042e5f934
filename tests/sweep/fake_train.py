"""A training without torch: what `segtrain train` does to its run folder, and how it ends, as its overrides say.

Run as `python -S fake_train.py key=value ...`; `x` is the score of all epochs, `epochs` how many there are. One that
is resumed does not pause.
"""

import fcntl
import json
import os
import signal
import sys
import time
from pathlib import Path

given = dict(argument.split("=", 1) for argument in sys.argv[1:])
resumed = os.environ["SEGTRAIN_AGAIN"] == "1"
run = Path(given["hydra.run.dir"])
if not resumed:
    assert not (run / "config.yaml").exists(), "another run is here already"
    config = {**given, "trainer": {"max_epochs": int(given.get("epochs", 1))}}
    (run / "config.yaml").write_text(json.dumps(config))
lock = (run / "config.yaml").open("a")
fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
checkpoint = run / "checkpoints" / "last.ckpt"
checkpoint.parent.mkdir(exist_ok=True)
asked: list[int] = []
signal.signal(signal.SIGTERM, lambda number, frame: asked.append(number))
if given.get("lifeline"):
    sys.path.insert(0, given["lifeline"])
    from segtrain.lifeline import hold_lifeline

    hold_lifeline()

first = int(checkpoint.read_text()) if checkpoint.is_file() else 0
if given.get("sentence", "0") != "0":
    print(f"segtrain: {given['sentence'].replace('RUN', str(run))}", file=sys.stderr)
    sys.exit(1)
if not (run / "metrics.csv").exists():
    (run / "metrics.csv").write_text("epoch,step,val/miou\n")
for epoch in range(first, int(given.get("epochs", 1))):
    print(f"epoch {epoch} of {given.get('seed')}", flush=True)
    with (run / "metrics.csv").open("a") as table:
        table.write(f"{epoch},{epoch},{given.get('x', 0.5)}\n")
    checkpoint.write_text(str(epoch + 1))
    if given.get("kill") == str(epoch) and (given.get("always") or not resumed):
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0 if resumed else float(given.get("pause", 0)))
    if asked:
        sys.exit(75)
if given.get("torn") == "1" and not resumed:
    (run / "metrics.json").write_text("{}")
    os.kill(os.getpid(), signal.SIGKILL)
if given.get("nan") != "1":
    score = float(given.get("x", 0.5)) + float(given.get("seed", 0))
    (run / "metrics.json").write_text(json.dumps({"val/miou": score, "runs": 1}))
