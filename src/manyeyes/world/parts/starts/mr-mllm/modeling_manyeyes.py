"""Where the Auto classes of transformers find this model: in the package manyeyes.

This file lies in model folders, for ``from_pretrained(folder, trust_remote_code=True)``. It holds
no code of the model, which is that of the installed version.
"""

try:
    from manyeyes import ManyEyesConfig, ManyEyesForConditionalGeneration, ManyEyesProcessor
except ModuleNotFoundError as error:
    if error.name != "manyeyes":
        raise
    raise ImportError(
        "this model needs the package manyeyes, which is not installed: pip install manyeyes"
    ) from None

__all__ = ["ManyEyesConfig", "ManyEyesForConditionalGeneration", "ManyEyesProcessor"]
