"""The model: encoders → fusion → bridge → language model, as one Hugging Face model.

Shapes: B samples, T positions, I images of the batch, K visual tokens per image, H language-model
width, S supervised predictions, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import GenerationConfig, GenerationMixin
from transformers.utils.generic import ModelOutput

from manyeyes.bridge import parse_bridge
from manyeyes.bridge.layer_inputs import LayerInputs
from manyeyes.bridge.placeholder import images_of_samples
from manyeyes.checkpoints.originals import Originals
from manyeyes.encoders import ENCODERS
from manyeyes.errors import PartError, PlaceholderError
from manyeyes.fusion import object_features, parse_fusion
from manyeyes.language import add_biases, build_language, check_prompts, kind_of, parse_language
from manyeyes.layers.adapters.attention import PROMPTS, positions
from manyeyes.layers.attention.packed import KEYWORD as PACKED
from manyeyes.layers.attention.packed import reading_packed
from manyeyes.layers.tiling import choose_tokens
from manyeyes.losses.next_token import next_token_sum
from manyeyes.model.configuration import ManyEyesConfig
from manyeyes.model.inputs import (
    Texts,
    routes_for,
    split_visual,
    take_targets,
    take_texts,
    with_stop,
    without_image_tokens,
)
from manyeyes.model.intermediates import (
    DETECTION_LOSS,
    LANGUAGE,
    NO_TARGETS,
    NOTHING_REFINED,
    READ_BACK,
    REFINED_HEADS,
    detection_loss,
    read_back,
)
from manyeyes.model.lora import add_lora, parse_lora
from manyeyes.model.pictures.seeing import SeeingModel
from manyeyes.model.pictures.tiles import GRIDS
from manyeyes.model.zero_terms import shared_zero, silent_image
from manyeyes.records import (
    REFINED,
    FeatureBundle,
    ObjectFeatures,
    VisualEvidence,
)


@dataclass
class ManyEyesOutput(ModelOutput):
    """``loss`` scalar; ``logits`` ``[S, V]`` with labels, else ``[B, T, V]``; ``trace`` by name."""

    loss: Tensor | None = None
    logits: Tensor | None = None
    past_key_values: Any = None
    trace: dict[str, Tensor] | None = None


class ManyEyesForConditionalGeneration(LayerInputs, SeeingModel, GenerationMixin):
    """A language model that sees through one or several vision encoders.

    Parts: ``encoders.<name>``, ``fusion``, ``bridge``, ``language_model``. Parts without trainable
    parameters stay in ``eval()`` after ``train()``.

    Raises:
        PartError: parts that do not fit together.
    """

    config_class = ManyEyesConfig
    base_model_prefix = "model"
    main_input_name = "input_ids"
    input_modalities = ["image", "text"]  # noqa: RUF012  (declared by the base class)
    supports_gradient_checkpointing = True
    accepts_loss_kwargs = True
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _no_split_modules = None

    def __init__(self, config: ManyEyesConfig) -> None:
        config.resolve()
        super().__init__(config)
        self.encoders = nn.ModuleDict(
            {
                spec.name: ENCODERS[spec.family](spec, ENCODERS[spec.family].read_config(spec))
                for spec in config.encoder_specs()
            }
        )
        width = int(config.text_config.hidden_size)
        fusion_class, fusion_options = parse_fusion(config.fusion)
        shapes = fusion_class.accept(config.fused_shapes())
        self.fusion = fusion_class(fusion_options, shapes, width)
        bridge_class, bridge_options = parse_bridge(config.bridge)
        self.tiles = config.tiles
        self.tile_grid = (0, 0) if self.tiles is None else config.tile_grid
        self.bridge = bridge_class(bridge_options, config.text_config, config.given)
        language = parse_language(config.language)
        self.language_model: Any = build_language(language, config.text_config)
        self.language_kind = kind_of(config.text_config)
        if not language.idle:
            self.bridge.attach(self.language_model)
        added = add_biases(self.language_model, language.added_biases)
        self._added = {f"language_model.{name}" for name in added}
        self._touched, self._unchanged = set(self._added), Originals()
        self._quantized = set[str]()
        for part, said in list(config.lora.items()):
            add_lora(self, part, parse_lora(part, said))
        self.post_init()
        self._keep_apart()

    # ---- forward, in numbered steps; 1 and 2: pictures/seeing.py -------------------------------

    def embed(
        self,
        input_ids: Tensor,
        evidence: VisualEvidence | None,
        image_counts: Tensor | None,
        image_index: Tensor | None = None,
    ) -> Tensor:
        """Step 3: token embeddings ``[B, T, H]`` with visual tokens at their placeholders.

        Args:
            input_ids: ``[B, T]``. evidence: of I images, or of their tiles. image_counts: ``[B]``;
                inferred from the placeholders when None. image_index: place in the evidence of
                every image in reading order, so that several questions can share one image; None =
                one each, in order.

        Raises:
            PlaceholderError: placeholders and images disagree in some sample.
        """
        ids = self.image_token_ids
        special = (input_ids == ids.image) | (input_ids == ids.start) | (input_ids == ids.end)
        slots = input_ids == ids.slot
        embeddings = self.get_input_embeddings()(input_ids.masked_fill(special | slots, 0))
        embeddings = self.bridge.fill_slots(embeddings, slots)
        if evidence is None or evidence.tokens is None:
            if bool(special.any()):
                raise PlaceholderError("the text holds image tokens, but no image was given")
            return embeddings
        layout = None if self.tiles is None else self.tiles.layout
        tokens, grids = evidence.tokens, evidence.grids
        if image_index is not None:
            rows = image_index.tolist()
            tokens, grids = choose_tokens(tokens, grids, rows, layout)
        found = (input_ids == ids.image).sum(dim=1)
        if image_counts is not None:
            counts = image_counts.tolist()
        elif layout is None or grids is None:
            counts = (found // tokens.shape[1]).tolist()
        else:
            counts = images_of_samples(found.tolist(), layout.lengths(grids))
        return self.bridge(embeddings, input_ids, tokens, counts, ids, grids)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        image_counts: Tensor | None = None,
        evidence: VisualEvidence | None = None,
        routes: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        num_items_in_batch: Tensor | int | None = None,
        wanted: Collection[str] = LANGUAGE,
        **kwargs: Any,
    ) -> ManyEyesOutput:
        """Run the straight line as far as ``wanted`` needs.

        1. encode    pixels → feature bundle
        2. fuse      feature bundle → evidence, and what objectives other than the language
                     model's read; without any of ``LANGUAGE`` among ``wanted`` the line ends here
        3. bridge    evidence + text → embeddings, and what layers read besides them
        4. language  embeddings → logits (with ``labels``, only where a token is supervised)
        5. loss      cross entropy summed over supervised tokens / ``num_items_in_batch``
                     (None = this batch's own count)

        ``wanted``: names of intermediates that objectives read, to be found in the output's trace.
        ``routes`` ``[B]``: task types for a bridge with routed adapters, see ``TASK_TYPES``.
        """
        visual, rest = split_visual(kwargs)
        texts, targets = take_texts(rest), take_targets(rest)
        trace: dict[str, Tensor] = {}
        if evidence is None and visual:
            if DETECTION_LOSS in wanted and targets is None:
                raise PartError(NO_TARGETS)
            evidence, trace = self._fuse(visual, texts, wanted)
        if not set(LANGUAGE) & set(wanted):
            return ManyEyesOutput(trace=detection_loss(self, trace, wanted, targets))
        if inputs_embeds is None:
            inputs_embeds = self._embedded(input_ids, evidence, image_counts)
        elif input_ids is None and evidence is not None and evidence.layers is not None:
            raise PartError("pass input_ids: they say where layers add this fusion's tokens")
        inner = self.layer_inputs(
            len(inputs_embeds), evidence, image_counts, routes=routes, input_ids=input_ids
        )
        if PROMPTS in inner and attention_mask is not None:
            last = positions(attention_mask)[:, -inputs_embeds.shape[1] :]
            rest.setdefault("position_ids", last)
        if labels is not None:
            labels = without_image_tokens(labels, self.config.image_tokens)
        with reading_packed(rest.get(PACKED)):
            output = self.language_kind.forward(
                self.language_model, inputs_embeds, attention_mask, labels, **inner, **rest
            )
        if output.targets is None:
            return ManyEyesOutput(logits=output.logits, past_key_values=output.past_key_values)
        trace |= {"logits": output.logits, "targets": output.targets}
        count = max(1, output.targets.numel()) if num_items_in_batch is None else num_items_in_batch
        loss = next_token_sum(output.logits, output.targets) / count
        trace = detection_loss(self, trace, wanted, targets)
        return ManyEyesOutput(loss=loss, logits=output.logits, trace=trace)

    def _embedded(
        self, input_ids: Tensor | None, evidence: VisualEvidence | None, image_counts: Tensor | None
    ) -> Tensor:
        """Step 3 of ``forward``; in training every batch gives the same parameters gradients."""
        if input_ids is None:
            raise PartError("pass input_ids or inputs_embeds")
        embeddings = self.embed(input_ids, evidence, image_counts)
        if not self.training:
            return embeddings
        silent = silent_image(self, embeddings) if evidence is None else 0.0
        return embeddings + silent + shared_zero(self, embeddings)

    def _fuse(
        self,
        visual: Mapping[str, Tensor],
        texts: Texts,
        wanted: Collection[str],
    ) -> tuple[VisualEvidence | None, dict[str, Tensor]]:
        """Step 2: evidence if it is needed, and those of ``wanted`` that images and texts give."""
        bundle = self.with_object_texts(self.encode(**visual), texts.get("perception"))
        trace = self.fusion.intermediates(bundle, texts.get("caption"), wanted)
        evidence = None
        if set(LANGUAGE) & set(wanted) or not trace:
            evidence = self.fuse(bundle, texts.get("question"), visual.get(GRIDS))
            trace = {**evidence.trace, **trace}
        if set(READ_BACK) & set(wanted):
            trace |= read_back(self, trace, bundle, visual)
        if DETECTION_LOSS in wanted:
            found = self.refined_objects(trace, bundle)
            trace |= zip(REFINED_HEADS, (found.logits, found.boxes), strict=True)
        return evidence, trace

    def refined_objects(self, trace: Mapping[str, Tensor], bundle: FeatureBundle) -> ObjectFeatures:
        """What the detector's heads say of the objects that the fusion has refined."""
        name = self.fusion.plan.refines
        if name is None or REFINED not in trace:
            raise PartError(NOTHING_REFINED)
        detector: Any = self.encoders[name]
        refined: ObjectFeatures = detector.judge(object_features(bundle, name), trace[REFINED])
        return refined

    def detect(self, **inputs: Tensor) -> tuple[ObjectFeatures, ObjectFeatures | None]:
        """Return a detector's objects of I images, and the same after refinement in the features.

        ``inputs``: pixels or stored features, as for ``encode``. The second is None where the
        fusion refines nothing; with a gate at zero it equals the first bit for bit.

        Raises:
            PartError: the model has no detector.
        """
        bundle = self.encode(**inputs)
        found = [features for features in bundle.values() if isinstance(features, ObjectFeatures)]
        if not found:
            raise PartError("detect: this model has no detector among its encoders")
        if self.fusion.plan.refines is None:
            return found[0], None
        return found[0], self.refined_objects(self.fusion(bundle).trace, bundle)

    # ---- generation -----------------------------------------------------------------------

    @torch.no_grad()
    def generate(  # type: ignore[override]
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        image_counts: Tensor | None = None,
        evidence: VisualEvidence | None = None,
        image_index: Tensor | None = None,
        routes: Tensor | None = None,
        task: str | Sequence[str] | None = None,
        generation_config: GenerationConfig | None = None,
        **kwargs: Any,
    ) -> Any:
        """Generate with the language model's own ``generate``; the encoders run once per call.

        All of its arguments work (beams, sampling, streamer, ...). Decoder-only models return the
        prompt's ids followed by the new ones, encoder-decoder models the new ones. With routed
        adapters ``routes`` ``[B]`` come from the processor; ``task``, one of ``TASK_TYPES`` for all
        samples or for each, overrides them.

        Raises:
            UsageError: an unknown task type, or one for a model that does not route; a prompt
                longer than the language model reads.
        """
        visual, rest = split_visual(kwargs)
        if input_ids is None:
            raise PartError("generate needs input_ids")
        check_prompts(self.config.text_config, input_ids, attention_mask)
        texts = take_texts(rest)
        if evidence is None and visual:
            evidence = self.encode_images(texts.get("question"), texts.get("perception"), **visual)
        embeddings = self.embed(input_ids, evidence, image_counts, image_index)
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        # image tokens lie outside the vocabulary, where repetition penalties would look them up
        known = input_ids.masked_fill(input_ids >= int(self.config.text_config.vocab_size), 0)
        if generation_config is not None:
            rest["generation_config"] = generation_config
        elif self.config.answer_end is not None:
            own = with_stop(self.generation_config.eos_token_id, self.config.answer_end)
            rest.setdefault("eos_token_id", own)
        self.language_model.generation_config = self.generation_config
        if task is not None:
            routes = routes_for(task, input_ids, routed=self.config.routed)
        inner = self.layer_inputs(
            len(input_ids), evidence, image_counts, image_index, routes, input_ids=input_ids
        )
        with self.layer_context(inner):
            result = self.language_kind.generate(
                self.language_model,
                embeddings,
                attention_mask,
                known,
                **rest,
            )
        if self.language_kind.answers_in_sequence:
            sequences = result if isinstance(result, Tensor) else result.sequences
            copies = len(sequences) // len(input_ids)
            sequences[:, : input_ids.shape[1]] = input_ids.repeat_interleave(copies, dim=0)
        return result
