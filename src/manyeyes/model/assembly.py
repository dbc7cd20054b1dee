"""A model put together from pretrained parts: access to them, and light checkpoints of changes.

What equals a part's own checkpoint is not stored: a reference names that and its fingerprint.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, Self, cast

import torch
from torch import Tensor, nn
from transformers import GenerationConfig, PreTrainedModel

from manyeyes import files
from manyeyes.bridge import ImageTokenIds
from manyeyes.checkpoints import card, hub, light, tying
from manyeyes.checkpoints.originals import Originals
from manyeyes.checkpoints.trust import trusting
from manyeyes.checkpoints.weight_checks import check_finite, check_names
from manyeyes.errors import CheckpointError, PartError, RecipeError
from manyeyes.language import IdleLanguage, has_own_head, parse_language
from manyeyes.layers.adapters.lora import live_names, plain_name
from manyeyes.layers.recompute import recompute_frozen
from manyeyes.model.auto.folder_code import NotCopied
from manyeyes.model.configuration import ManyEyesConfig


class PartsModel(NotCopied, PreTrainedModel):
    """Base of the model: encoders and language model come from checkpoints of their own."""

    encoders: Any
    fusion: Any
    bridge: Any
    language_model: Any
    _touched: set[str]
    """Parameters that differ from their part's checkpoint."""
    _added: set[str]
    """Parameters that no part's checkpoint holds."""
    _quantized: set[str]
    """Beginnings of the names of tensors that are held in fewer bits than the checkpoint's."""
    _unchanged: Originals
    """What else was compared with the parts' checkpoints, and found equal."""

    def get_input_embeddings(self) -> nn.Module:
        return self.language_model.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.language_model.set_input_embeddings(value)

    def get_output_embeddings(self) -> nn.Module | None:
        return self.language_model.get_output_embeddings()

    @property
    def image_token_ids(self) -> ImageTokenIds:
        """Ids of the image tokens: they follow the language model's own tokenizer."""
        if self.config.image_tokens is None:
            raise PartError(
                "config.image_tokens is not set; ManyEyesProcessor.from_config(config) sets it"
            )
        return ImageTokenIds(*self.config.image_tokens)

    def train(self, mode: bool = True) -> Self:
        """Set training mode; parts without trainable parameters stay in ``eval()``.

        A language model stays in training mode all the same with ``language: {dropout: true}``.
        """
        super().train(mode)
        if mode:
            dropped = parse_language(self.config.language).dropout
            language = () if dropped else (self.language_model,)
            for part in (*self.encoders.values(), self.fusion, self.bridge, *language):
                if not any(parameter.requires_grad for parameter in part.parameters()):
                    part.eval()
                    recompute_frozen(part)
            self._note_trainable()
        return self

    @classmethod
    def from_parts(
        cls, config: ManyEyesConfig, *, seed: int = 0, dtype: torch.dtype | None = None
    ) -> Self:
        """Build a model over pretrained encoders and language model, the rest fresh from ``seed``.

        Parts without a checkpoint are initialised at random. Records each loaded part's
        fingerprint in ``config.references``.

        Raises:
            CheckpointError: a part's checkpoint is missing or damaged.
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = cls(config)
        for part, module, name in model._pretrained_parts():
            loaded = hub.load_pretrained(module.__class__, name, module.config)
            state = loaded.state_dict()
            config.references[part] = {"checkpoint": name, "sha256": hub.fingerprint(state)}
            model._untie(part, tying.untied(loaded))
            own = module.state_dict()
            added = {key: own[key] for key in own if f"{part}.{key}" in model._added}
            here = live_names(own)
            module.load_state_dict({**added, **{here.get(n, n): x for n, x in state.items()}})
            if part == "language_model":  # what its own file says, not only its configuration
                module.generation_config = loaded.generation_config
        if not isinstance(model.language_model, IdleLanguage):
            model.bridge.start_from(cast(Tensor, model.get_input_embeddings().weight))
        model.generation_config = model.language_model.generation_config
        if dtype is not None:
            model.to(dtype=dtype)  # type: ignore[call-arg]
        return model.eval()

    def _keep_apart(self) -> None:
        """Untie what ``config.untied`` names, or find out what that is as far as it is declared."""
        model, spec = self.language_model, parse_language(self.config.language)
        if self.config.untied is None and not spec.idle:
            own = has_own_head(spec, self.config.text_config)
            names = tying.tied_head(model) if own else []
            self.config.untied = [f"language_model.{name}" for name in names]
        present = dict(self.named_parameters(remove_duplicate=False))
        tying.untie(self, [name for name in self.config.untied or () if name in present])

    def _untie(self, part: str, names: Iterable[str]) -> None:
        """Untie ``names`` of ``part`` and nothing else there."""
        others = [n for n in self.config.untied or () if not n.startswith(f"{part}.")]
        names = sorted([*others, *(f"{part}.{name}" for name in names)])
        if names != self.config.untied:
            self.config.untied = names
            self._keep_apart()

    def _pretrained_parts(self) -> list[tuple[str, Any, str]]:
        """Return (part, module, checkpoint) of every part that has a checkpoint."""
        parts = [
            (f"encoders.{spec.name}.{attribute}", module, spec.checkpoint)
            for spec in self.config.encoder_specs()
            for attribute, module in self.encoders[spec.name].pretrained_parts().items()
        ]
        if not isinstance(self.language_model, IdleLanguage):
            name = self.config.language.get("checkpoint", "")
            parts.append(("language_model", self.language_model, name))
        return [part for part in parts if part[2]]

    def save_pretrained(  # type: ignore[override]
        self,
        save_directory: str | Path,
        *,
        self_contained: bool = False,
        state_dict: Mapping[str, Tensor] | None = None,
        **kwargs: Any,
    ) -> None:
        """Write a light checkpoint: all tensors but those that equal their part's own checkpoint.

        ``self_contained=True`` writes everything, so that no other checkpoint is needed. All files
        take the place of those in the folder at once; of the others there, only weights that the
        new ones replace are removed.

        Raises:
            WriteError: the files could not be written; the folder is as it was.
        """
        state = dict(self.state_dict() if state_dict is None else state_dict)
        if kwargs.get("push_to_hub"):
            kwargs.setdefault("repo_id", Path(save_directory).resolve().name)
        # by the names that the model has here: those of old files would not be told from others
        kwargs.setdefault("save_original_format", False)
        kept: dict[str, dict[str, Any]] = {}
        if not self_contained:
            self.note_changes(state)
            stored = self.stored_names(state)
            kept = self._live_references(state.keys() - stored)
            state = {name: tensor for name, tensor in state.items() if name in stored}
            for part, entry in kept.items() if not kwargs["save_original_format"] else ():
                entry[light.CHANGED] = sorted(n for n in state if _is_of(part, n))
        references, self.config.references = self.config.references, kept
        try:
            with files.written_folder(save_directory, ours=light.is_weights) as staging:
                super().save_pretrained(staging, state_dict=state, **kwargs)
                if (staging / card.CONFIG_FILE).is_file():  # of several processes one writes it
                    place = Path(save_directory)
                    card.write_card(staging, place.resolve().name, instead_of=place)
        finally:
            self.config.references = references

    def _upload_modified_files(
        self, working_dir: Any, repo_id: str, *args: Any, **kwargs: Any
    ) -> Any:
        """Upload as ``transformers`` does: our card where the repository has none of its own."""
        if (Path(working_dir) / card.CARD_FILE).is_file():
            card.write_card(Path(working_dir), repo_id)
        return super()._upload_modified_files(working_dir, repo_id, *args, **kwargs)

    def note_changes(self, state: Mapping[str, Tensor] | None = None) -> None:
        """Compare ``state`` with the checkpoints of the parts, and record what must be saved.

        So LoRA merged into the weights, weights loaded from elsewhere and what was trained before
        it was frozen are stored too. A part whose checkpoint can no longer be read, or is another
        by now, counts as changed. Shards of tensors are not compared: call this before sharding.
        """
        self._note_trainable()
        state = self.state_dict() if state is None else state
        for part, module, _ in self._pretrained_parts():
            reference = self.config.references.get(part)
            if reference is not None:
                seen = [
                    name
                    for name in state.keys() - self._touched
                    if _is_of(part, name) and not name.startswith(tuple(self._quantized))
                ]
                held = {plain_name(n): state[n] for n in seen}
                changed = self._unchanged.changed(part, module, reference, held)
                self._touched |= {n for n in seen if plain_name(n) in changed}

    def _live_references(self, left_out: Iterable[str]) -> dict[str, dict[str, Any]]:
        """Return copies of the references that stand for at least one of ``left_out``."""
        names = list(left_out)
        references = self.config.references.items()
        return {p: dict(entry) for p, entry in references if any(_is_of(p, n) for n in names)}

    def note_quantized(self, prefix: str) -> None:
        """Record that tensors whose names begin so stand for those of the part's checkpoint."""
        self._quantized.add(prefix)

    def mark_trained(self, names: Iterable[str]) -> None:
        """Record parameters that differ from their part's checkpoint, so that they are saved."""
        self._touched.update(names)

    def stored_names(self, names: Iterable[str]) -> set[str]:
        """Return the names that a light checkpoint holds.

        The other tensors are found through the references to their parts' own checkpoints.
        """
        self._note_trainable()
        referenced = tuple(f"{part}." for part in self.config.references)
        return {n for n in names if n in self._touched or not n.startswith(referenced)}

    def _note_trainable(self) -> None:
        # every name of a tied tensor counts: a tied head is trained with its embedding
        every = self.named_parameters(remove_duplicate=False)
        self._touched |= {name for name, p in every if p.requires_grad}

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, *args: Any, **kwargs: Any) -> Self:
        """Load a light or self-contained checkpoint as ``transformers`` does.

        Raises:
            CheckpointError: a missing or damaged file, a frozen part other than the one it was
                trained on, or code that a folder asks to run.
        """
        place = str(pretrained_model_name_or_path or "")
        with trusting(kwargs.pop("trust_remote_code", None)), hub.reading(place):
            return cls._from_folder(pretrained_model_name_or_path, *args, **kwargs)

    @classmethod
    def _from_folder(cls, pretrained_model_name_or_path: Any, *args: Any, **kwargs: Any) -> Self:
        folder = Path(str(pretrained_model_name_or_path))
        config, asked = kwargs.pop("config", None), kwargs.pop("output_loading_info", False)
        if config is None and pretrained_model_name_or_path is not None:
            config = _read_config(pretrained_model_name_or_path)
        is_light = folder.is_dir() and config.references and "state_dict" not in kwargs
        place, own = (None if is_light else pretrained_model_name_or_path), {}
        if is_light:
            own = light.read_weights(folder)
            kwargs["state_dict"] = {**cls._referenced_state(config, own, str(folder)), **own}
        with light.naming_damage(folder):
            loaded: Any = super().from_pretrained(
                place, *args, config=config, output_loading_info=True, **kwargs
            )
        model, report = loaded
        where = str(pretrained_model_name_or_path or "the given state_dict")
        check_names(where, report["missing_keys"], report["unexpected_keys"])
        if is_light:
            model._take_up(folder, own)
        else:
            check_finite(where, model.state_dict())
        return loaded if asked else model

    def _take_up(self, folder: Path, own: Collection[str]) -> None:
        """Remember what a light checkpoint holds, and how it answers."""
        self._touched |= {n for n in own if n.startswith(tuple(self.config.references))}
        self.name_or_path = str(folder)
        if (folder / "generation_config.json").is_file():
            self.generation_config = GenerationConfig.from_pretrained(folder)

    @classmethod
    def _referenced_state(
        cls, config: ManyEyesConfig, own: Mapping[str, Tensor], where: str
    ) -> dict[str, Tensor]:
        """Load and verify every referenced part of a light checkpoint.

        A tensor tied to one of ``own`` is left out: only one name of a tied tensor is stored.
        """
        recorded = config.untied is not None
        with torch.device("meta"):
            skeleton = cls(config)
        state: dict[str, Tensor] = {}
        for part, module, _ in skeleton._pretrained_parts():
            reference = config.references.get(part)
            if reference is not None:
                loaded = hub.load_pretrained(
                    module.__class__, reference["checkpoint"], module.config
                )
                here = live_names(f"{part}.{name}" for name in module.state_dict())
                found = light.referenced_state(part, reference, loaded)
                state.update({here.get(name, name): x for name, x in found.items()})
                if not recorded:
                    skeleton._untie(part, tying.untied(loaded))
        ties = skeleton.get_expanded_tied_weights_keys(all_submodels=True)
        check_names(where, light.missing_changes(config.references, own, ties))
        for target, source in ties.items():
            if source in own and target not in own:
                state.pop(target, None)
        return state

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """PyTorch's own initialisation (COMM §10.9), where nothing was loaded."""
        own = list(module.parameters(recurse=False))
        if any(getattr(parameter, "_is_hf_initialized", False) for parameter in own):
            return
        reset = getattr(module, "reset_parameters", None)
        if callable(reset):
            reset()


def _is_of(part: str, name: str) -> bool:
    return name.startswith(f"{part}.")


def _read_config(place: Any) -> ManyEyesConfig:
    """Return the configuration of a whole model; what it says wrong is named as its file's."""
    try:
        return ManyEyesConfig.from_pretrained(place)
    except (RecipeError, PartError) as error:
        raise CheckpointError(f"{Path(str(place)) / 'config.json'}: {error}") from error
