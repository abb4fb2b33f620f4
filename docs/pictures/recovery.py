#!/usr/bin/env python3
"""Draws docs/pictures/recovery.svg from two real trainings of one job: one worker, and three workers of which one is killed.

  docs/pictures/recovery.py JOB.toml --coordinator target/release/coordinator [--epochs 24] [--work DIR]

Both runs are made anew in DIR (a temporary folder by default); a worker of the second gets SIGKILL after a third of the
epochs. The picture shows each run's validation Recall@20, and the script fails unless the two curves are equal.
"""
import argparse, json, pathlib, signal, subprocess, sys, tempfile, time, os

WIDTH, HEIGHT, LEFT, TOP = 720, 300, 70, 40


def lines(run):
    path = run / "metrics.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def children(pid):
    found = []
    for entry in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            name, rest = entry.read_text().rsplit(")", 1)
        except OSError:
            continue
        if int(rest.split()[1]) == pid and name.endswith("(worker"):
            found.append(int(entry.parent.name))
    return sorted(found)


def train(options, name, workers, kill_at=None):
    run = pathlib.Path(options.work) / name
    command = [options.coordinator, "run", options.job, "--run-dir", str(run), "--workers", str(workers),
               "--set", f"optim.epochs={options.epochs}", "--set", f"optim.patience={options.epochs}"]
    with open(pathlib.Path(options.work) / f"{name}.log", "w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        while process.poll() is None:
            time.sleep(0.05)
            done = sum(line["kind"] == "epoch" for line in lines(run)) if kill_at is not None else 0
            if kill_at is not None and done > kill_at:
                victims = children(process.pid)
                if victims:
                    os.kill(victims[-1], signal.SIGKILL)
                    kill_at = None
        if process.returncode:
            sys.exit(f"{' '.join(command)} ended with {process.returncode}; see {log.name}")
    return lines(run)


def curve(run):
    return [(line["epoch"], line["recall"]["20"]) for line in run if line["kind"] == "eval" and line["split"] == "val"]


def draw(one, three, killed, seconds):
    epochs = max(epoch for epoch, _ in one) or 1
    top = max(value for _, value in one) * 1.15
    right, bottom = WIDTH - 30, HEIGHT - 50
    x = lambda epoch: LEFT + (right - LEFT) * epoch / epochs
    y = lambda value: bottom - (bottom - TOP) * value / top
    path = lambda points: " ".join(f"{x(e):.1f},{y(v):.1f}" for e, v in points)
    text = lambda px, py, words, extra="": f'<text x="{px:.1f}" y="{py:.1f}" {extra}>{words}</text>'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="13">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        text(LEFT, 22, "One worker, and three workers of which one is killed: the same model", 'font-size="15" font-weight="bold"'),
    ]
    for k in range(5):
        value = top * k / 4
        parts.append(f'<line x1="{LEFT}" x2="{right}" y1="{y(value):.1f}" y2="{y(value):.1f}" stroke="#ddd"/>')
        parts.append(text(LEFT - 8, y(value) + 4, f"{value:.2f}", 'text-anchor="end"'))
    for epoch, _ in one[:: max(1, len(one) // 8)]:
        parts.append(text(x(epoch), bottom + 18, str(epoch), 'text-anchor="middle"'))
    parts += [
        text((LEFT + right) / 2, HEIGHT - 12, "epoch", 'text-anchor="middle"'),
        text(16, (TOP + bottom) / 2, "validation Recall@20", f'text-anchor="middle" transform="rotate(-90 16 {(TOP + bottom) / 2:.0f})"'),
        f'<polyline points="{path(one)}" fill="none" stroke="#9ecae1" stroke-width="8"/>',
        f'<polyline points="{path(three)}" fill="none" stroke="#08519c" stroke-width="2"/>',
        f'<line x1="{x(killed):.1f}" x2="{x(killed):.1f}" y1="{TOP}" y2="{bottom}" stroke="#d7301f" stroke-dasharray="4 3"/>',
        text(x(killed) + 6, TOP + 14, f"kill -9 of a worker; training again after {seconds:.1f} s", 'fill="#d7301f"'),
        f'<line x1="{right - 250}" x2="{right - 220}" y1="{bottom - 44}" y2="{bottom - 44}" stroke="#9ecae1" stroke-width="8"/>',
        text(right - 212, bottom - 40, "one worker"),
        f'<line x1="{right - 250}" x2="{right - 220}" y1="{bottom - 22}" y2="{bottom - 22}" stroke="#08519c" stroke-width="2"/>',
        text(right - 212, bottom - 18, "three workers, one killed"),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("job")
    parser.add_argument("--coordinator", default="target/release/coordinator")
    parser.add_argument("--epochs", type=int, default=24)
    parser.add_argument("--work")
    parser.add_argument("--out", default=str(pathlib.Path(__file__).with_name("recovery.svg")))
    options = parser.parse_args()
    options.work = options.work or tempfile.mkdtemp()
    pathlib.Path(options.work).mkdir(parents=True, exist_ok=True)
    one = train(options, "one", 1)
    three = train(options, "three", 3, kill_at=options.epochs // 3)
    if curve(one) != curve(three):
        sys.exit(f"the curves differ:\n{curve(one)}\n{curve(three)}")
    lost = next(line for line in three if line.get("event") == "lost")
    recovered = next(line for line in three if line.get("event") == "recovered")
    steps = max(line["step"] for line in three if line["kind"] == "epoch") / options.epochs
    pathlib.Path(options.out).write_text(draw(curve(one), curve(three), lost["step"] / steps, recovered["seconds"]))
    print(f"{options.out}: {len(one)} and {len(three)} lines, equal curves; recovered in {recovered['seconds']:.2f} s")


main()
