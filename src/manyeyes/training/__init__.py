"""Recipe stages to trained parts."""

from manyeyes.training.run import TrainingResult, train

__all__ = ["TrainingResult", "train"]
