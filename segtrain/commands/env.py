"""Print versions and devices, for a bug report."""

import argparse
import os
import platform


def main() -> None:
    """Print one fact a line."""
    argparse.ArgumentParser(prog="segtrain env", description=__doc__).parse_args()

    import torch

    from segtrain import __version__
    from segtrain.hardware import cpu_has_bf16
    from segtrain.run_folder import PACKAGES, git_commit, package_version

    facts = {
        "segtrain": f"{__version__} ({git_commit() or 'not a git checkout'})",
        "python": f"{platform.python_version()} on {platform.platform()}",
        **{name: package_version(name) for name in PACKAGES},
        "cpu": f"{os.cpu_count()} cores, bf16 {'yes' if cpu_has_bf16() else 'no'}",
        "cuda": torch.version.cuda,
        "gpus": torch.cuda.device_count(),
    }
    for index in range(torch.cuda.device_count()):
        memory = torch.cuda.get_device_properties(index).total_memory / 2**30
        facts[f"gpu {index}"] = f"{torch.cuda.get_device_name(index)}, {memory:.0f} GiB"
    for name, fact in facts.items():
        print(f"{name:<18}{fact}")


if __name__ == "__main__":
    main()
