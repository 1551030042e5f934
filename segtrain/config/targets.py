"""Second layer of the check: every `_target_` is imported and its arguments are bound before one is built."""

import importlib
import inspect
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, Union

from segtrain.config.suggest import did_you_mean, listed

HYDRA_KEYS = {"_target_", "_partial_", "_recursive_", "_convert_", "_args_"}

# what segtrain.build adds when it builds the component at this path
BUILD_TIME_ARGUMENTS: dict[str, set[str]] = {
    "optimizer": {"params"},
    "scheduler": {"optimizer", "total_steps", "monitor_mode"},
    "dataset.source": {"split"},
    "logger": {"save_dir"},
    "trainer": {
        *("default_root_dir", "callbacks", "logger", "plugins", "use_distributed_sampler", "deterministic"),
        *("enable_progress_bar", "enable_model_summary", "enable_checkpointing"),
    },
}

# values that segtrain.build replaces before the target sees them
BUILD_TIME_VALUES = {("trainer.precision", "auto"), ("optimizer.fused", "auto")}


def walk_targets(node: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (path, node) of every node with a `_target_`, outer before inner."""
    if isinstance(node, dict):
        if "_target_" in node:
            yield path, node
        for key, value in node.items():
            yield from walk_targets(value, f"{path}.{key}".lstrip("."))
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from walk_targets(value, f"{path}[{index}]")


def locate(target: str) -> Any:
    """Import the object that a dotted path names.

    Raises:
        ImportError: with a sentence that names the part that does not exist.
    """
    parts = target.split(".")
    found: Any = None
    for count in range(1, len(parts) + 1):
        name = ".".join(parts[:count])
        if found is not None and hasattr(found, parts[count - 1]):
            found = getattr(found, parts[count - 1])
            continue
        try:
            found = importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name is not None and not name.startswith(error.name):
                raise ImportError(f"importing {name} needs the package {error.name}, which is not installed") from error
            where = f"in {'.'.join(parts[: count - 1])}" if found is not None else "to import"
            names = [n for n in vars(found) if not n.startswith("_")] if found is not None else []
            raise ImportError(f"no {parts[count - 1]!r} {where}.{did_you_mean(parts[count - 1], names)}") from error
    return found


def target_problems(cfg: dict[str, Any]) -> list[str]:
    """Return what is wrong with the `_target_` nodes of a resolved config: names, arguments, plain types."""
    problems: list[str] = []
    for path, node in walk_targets(cfg):
        try:
            target = locate(str(node["_target_"]))
        except ImportError as error:
            problems.append(f"{path}._target_: {node['_target_']!r}: {error}")
            continue
        if not callable(target):
            problems.append(f"{path}._target_: {node['_target_']!r} is not a class or function")
            continue
        problems += _argument_problems(path, node, target)
    return problems


def _argument_problems(path: str, node: dict[str, Any], target: Any) -> list[str]:
    parameters = accepted_arguments(target)
    if parameters is None:
        return []
    name = getattr(target, "__name__", str(target))
    later = BUILD_TIME_ARGUMENTS.get(path, set())
    given = [key for key in node if key not in HYDRA_KEYS]
    accepted = [key for key in parameters if key not in later]
    problems = []
    for key in given:
        if key in later:
            problems.append(f"{path}.{key}: segtrain gives {name} this argument itself; remove it")
        elif key not in parameters:
            hint = did_you_mean(key, accepted, prefix=f"{path}.")
            problems.append(f"{path}.{key}: {name} takes no such argument.{hint} (accepts: {listed(accepted)})")
        else:
            problems += _type_problem(f"{path}.{key}", node[key], parameters[key][1])
    if not node.get("_partial_") and not node.get("_args_"):
        needed = [key for key, (required, _) in parameters.items() if required and key not in later]
        problems += [f"{path}.{key}: {name} needs it; give {path}.{key}=..." for key in needed if key not in node]
    return problems


def accepted_arguments(target: Any) -> dict[str, tuple[bool, Any]] | None:
    """Return {name: (required, annotation)} of a callable, or None where only its author knows.

    `**kwargs` are followed: up the base classes of a class, and to the class that a function says it returns
    (torchvision's builders swallow some unknown names without a word).
    """
    try:
        signature = inspect.signature(target)
    except (TypeError, ValueError):
        return None
    hints = _hints(target.__init__ if inspect.isclass(target) else target)
    arguments = {
        name: (parameter.default is parameter.empty, hints.get(name, Any))
        for name, parameter in signature.parameters.items()
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    }
    if not any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values()):
        return arguments
    if inspect.isclass(target):
        bases = [base for base in target.__mro__[1:] if "__init__" in vars(base) and base is not object]
        inherited = accepted_arguments(bases[0]) if bases else None
    else:
        returned = hints.get("return")
        inherited = accepted_arguments(returned) if inspect.isclass(returned) else None
    return None if inherited is None else {**{k: (False, v[1]) for k, v in inherited.items()}, **arguments}


def _hints(function: Any) -> dict[str, Any]:
    try:
        return typing.get_type_hints(function)
    except Exception:  # an annotation that only a type checker can import
        return {}


def _type_problem(path: str, value: Any, annotation: Any) -> list[str]:
    if isinstance(value, dict) and "_target_" in value:
        return []
    if isinstance(value, str) and path.startswith("loss") and path.endswith(".class_weights"):
        return []  # segtrain.class_weights knows the words
    if (isinstance(value, str) and (path, value) in BUILD_TIME_VALUES) or _fits(value, annotation):
        return []
    wanted = annotation.__name__ if isinstance(annotation, type) else str(annotation).replace("typing.", "")
    return [f"{path}: {value!r} is not {wanted}"]


def _fits(value: Any, annotation: Any) -> bool:
    """Say whether a YAML value fits an annotation; whatever is not a plain type is accepted."""
    origin = typing.get_origin(annotation)
    if origin is Literal:
        return value in typing.get_args(annotation)
    if origin in (Union, types.UnionType):
        return any(_fits(value, option) for option in typing.get_args(annotation))
    if annotation in (None, type(None)):
        return value is None
    if annotation is bool:
        return isinstance(value, bool)
    if annotation is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if annotation is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if annotation is str:
        return isinstance(value, str)
    if origin in (list, tuple, Sequence) or annotation in (list, tuple, Sequence):
        items = [arg for arg in typing.get_args(annotation) if arg is not ...]
        return isinstance(value, list) and (len(items) != 1 or all(_fits(item, items[0]) for item in value))
    if origin in (dict, Mapping) or annotation in (dict, Mapping):
        items = list(typing.get_args(annotation))
        return isinstance(value, dict) and (not items or all(_fits(item, items[1]) for item in value.values()))
    # no scalar of a YAML is a Tensor, a Module or a Parameter
    no_scalar = inspect.isclass(annotation) and annotation.__module__.split(".")[0] in ("torch", "numpy")
    return not (no_scalar and isinstance(value, str | bool | int | float | None))
