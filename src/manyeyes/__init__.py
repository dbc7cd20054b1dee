"""manyeyes: multimodal LLMs that see through several vision encoders.

Importing it registers the model with the Auto classes of ``transformers``.
"""

from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor

from manyeyes.model.configuration import ManyEyesConfig
from manyeyes.model.modeling import ManyEyesForConditionalGeneration
from manyeyes.model.processing import ManyEyesProcessor

__version__ = "0.1.0"

AutoConfig.register(ManyEyesConfig.model_type, ManyEyesConfig)
AutoModelForImageTextToText.register(ManyEyesConfig, ManyEyesForConditionalGeneration)
AutoProcessor.register(ManyEyesConfig, ManyEyesProcessor)

__all__ = [
    "ManyEyesConfig",
    "ManyEyesForConditionalGeneration",
    "ManyEyesProcessor",
    "__version__",
]
