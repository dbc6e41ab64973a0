"""Every setting of a run, one dataclass a group. What is known of a setting stands here and nowhere else."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

from ..conflicting_settings import conflicts
from ..settings import Setting, settings_of
from ..window import SlidingWindow
from .learning import LossConfig, OptimizerConfig
from .run import AdapterConfig, RunConfig
from .sampling import RolloutConfig, WindowConfig

__all__ = [
    "SETTINGS",
    "AdapterConfig",
    "LossConfig",
    "OptimizerConfig",
    "RolloutConfig",
    "RunConfig",
    "TrainConfig",
    "WindowConfig",
]


@dataclass
class TrainConfig:
    """All settings of a run."""

    rollout: RolloutConfig = field(default_factory=RolloutConfig)
    window: WindowConfig = field(default_factory=WindowConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    adapter: AdapterConfig = field(default_factory=AdapterConfig)
    run: RunConfig = field(default_factory=RunConfig)

    @property
    def evaluation_steps(self) -> int:
        """Second-order steps of a held-out image; 0: the training's own steps by Euler."""
        return min(self.run.evaluate_steps, self.rollout.steps)

    @property
    def window_size(self) -> int:
        """Steps of the window; the setting 0 stands for every step but the last."""
        return self.window.size or self.rollout.steps - 1

    def trained_steps(self, window: int) -> int:
        """How many steps of a window of so many are trained in an iteration."""
        return max(1, int(window * self.window.trained_share))

    def sliding_window(self) -> SlidingWindow:
        """The window that the settings ask for."""
        window, steps = self.window, self.rollout.steps
        if window.max_start >= 0:
            steps = min(steps, window.max_start + self.window_size + 1)
        return SlidingWindow(
            steps, self.window_size, window.stride, window.interval, window.strategy, self.run.seed, window.wrap
        )

    def as_dict(self) -> dict[str, dict]:
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict) -> TrainConfig:
        """The reverse of as_dict. A missing field keeps its default, an unknown one is an error."""
        groups = {}
        for group in dataclasses.fields(cls):
            given = dict(values.get(group.name, {}))
            unknown = set(given) - {each.field for each in SETTINGS if each.group == group.name}
            if unknown:
                raise ValueError(f"Unknown setting '{group.name}.{sorted(unknown)[0]}'.")
            assert group.default_factory is not dataclasses.MISSING
            groups[group.name] = group.default_factory(**given)
        unknown = set(values) - set(groups)
        if unknown:
            raise ValueError(f"Unknown group of settings '{sorted(unknown)[0]}': use {', '.join(groups)}.")
        return cls(**groups)

    def validate(self) -> None:
        """Raises ValueError with one sentence for the first setting that can't work."""
        for each in SETTINGS:
            each.check(each.of(self))
        for wrong, sentence in conflicts(self):
            if wrong:
                raise ValueError(sentence)


SETTINGS: tuple[Setting, ...] = settings_of(TrainConfig)
