"""The loop that trains every part: warm-up, constant rate, linear cool-down, exact resume.

All randomness of a step comes from (seed, step), so the state to keep is weights, moments and the
step number. The rate depends on the step alone, which makes a run with the same total the same run;
a budget in seconds only chooses the total, and chooses it anew until the cool-down begins.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from manyeyes.errors import CheckpointError, NonFiniteError, UsageError
from manyeyes.files import written_file

WARMUP_STEPS = 200
"""By default; an objective may take fewer."""

COOL_DOWN = 0.3
"""Share of the run, at its end, over which the learning rate falls linearly to zero."""

_CALIBRATION_STEPS = 20
_STATE = "state.pt"


class PartObjective(nn.Module):
    """One way of pretraining: its networks, its loss on the batch of a step, and its export.

    Subclasses set ``images_per_step``, ``learning_rate`` and ``seed``.
    """

    images_per_step: int
    learning_rate: float = 1e-3
    warmup_steps: int = WARMUP_STEPS
    seed: int = 0

    def start_from(self, folder: Path) -> None:
        """Take over what the trained part in ``folder`` knows, before the first step.

        Raises:
            UsageError: nothing can be taken over.
            CheckpointError: the part does not fit.
        """
        raise UsageError("this part starts from nothing: it takes no other part's weights")

    def loss(self, step: int) -> tuple[Tensor, dict[str, float]]:
        """Return the loss of step ``step``'s batch and the figures to report."""
        raise NotImplementedError

    def after_step(self, step: int) -> None:
        """Do what follows an optimizer step (an average of weights, a clamp)."""

    def export(self, folder: Path) -> None:
        """Write the trained part as an ordinary Hugging Face folder."""
        raise NotImplementedError

    def seen(self, steps: int) -> dict[str, int]:
        """Return what was read in ``steps`` steps, for the card."""
        return {"images per step": self.images_per_step, "images": steps * self.images_per_step}


@dataclass
class RunState:
    """Where a run stands. ``total`` is its length in steps, ``seconds`` the time it has learnt."""

    step: int = 0
    total: int = 0
    seconds: float = 0.0
    figures: dict[str, float] = field(default_factory=dict)


def step_generator(seed: int, step: int) -> torch.Generator:
    """Return the generator of all of a step's random tensors."""
    return torch.Generator().manual_seed(seed * 1_000_003 + step)


def rate(step: int, total: int, warmup: int = WARMUP_STEPS) -> float:
    """Return the learning rate's factor in 0..1 at ``step`` (0-based) of ``total``."""
    warm = min(1.0, (step + 1) / warmup)
    return warm * min(1.0, (total - step) / max(1.0, COOL_DOWN * total))


def train(
    objective: PartObjective,
    run_dir: Path,
    *,
    steps: int | None = None,
    seconds: float | None = None,
    resume: bool = False,
    save_every: float = 300.0,
    progress: Callable[[str], None] | None = None,
) -> RunState:
    """Train ``objective`` for ``steps`` steps or about ``seconds`` seconds (exactly one of them).

    The state goes to ``run_dir`` every ``save_every`` seconds and at the end. ``resume``
    continues from there. Raises ``UsageError`` for an unclear budget, ``CheckpointError`` when
    there is nothing to resume, ``NonFiniteError`` before a bad step.
    """
    if (steps is None) == (seconds is None):
        raise UsageError("give either a number of steps or a number of seconds")
    optimizer = make_optimizer(objective)
    state = load_state(objective, optimizer, run_dir) if resume else RunState()
    clock = _Clock(state, steps, seconds)
    run_dir.mkdir(parents=True, exist_ok=True)
    saved = time.monotonic()
    while state.step < clock.total():
        _one_step(objective, optimizer, state)
        clock.tick()
        if progress is not None and state.step % 50 == 0:
            progress(_line(state))
        if time.monotonic() - saved >= save_every:
            save_state(objective, optimizer, state, run_dir)
            saved = time.monotonic()
    save_state(objective, optimizer, state, run_dir)
    return state


class _Clock:
    """Turns a budget in seconds into a number of steps, from the speed measured so far."""

    def __init__(self, state: RunState, steps: int | None, seconds: float | None) -> None:
        self.state, self.steps, self.seconds = state, steps, seconds
        self.last = time.monotonic()
        self.first_step, self.spent = state.step, 0.0

    def tick(self) -> None:
        now = time.monotonic()
        self.state.seconds += now - self.last
        self.spent += now - self.last
        self.last = now

    def total(self) -> int:
        """Return the run's length; a started cool-down is never rescheduled."""
        state, done = self.state, self.state.step - self.first_step
        cooling = state.total and state.step >= (1 - COOL_DOWN) * state.total
        if self.steps is not None:
            state.total = self.steps
        elif self.seconds is not None and not cooling:
            if done >= _CALIBRATION_STEPS:
                left = max(0.0, self.seconds - state.seconds)
                state.total = state.step + math.ceil(left * done / self.spent)
            elif not state.total:
                return state.step + 1
        return state.total


def _one_step(objective: PartObjective, optimizer: torch.optim.Optimizer, state: RunState) -> None:
    warmup = objective.warmup_steps
    factor = rate(state.step, state.total, warmup) if state.total else (state.step + 1) / warmup
    for group in optimizer.param_groups:
        group["lr"] = objective.learning_rate * factor
    loss, figures = objective.loss(state.step)
    if not torch.isfinite(loss):
        raise NonFiniteError(f"the loss is {float(loss.detach())} at step {state.step}")
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    learning = [p for p in objective.parameters() if p.grad is not None]
    nn.utils.clip_grad_norm_(learning, 1.0, error_if_nonfinite=True)
    optimizer.step()
    objective.after_step(state.step)
    state.step += 1
    for name, value in {"loss": float(loss.detach()), **figures}.items():
        state.figures[name] = 0.98 * state.figures.get(name, value) + 0.02 * value


def make_optimizer(objective: PartObjective) -> torch.optim.Optimizer:
    """Return AdamW over what learns; only matrices decay."""
    learning = [p for p in objective.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in learning if p.ndim >= 2], "weight_decay": 0.05},
        {"params": [p for p in learning if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=objective.learning_rate, betas=(0.9, 0.98))


def save_state(
    objective: PartObjective, optimizer: torch.optim.Optimizer, state: RunState, run_dir: Path
) -> None:
    """Write weights, moments and ``state``; a crash while writing leaves the old file."""
    content = {
        "objective": objective.state_dict(),
        "optimizer": optimizer.state_dict(),
        "state": json.dumps(vars(state)),
    }
    with written_file(run_dir / _STATE) as aside:
        torch.save(content, aside)


def load_state(
    objective: PartObjective, optimizer: torch.optim.Optimizer, run_dir: Path
) -> RunState:
    """Load what ``save_state`` wrote; raise ``CheckpointError`` when it is not there."""
    path = run_dir / _STATE
    if not path.is_file():
        raise CheckpointError(f"nothing to resume: {path} does not exist")
    saved = torch.load(path, weights_only=True)
    objective.load_state_dict(saved["objective"])
    optimizer.load_state_dict(saved["optimizer"])
    return RunState(**json.loads(saved["state"]))


def _line(state: RunState) -> str:
    figures = "  ".join(f"{name} {value:.3f}" for name, value in state.figures.items())
    return f"step {state.step}/{state.total}  {state.seconds:.0f} s  {figures}"


def batched(total: int, size: int) -> Iterator[range]:
    """Yield ``range(0, size)``, ``range(size, 2 * size)``, ... up to ``total``."""
    for start in range(0, total, size):
        yield range(start, min(start + size, total))
