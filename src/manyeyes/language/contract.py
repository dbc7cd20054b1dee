"""What the straight line needs of a language model, decoder-only or encoder-decoder.

The language model itself stays the ``transformers`` class; a ``LanguageKind`` is the stateless
knowledge of how one kind is driven. Shapes: B samples, T positions, A answer length, S supervised
positions of the batch, H width, V vocabulary.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

from torch import Tensor


class LanguageOutput(NamedTuple):
    """Without labels: ``logits`` ``[B, T, V]``. With labels: the logits of the S supervised
    predictions of the batch, ``[S, V]``, and the tokens they should predict, ``targets`` ``[S]``.
    """

    logits: Tensor
    targets: Tensor | None
    past_key_values: Any = None


class ReadPrompt(NamedTuple):
    """Prompts that were read once, for many continuations of each.

    ``state`` is the kind's own (key-value cache, encoder output); ``attention_mask`` ``[B, T]``;
    ``next_logits`` ``[B, V]`` predict the first token, where reading gives them.
    """

    state: Any
    attention_mask: Tensor
    next_logits: Tensor | None = None


class LanguageKind(Protocol):
    """How one kind of language model reads a spliced sequence."""

    answers_in_sequence: bool
    """True: the answer continues the prompt (decoder-only). False: it goes to the decoder."""

    def forward(
        self,
        model: Any,
        inputs_embeds: Tensor,
        attention_mask: Tensor | None,
        labels: Tensor | None,
        **kwargs: Any,
    ) -> LanguageOutput:
        """Run the model; with ``labels``, logits only at positions that predict a supervised token.

        ``inputs_embeds`` ``[B, T, H]``, ``attention_mask`` ``[B, T]`` or None (nothing is padded,
        or padding is on the right of a causal model), ``labels`` ``[B, T]`` (decoder-only) or
        ``[B, A]`` (encoder-decoder), ``IGNORE`` where unsupervised.
        """

    def generate(
        self,
        model: Any,
        inputs_embeds: Tensor,
        attention_mask: Tensor,
        input_ids: Tensor,
        **kwargs: Any,
    ) -> Any:
        """Run the model's own ``generate``; prompt ids come first where the kind returns them."""

    def read(self, model: Any, inputs_embeds: Tensor, attention_mask: Tensor) -> ReadPrompt:
        """Read prompts ``[B, T, H]``, padded on the left if at all."""

    def continue_prompts(
        self, model: Any, prompt: ReadPrompt, owners: Tensor, tokens: Tensor
    ) -> Tensor:
        """Return the logits ``[C, A, V]`` that predict each of ``tokens`` after their prompt.

        ``tokens`` ``[C, A]``, ``IGNORE`` where padded on the right; ``owners`` ``[C]``: row of the
        prompt that each continues. ``prompt`` stays as it was and can be continued again.
        """
