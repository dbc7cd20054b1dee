"""Which attention a language model or Q-Former trains fastest with.

PyTorch's fused attention for CPUs has a slow backward pass in bfloat16: one layer took 49 ms
forward and backward fused and 26 ms plain at 4 x 9 heads x 286 positions x 64, and 90 ms against
25 ms at 32 x 6 x 136 x 32 (one thread, torch 2.13). Plain attention keeps the whole attention
matrix in memory, so long sequences stay fused. The value is the same up to rounding.
"""

from __future__ import annotations

from transformers import PreTrainedModel, TrainingArguments

from manyeyes.model.modeling import ManyEyesForConditionalGeneration

LONGEST_PLAIN = 1024
"""Visual tokens per image up to which plain attention is chosen."""


def choose_attention(model: ManyEyesForConditionalGeneration, args: TrainingArguments) -> None:
    """Switch language model and Q-Former to plain attention where that trains faster."""
    short = model.config.visual_tokens <= LONGEST_PLAIN
    if args.device.type == "cpu" and args.bf16 and short:
        for module in (model.language_model, *model.fusion.modules()):
            if isinstance(module, PreTrainedModel):
                module.set_attn_implementation("eager")
