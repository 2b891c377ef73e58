"""Build the public function of each task from its Config: ``bothways.sample(flow, n, steps=...)``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from inspect import Parameter, Signature, cleandoc
from types import NoneType
from typing import Any

from pydantic.fields import FieldInfo

from bothways import registry
from bothways.brief import Kept
from bothways.configs import Config, leaves
from bothways.data.loader import check_guarded
from bothways.data.readers.live import is_live
from bothways.data.sources import as_set
from bothways.faults import check_kinds
from bothways.tasks.resume import begin
from bothways.tasks.work import Where, Work, perform
from bothways.training.config import TrainingConfig
from bothways.types import Frame, UserError

Callback = Callable[[int, Mapping[str, Any], Any], None]
"""(step, numbers by name, network), after every step of a training."""


def work_of(
    task: str, *given: Any, out: Any = None, overwrite: bool = False, resume: bool = False, **settings: Any
) -> Work:
    """Prepare a run of a task. given: positional fields of its Config; settings: by name or dotted name.

    out, overwrite, resume: of the run folder. Raises UserError for invalid settings.
    """
    check_guarded()
    config: type[Config] = registry.find("task", task).factory
    order = config.order()
    if len(given) > len(order):
        raise TypeError(f"{task}() takes at most {len(order)} positional arguments, {len(given)} were given")
    named = dict(zip(order, given, strict=False))
    if twice := sorted(named.keys() & settings.keys()):
        raise TypeError(f"{task}() got two values for {twice[0]!r}")
    given_data = {**named, **settings}.get("data")
    if is_live(given_data) and not isinstance(given_data, Kept):  # statistics, or the run of an encoding
        (named if "data" in named else settings)["data"] = as_set(given_data)
    return begin(task, {**named, **settings}, Where(out, overwrite, resume), default=config.writes)[1]


def function_of(task: str) -> Callable[..., Any]:
    """The public function of a task: prepares a run as ``work_of`` and runs it to the end."""
    config: type[Config] = registry.find("task", task).factory

    def call(
        *given: Any,
        on_frame: Callable[[Frame], None] | None = None,
        callbacks: Sequence[Callback] = (),
        **settings: Any,
    ) -> Any:
        check_heard(task, on_frame, callbacks)
        if callbacks and not issubclass(config, TrainingConfig):
            raise UserError(f"{task} trains nothing, so that it has no callbacks; give on_frame=")
        work = work_of(task, *given, **settings)

        def each(frame: Frame) -> None:
            if on_frame is not None:
                on_frame(frame)
            for callback in callbacks:
                callback(frame.step, frame.stats, work.training.state.result)  # type: ignore[attr-defined]

        return perform(work, each)

    call.__name__ = call.__qualname__ = task
    call.__module__ = "bothways"
    call.__doc__ = documentation(config)
    call.__signature__ = _signature(config)  # type: ignore[attr-defined]
    return call


def check_heard(function: str, on_frame: Any, callbacks: Any = ()) -> None:
    """Raise UserError where what is to be called after a step cannot be."""
    check_kinds(function, on_frame=(on_frame, (Callable, NoneType)), callbacks=(callbacks, (list, tuple)))
    for callback in callbacks:
        check_kinds(function, callbacks=(callback, Callable))


def documentation(config: type[Config]) -> str:
    """The docstring of the function: that of the Config, a line per setting, and what is returned and raised."""
    text = cleandoc(config.__doc__ or "").partition("\nExamples\n")[0]
    of_recipe: dict[tuple[str, ...], str] = {("recipe",): _recipe(config)} if config.recipe_task else {}
    lines = [
        f"    {'.'.join(place)}: {field.description} {of_recipe.get(place) or _default(field)}"
        for place, field in leaves(config)
    ]
    run = "    out, overwrite, resume: of the run folder. on_frame: called with the Frame of every step."
    if issubclass(config, TrainingConfig):
        run += (
            "\n    callbacks: functions, each called after every step with its number, its numbers by name, and the "
            "network\n    that is kept: the average of the weights where there is one."
        )
    settings = "Settings, with what they are where neither the recipe nor you say" if of_recipe else "Settings"
    raises = (
        "Raises UserError for what is invalid, in one line and before anything is written where that can be told; "
        "RunError for\na failure during the run."
    )
    gives = f"Returns {config.gives}.\n" if config.gives else ""
    return f"{text.strip()}\n\n{settings}\n" + "\n".join([*lines, run]) + f"\n\n{gives}{raises}\n"


def _recipe(config: type[Config]) -> str:
    """The recipe that is taken where none is named."""
    own = {config.default_recipe(given) for given in ({}, {"classes": ["0"]})}
    if len(own) != 1:
        return "[by target and model]"
    others = {**getattr(config, "of_heads", {}), **getattr(config, "of_photographs", {})}
    (name,) = own
    return f"[{name!r}{f'; of networks of photographs {others[name]!r}' if name in others else ''}]" if name else ""


def _default(field: FieldInfo) -> str:
    return "" if field.is_required() else f"[{field.get_default(call_default_factory=True)!r}]"


def _signature(config: type[Config]) -> Signature:
    own = [
        Parameter(name, Parameter.POSITIONAL_OR_KEYWORD, default=_empty_or(field))
        for name in config.order()
        for field in [config.model_fields[name]]
    ]
    run: list[tuple[str, Any]] = [("out", None), ("overwrite", False), ("resume", False), ("on_frame", None)]
    run += [("callbacks", ())] if issubclass(config, TrainingConfig) else []
    rest = [Parameter(name, Parameter.KEYWORD_ONLY, default=default) for name, default in run]
    return Signature([*own, *rest, Parameter("settings", Parameter.VAR_KEYWORD)])


def _empty_or(field: FieldInfo) -> Any:
    return Parameter.empty if field.is_required() else None
