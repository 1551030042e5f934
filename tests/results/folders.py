"""Run folders of synthetic runs, as the train command leaves them."""

import json
from pathlib import Path
from typing import Any

import yaml

CONFIG: dict[str, Any] = {
    "defaults": [{"hydra": "default"}, "_self_"],
    "seed": 0,
    "test": True,
    "checkpoint": {"monitor": "val/miou", "mode": "max", "keep": 2},
    "name": "train",
    "loader": {"batch_size": 8, "num_workers": None},
    "model": {"_target_": "segtrain.models.UNet", "num_classes": 2, "encoder": {"_target_": "segtrain.E", "depth": 3}},
    "loss": {"_target_": "segtrain.losses.CrossEntropyLoss", "ignore_index": 255},
    "optimizer": {"_target_": "torch.optim.AdamW", "lr": 0.001, "weight_decay": 0.01},
    "paths": {"output": "outputs"},
    "tags": [],
}
CHOICES = {"model": "unet", "model/encoder": "unet", "loss": "ce", "optimizer": "adamw"}
TARGETS = {
    "model": {
        "unet": CONFIG["model"],
        "pspnet": {"_target_": "segtrain.models.PSPNet", "num_classes": 2, "bins": "[1]"},
    },
    "loss": {"ce": CONFIG["loss"], "focal": {"_target_": "segtrain.losses.FocalLoss", "gamma": 2.0}},
}


def merged(overrides: tuple[str, ...]) -> tuple[dict[str, Any], dict[str, str]]:
    """Apply `key=value` and `group=option` as Hydra would."""
    config, choices = json.loads(json.dumps(CONFIG)), dict(CHOICES)
    for word in overrides:
        key, _, text = word.lstrip("+").partition("=")
        if key in TARGETS:
            config[key], choices[key] = dict(TARGETS[key][text]), text
            continue
        *nodes, last = key.split(".")
        inner = config
        for node in nodes:
            inner = inner[node]
        try:
            inner[last] = float(text) if nodes else int(text)
        except ValueError:
            inner[last] = text
    return config, choices


def write_run(
    folder: Path,
    *overrides: str,
    metrics: dict[str, Any] | None = None,
    log: str = "",
    seconds: float = 10,
    choices: bool = True,
) -> Path:
    """Write a run folder; without metrics it did not come to its end."""
    folder.mkdir(parents=True)
    config, chosen = merged(overrides)
    (folder / "config.yaml").write_text("# a comment\n" + yaml.safe_dump(config))
    environment: dict[str, Any] = {"command": ["train.py", *overrides], "seed": config["seed"]}
    if choices:
        environment |= {"overrides": list(overrides), "choices": chosen}
    (folder / "environment.json").write_text(json.dumps(environment))
    end = 40 + seconds
    (folder / "train.log").write_text(
        "2026-01-01 10:00:40,000 DEBUG command: segtrain train\n"
        f"2026-01-01 10:{int(end // 60):02}:{int(end % 60):02},000 INFO the last word\n{log}"
    )
    if metrics is not None:
        (folder / "metrics.json").write_text(json.dumps({"epoch": 1, "step": 8, **metrics}))
    return folder


def write_trial(folder: Path, number: int, state: str = "complete", **facts: Any) -> Path:
    """Write trial.json, as the search does."""
    path = folder / "trials" / f"{number:04}"
    path.mkdir(parents=True, exist_ok=True)
    trial = {"number": number, "state": state, "values": {}, "parameters": {}, "seconds": 12.0, **facts}
    (path / "trial.json").write_text(json.dumps(trial))
    return path


def error(text: str) -> str:
    """Return a log's last record, of an error."""
    return f"2026-01-01 10:01:00,000 ERROR {text}\n"
