"""Run folders as workers leave them, written by hand: pages are tested without minutes of training."""

import json

from PIL import Image, ImageDraw

HOSTILE = '<img src=x onerror="window.hacked=1">'
PROMPTS = (
    "a red circle on white",
    "two blue squares on a dark green ground, seen from above, in the style of a very long prompt that no row can hold",
    HOSTILE,
)
SEEDS = ("9007199254740993", "12", "13")
SCORERS = ("shape", "taste")


def write_run(output, run_id, name, iterations=40, every=10, prompts=PROMPTS, rate=1e-4, gain=0.4, created=1.7e9):
    """A finished run: events, status, sample images of every evaluation, the newest group. Returns its folder."""
    folder = output / "mixgrpo" / run_id
    (folder / "samples" / "group").mkdir(parents=True)
    events = []
    for iteration in range(iterations + 1):
        share = iteration / iterations
        if iteration:
            events.append(trained(iteration, share, gain))
        if iteration % every == 0:
            scores = {"shape": round(0.3 + gain * share, 5), "taste": round(5.0 + share, 5)}
            images = [sample(folder, iteration, number, prompt, share, scores) for number, prompt in enumerate(prompts)]
            change = None if not iteration else scores["shape"] - 0.3
            events += [
                {"type": "evaluation", "iteration": iteration, "reward": scores, "score": scores["shape"],
                 "change": change, "change_error": 0.02},
                {"type": "sample", "iteration": iteration, "path": f"samples/iteration_{iteration:06d}.png",
                 "images": images},
            ]  # fmt: skip
    events.append({"type": "notice", "iteration": 3, "message": f"A notice that holds {HOSTILE}"})
    events.append({"type": "best", "iteration": iterations, "score": 0.3 + gain, "lora": None})
    lines = [json.dumps({"time": 1.0 + number, **event}) + "\n" for number, event in enumerate(events)]
    (folder / "events.jsonl").write_text("".join(lines))
    write_group(folder, iterations, HOSTILE)
    job = {
        "name": name,
        "created": created,
        "config": {"run": {"iterations": iterations, "width": 64}, "optimizer": {"learning_rate": rate}},
        "prompts": {"train": ["a", "b"], "held_out": list(prompts)},
    }
    (folder / "job.json").write_text(json.dumps(job))
    status = {
        "state": "finished", "updated": 1.0, "iteration": iterations, "iterations": iterations,
        "reward": {"shape": 0.3 + gain}, "held_out": {"first": 0.3, "last": 0.3 + gain, "change": gain, "error": 0.02},
        "sparkline": {"every": 1, "values": [0.3 + gain * number / 20 for number in range(20)]},
        "best": {"iteration": iterations, "score": 0.3 + gain, "lora": None},
        "sample": f"samples/iteration_{iterations:06d}.png",
    }  # fmt: skip
    (folder / "status.json").write_text(json.dumps(status))
    return folder


def trained(iteration, share, gain):
    noise = 0.03 * ((iteration * 7919) % 11 - 5) / 5
    return {
        "type": "iteration", "iteration": iteration, "window": [1, 4], "reward_std": 0.1, "loss": 0.01,
        "reward": {"shape": 0.3 + gain * share + noise, "taste": 5.0 + share + noise},
        "seconds": {"total": 2.0}, "learning_rate": 1e-4,
    }  # fmt: skip


def sample(folder, iteration, number, prompt, share, scores):
    file = f"samples/{iteration:06d}/{number:02d}.webp"
    draw(folder / file, share, number)
    return {"file": file, "prompt": prompt, "seed": SEEDS[number % len(SEEDS)], "scores": scores}


def write_group(folder, iteration, prompt, advantages=(-1.25, 0.5, 0.0, 1.5, -0.75, 0.25)):
    images = []
    for number, advantage in enumerate(advantages):
        file = f"samples/group/{iteration:06d}_{number:02d}.webp"
        draw(folder / file, 0.5 + advantage / 4, 0)
        rewards = {"shape": 0.5 + advantage / 10, "taste": 5.0}
        images.append({"file": file, "rewards": rewards, "advantage": advantage})
    told = {"iteration": iteration, "prompt": prompt, "window": [1, 4], "images": images}
    (folder / "samples" / "group" / "group.json").write_text(json.dumps(told))


def draw(path, share, number, size=256):
    """A blob that becomes a clear shape; share: from 0 to 1."""
    path.parent.mkdir(exist_ok=True)
    image = Image.new("RGB", (size, size), (236 - 30 * number, 232, 225))
    paint, radius = ImageDraw.Draw(image), size * (0.12 + 0.22 * share)
    target = ((214, 60, 50), (48, 98, 200), (60, 160, 90))[number % 3]
    colour = tuple(int(150 + share * (each - 150)) for each in target)
    middle = size * (0.35 + 0.15 * share)
    box = [middle - radius, middle - radius * (0.4 + 0.6 * share), middle + radius, middle + radius]
    (paint.rectangle if number % 2 else paint.ellipse)(box, fill=colour)
    image.save(path, "WEBP", quality=90)
