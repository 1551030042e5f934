"""Do precision, backends and device follow from the machine?"""

from pathlib import Path

import pytest
import torch

from segtrain import hardware
from segtrain.hardware import (
    available_memory,
    choose_precision,
    cpu_has_bf16,
    cpu_quota,
    find_device,
    num_cores,
    set_backends,
)


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("flags : fpu sse avx512f avx512_bf16", True),
        ("flags : fpu amx_bf16 amx_tile", True),
        ("flags : fpu avx2 avx512f", False),
        ("flags : not_avx512_bf16", False),
    ],
)
def test_bf16_is_read_off_the_cpus_flags(flags: str, expected: bool, tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text(f"processor : 0\n{flags}\n")
    assert cpu_has_bf16(tmp_path / "cpuinfo") is expected


def test_a_machine_that_does_not_list_its_flags_has_no_bf16(tmp_path: Path) -> None:
    assert not cpu_has_bf16(tmp_path / "cpuinfo")


@pytest.mark.parametrize(
    ("accelerator", "cuda", "cuda_bf16", "mps", "cpu_bf16", "expected"),
    [
        ("auto", True, True, False, False, "bf16-mixed"),
        ("gpu", True, True, False, False, "bf16-mixed"),
        ("gpu", True, False, False, True, "32-true"),
        ("auto", True, False, False, True, "32-true"),
        ("cpu", True, True, False, False, "32-true"),
        ("cpu", False, False, False, True, "bf16-mixed"),
        ("auto", False, False, False, True, "bf16-mixed"),
        ("auto", False, False, False, False, "32-true"),
        ("auto", False, False, True, False, "32-true"),
        ("mps", False, False, True, True, "32-true"),
    ],
)
def test_bf16_is_chosen_where_the_hardware_multiplies_it(
    accelerator: str,
    cuda: bool,
    cuda_bf16: bool,
    mps: bool,
    cpu_bf16: bool,
    expected: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: cuda_bf16)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    monkeypatch.setattr(hardware, "cpu_has_bf16", lambda: cpu_bf16)
    assert choose_precision(accelerator) == expected


@pytest.mark.parametrize(
    ("deterministic", "precision", "benchmark"),
    [("exact", "highest", False), ("seeded", "high", True), ("none", "high", True)],
)
def test_exact_runs_allow_neither_tf32_nor_a_choice_of_kernels(
    deterministic: str, precision: str, benchmark: bool
) -> None:
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.benchmark
    try:
        set_backends(deterministic)
        assert (torch.get_float32_matmul_precision(), torch.backends.cudnn.benchmark) == (precision, benchmark)
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.benchmark = before[1]


def test_auto_is_the_first_gpu_else_the_cpu() -> None:
    if torch.cuda.is_available():
        assert find_device("auto") == torch.device("cuda", 0)
    elif not torch.backends.mps.is_available():
        assert find_device("auto") == torch.device("cpu")
    assert find_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("name", ["cuda:99", "tpu", "gpu", "", "cpu:x"])
def test_a_device_that_is_not_there_is_refused_with_the_remedy(name: str) -> None:
    with pytest.raises(ValueError, match=rf"device: '{name}' is not on this machine; use auto or cpu"):
        find_device(name)


MIB = 2**20


@pytest.mark.parametrize(
    ("meminfo", "limit", "used", "expected"),
    [
        ("MemTotal: 8192 kB\nMemFree: 100 kB\nMemAvailable:    3072 kB", None, None, 3 * MIB),
        ("MemAvailable: 3072 kB", "max", "500", 3 * MIB),
        ("MemAvailable: 3072 kB", str(2 * MIB), str(MIB), MIB),  # a container's limit is nearer
        ("MemAvailable: 3072 kB", str(64 * MIB), str(MIB), 3 * MIB),
        ("MemTotal: 8192 kB", str(2 * MIB), str(MIB), MIB),  # an old kernel
        ("MemTotal: 8192 kB", "max", "500", None),
        ("nothing of the kind", "many", "500", None),
        ("MemAvailable: 3072 kB", str(2 * MIB), f"{MIB} {MIB // 2}", MIB + MIB // 2),  # files that were read
        (None, None, None, None),  # not Linux
    ],
)
def test_memory_is_what_machine_and_container_have_left(
    meminfo: str | None, limit: str | None, used: str | None, expected: int | None, tmp_path: Path
) -> None:
    current, _, read = (used or "").partition(" ")
    stat = f"anon 7\ninactive_file {read or 0}\nactive_file 9"
    for name, text in (("meminfo", meminfo), ("memory.max", limit), ("memory.current", current), ("memory.stat", stat)):
        if text:
            (tmp_path / name).write_text(f"{text}\n")
    assert available_memory(tmp_path / "meminfo", tmp_path) == expected


def test_this_machine_has_memory_left() -> None:
    found = available_memory()
    assert found is None or 10 * MIB < found < 2**50


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"cpu.max": "200000 100000"}, 2.0),
        ({"cpu.max": "50000 100000"}, 0.5),
        ({"cpu.max": "max 100000"}, None),
        ({"cpu/cpu.cfs_quota_us": "150000", "cpu/cpu.cfs_period_us": "100000"}, 1.5),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
        ({"cpu/cpu.cfs_quota_us": "many", "cpu/cpu.cfs_period_us": "100000"}, None),
        ({}, None),
    ],
)
def test_a_containers_share_of_time_is_read_in_both_versions(
    files: dict[str, str], expected: float | None, tmp_path: Path
) -> None:
    (tmp_path / "cpu").mkdir()
    for name, text in files.items():
        (tmp_path / name).write_text(f"{text}\n")
    assert cpu_quota(tmp_path) == expected


@pytest.mark.parametrize(
    ("quota", "environment", "expected"),
    [
        (None, {}, 16),
        ("250000 100000", {}, 3),  # two and a half cores keep three processes busy
        ("20000 100000", {}, 1),
        ("6400000 100000", {}, 16),
        (None, {"SEGTRAIN_CORES": "4"}, 4),
        ("200000 100000", {"SEGTRAIN_CORES": "4"}, 2),
        (None, {"SEGTRAIN_CORES": "64"}, 16),
    ],
)
def test_the_cores_are_the_least_of_what_limits_them(
    quota: str | None, environment: dict[str, str], expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda process: range(16), raising=False)
    if quota:
        (tmp_path / "cpu.max").write_text(f"{quota}\n")
    assert num_cores(environment, tmp_path) == expected
