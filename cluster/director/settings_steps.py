"""Does what a text says of timeouts and sync daemons, step by step; what the kernel refuses is a sentence."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from cluster.director.kernel import Kernel, KernelRefused, NoAnswer
from cluster.ipvs.errors import explain
from cluster.ipvs.settings import SettingOperation, Settings, Timeouts
from cluster.ipvs.settings_plan import SettingStep, settings_plan


def settings_to_do(kernel: Kernel, wanted: Settings | None) -> list[SettingStep]:
    """What is missing in the kernel; a text that names no settings asks it nothing."""
    return settings_plan(kernel.read_settings(), wanted) if wanted else []


def do_settings(kernel: Kernel, wanted: Settings | None) -> list[tuple[SettingStep, str]]:
    """Each step with what stood against it, empty where it was done. A refusal keeps no other step back."""
    return [(step, _problem(kernel, step)) for step in settings_to_do(kernel, wanted)]


def _problem(kernel: Kernel, step: SettingStep) -> str:
    try:
        _call(kernel, step)()
    except KernelRefused as refusal:
        said = explain(refusal.errno, step.operation, subject=step.subject)
        return f"{said.happened} {said.remedy}"
    except NoAnswer as silence:
        return f"{silence} Whether it was done is not known: “{step}” Look with `settings`, then try again."
    return ""


def _call(kernel: Kernel, step: SettingStep) -> Callable[[], None]:
    if isinstance(step.what, Timeouts):
        return partial(kernel.set_timeouts, step.what)
    if step.operation is SettingOperation.STOP_DAEMON:
        return partial(kernel.stop_daemon, step.what.role)
    return partial(kernel.start_daemon, step.what)
