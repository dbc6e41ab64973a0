"""The trainer's public name; it stands in training/trainer.py."""

from .training.trainer import Trainer

__all__ = ["Trainer"]
