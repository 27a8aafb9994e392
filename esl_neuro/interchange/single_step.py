"""Find neurons that advance one step per call but received all steps in one call."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from esl_neuro.errors import BadInput
from esl_neuro.interchange.origins import tensors_in
from esl_neuro.snn.neurons import LIF

TRIES = 16  # constant inputs, each of other amplitudes


class SingleStepCheck:
    """Watch the modules of a run.

    Such neurons treat the steps as samples, so their potential never accumulates. They have three signs: they keep a
    state with an axis of steps; a constant input gives the same output at every step; and the same call, repeated,
    gives another output, because the state goes on. The last two are tried on the module itself, with its state put
    back afterwards. The neurons of this package do the opposite: they need all steps in one call.

    Parameters
    ----------
    steps, batch : int
        Time steps and samples of the run.
    """

    def __init__(self, steps: int, batch: int) -> None:
        self.steps, self.batch = steps, batch
        self._before: list[dict[str, Any] | None] = []
        self._calls: dict[str, int] = {}
        self._found: dict[str, str] = {}
        self._whole: dict[str, str] = {}

    def enter(self, module: nn.Module, given: Tensor | None) -> None:
        """Keep the state of a module before a call with all steps.

        Raises
        ------
        BadInput
            If neurons of this package do not receive all steps.
        """
        if isinstance(module, LIF) and given is not None and given.shape[0] != self.steps:
            raise BadInput(_restarts(type(module).__name__, tuple(given.shape), self.steps))
        whole = given is not None and self.steps > 1 and self._spans(given)
        self._before.append(_state(module) if whole else None)

    def leave(
        self, name: str, module: nn.Module, args: tuple[Any, ...], options: Mapping[str, Any], output: Any
    ) -> None:
        """Try a module whose state has an axis of steps."""
        before = self._before.pop()
        self._calls[name] = self._calls.get(name, 0) + 1
        if isinstance(module, LIF):
            self._whole[name] = type(module).__name__
        if before is None or self._calls[name] > 1 or not self._keeps_steps(module, before, output):
            return
        if self._advances_once(module, before, args, options):
            self._found[name] = type(module).__name__

    def refuse(self) -> None:
        """Raise an error if such neurons were found.

        Raises
        ------
        BadInput
            With the names of the modules.
        """
        whole = [name for name in self._found if self._calls[name] == 1]
        inner = [
            name
            for name in whole
            if not any(other.startswith(f"{name}." if name else "") for other in whole if other != name)
        ]
        found = [f"'{name}' ({self._found[name]})" for name in inner]
        if found:
            raise BadInput(
                f"{', '.join(found)}: advances one step per call, but received all {self.steps} steps in one call, so "
                "its potential never accumulates; loop over the steps: "
                "run=lambda network, inputs: [network(step) for step in inputs]"
            )
        for name, kind in self._whole.items():
            if self._calls[name] == self.steps > 1:  # as many samples as steps
                raise BadInput(_restarts(f"'{name}' ({kind})", None, self.steps))

    def _spans(self, values: Tensor) -> bool:
        if values.ndim < 2 or not values.is_floating_point():
            return False
        return values.shape[:2] == (self.steps, self.batch) or values.shape[0] == self.steps * self.batch

    def _keeps_steps(self, module: nn.Module, before: Mapping[str, Any], output: Any) -> bool:
        kept = before["kept"]
        changed = [value for key, value in _tensors(module).items() if value is not kept.get(key)]
        beside = list(tensors_in(output))[1:] if isinstance(output, tuple | list) else []
        return any(self._spans(value) for value in (*changed, *beside))

    def _advances_once(
        self, module: nn.Module, before: Mapping[str, Any], args: tuple[Any, ...], options: Mapping[str, Any]
    ) -> bool:
        after = {part: dict(vars(part)) for part in module.modules()}
        given = next(tensors_in((args, dict(options))), None)
        assert given is not None
        constants = [
            _constant(given, 2 if given.shape[:2] == (self.steps, self.batch) else 1, each / TRIES)
            for each in range(TRIES)
        ]
        try:
            return any(
                _tried(module, before, args, options, given, constant, self.steps, fed_back)
                for constant in constants
                for fed_back in (False, True)
            )
        finally:
            for part, attributes in after.items():
                vars(part).update(attributes)


def _tried(
    module: nn.Module,
    before: Mapping[str, Any],
    args: tuple[Any, ...],
    options: Mapping[str, Any],
    given: Tensor,
    constant: Tensor,
    steps: int,
    fed_back: bool,
) -> bool:
    """Return whether a constant input gives the same at every step, but something else in a later call.

    If ``fed_back``, the state is an output, and an argument of the next call.
    """
    _restore(before)
    replaced = tuple(constant if value is given else value for value in args)
    named = {key: constant if value is given else value for key, value in options.items()}
    try:
        outputs = [module.forward(*replaced, **named)]
        for _ in range(2):
            again = (constant, *outputs[-1][1:]) if fed_back else replaced
            outputs.append(module.forward(*again, **({} if fed_back else named)))
        spikes = [next(tensors_in(output)).clone() for output in outputs]
        rows = spikes[0].reshape(steps, -1)
    except Exception:  # any error of a foreign module: it cannot be tried in this way
        return False
    return bool((rows == rows[:1]).all()) and any(not torch.equal(spikes[0], later) for later in spikes[1:])


def _restarts(what: str, shape: tuple[int, ...] | None, steps: int) -> str:
    received = f"but received the shape {shape}" if shape else "but was called once for each step"
    return (
        f"{what} runs all {steps} steps of (steps, batch, ...) in one call, {received}, and it starts every call from "
        "rest; call the network once with all steps"
    )


def _constant(given: Tensor, leading: int, shift: float) -> Tensor:
    """Return an input of the same shape, constant over the steps, with amplitudes of all magnitudes from 0.1 to 10."""
    shape = given.shape[leading:]
    count = max(int(shape.numel()), 1)
    exponents = (torch.arange(count, dtype=given.dtype, device=given.device) + shift) / count
    return (10 ** (2 * exponents - 1)).reshape(shape).expand(given.shape).clone()


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    """Return the tensors that a module keeps, also those in its dictionaries."""
    kept = {key: value for key, value in vars(module).items() if key not in ("_parameters", "_modules")}
    found = {key: value for key, value in kept.items() if isinstance(value, Tensor)}
    for key, value in kept.items():
        if isinstance(value, dict):
            found |= {f"{key}.{name}": each for name, each in value.items() if isinstance(each, Tensor)}
    return found


def _state(module: nn.Module) -> dict[str, Any]:
    """Return the tensors that a module keeps, and copies of all attributes of it and its parts."""
    return {"kept": _tensors(module), "parts": [(part, _copied(vars(part))) for part in module.modules()]}


def _copied(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Copy attributes with their tensors; parameters, parts and hooks remain the same objects."""

    def copy(key: str, value: Any) -> Any:
        if isinstance(value, Tensor):
            return value.clone()
        if type(value) is dict and key not in ("_parameters", "_modules"):
            return {name: each.clone() if isinstance(each, Tensor) else each for name, each in value.items()}
        return value

    return {key: copy(key, value) for key, value in attributes.items()}


def _restore(before: Mapping[str, Any]) -> None:
    for part, attributes in before["parts"]:
        for key in set(vars(part)) - set(attributes):
            del vars(part)[key]
        vars(part).update(_copied(attributes))
