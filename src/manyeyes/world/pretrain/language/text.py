"""What the pretraining of both language models shares: batches, a start, figures."""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from manyeyes.model.precision import CPU, autocast, bfloat16_pays
from manyeyes.world.pretrain.export import check_start
from manyeyes.world.pretrain.language.coordinates import start_coordinates, start_from
from manyeyes.world.pretrain.language.documents import Form
from manyeyes.world.pretrain.loop import PartObjective, batched, step_generator

_POOL = 4
"""Documents of this many steps are drawn together and sorted by length, to waste no padding."""

Item = TypeVar("Item")


class TextObjective(PartObjective, Generic[Item]):
    """Reading documents of the world; documents of equal length go into one batch.

    Subclasses say what a tokenised document is (``draw``), how long (``length``), the loss, and
    with which document a model begins that starts from another (``later``). ``images_per_step``
    counts documents; step 0 reads those from ``first_document`` on, which is kept with the weights.
    """

    learning_rate = 2e-3
    later: int
    first_document: Tensor

    def __init__(self, seed: int, tokenizer: PreTrainedTokenizerBase, images_per_step: int) -> None:
        super().__init__()
        self.seed, self.images_per_step, self.tokenizer = seed, images_per_step, tokenizer
        torch.manual_seed(seed)
        self.register_buffer("first_document", torch.tensor(0))
        self.network: Any = self.build()
        start_coordinates(
            self.network.get_input_embeddings().weight,
            tokenizer,
            torch.Generator().manual_seed(seed + 2),
        )
        self.network.set_attn_implementation(self.attention())
        self._pool: tuple[int, list[list[Item]]] = (-1, [])

    def build(self) -> Any:
        """Return the network with its starting weights."""
        raise NotImplementedError

    def attention(self) -> str:
        """Name of the attention to train with: fused is slow in bfloat16 on CPUs."""
        return "eager" if bfloat16_pays(CPU) else "sdpa"

    def start_from(self, folder: Path) -> None:
        """Take the weights of the language model in ``folder``; begin with document ``later``.

        Tokens are matched by their text.

        Raises:
            CheckpointError: there is none, or it differs in more than its vocabulary.
        """
        check_start(folder, self.network.config.model_type)
        earlier = type(self.network).from_pretrained(folder, dtype=torch.float32)
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        start_from(self.network, self.tokenizer, earlier, tokenizer)
        self.first_document.fill_(self.later)

    def draw(self, index: int) -> Item:
        """Return training document ``index``."""
        raise NotImplementedError

    def length(self, document: Item) -> int:
        """Return the number of tokens that sorting goes by."""
        raise NotImplementedError

    def export(self, folder: Path) -> None:
        """Write the bf16 model with its tokenizer and chat template."""
        folder.mkdir(parents=True, exist_ok=True)
        half = copy.deepcopy(self.network)
        nn.Module.to(half, torch.bfloat16)
        half.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)

    def seen(self, steps: int) -> dict[str, int]:
        """Return the documents read, the first of them, and the size of the vocabulary."""
        return {
            "documents per step": self.images_per_step,
            "documents": steps * self.images_per_step,
            "first document": int(self.first_document),
            "vocabulary": len(self.tokenizer),
        }

    def documents(self, step: int) -> list[Item]:
        """Return the documents of one step; steps of one pool share a sorted draw."""
        pool, size = step // _POOL, self.images_per_step
        if self._pool[0] != pool:
            first = int(self.first_document) + pool * _POOL * size
            drawn = [self.draw(first + index) for index in range(_POOL * size)]
            drawn.sort(key=self.length)
            self._pool = (pool, [drawn[i * size : (i + 1) * size] for i in range(_POOL)])
        order = torch.randperm(_POOL, generator=step_generator(self.seed, pool)).tolist()
        return self._pool[1][order[step % _POOL]]


@dataclass(frozen=True)
class Placed:
    """A reply's place in a batch: its document, its kind, and its positions ``first``..``end``."""

    document: int
    kind: str
    first: int
    end: int


class Answered(NamedTuple):
    """Logits ``[B, T, V]`` of held-out documents, the right tokens ``[B, T]``, all replies."""

    logits: Tensor
    goals: Tensor
    replies: Sequence[Placed]


class Reply(NamedTuple):
    """One held-out reply: its kind of exchange, whether it was exact, nats of each token."""

    kind: str
    exact: bool
    nats: list[float]


def reading_figures(
    encode: Callable[..., Item],
    answer: Callable[[Any, Sequence[Item], int], Answered],
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    seed: int,
    number: int = 200,
    batch: int = 20,
    form: Form = "words",
    described: bool = True,
) -> dict[str, dict[str, float]]:
    """Measure how well the model reads ``number`` held-out descriptions, or layouts.

    A reply is right when every token is the most likely one given the tokens before it, which is
    the same as greedy decoding giving the exact reply. Returns per kind ``exact`` (0..100),
    ``nats`` per token and ``n``; over all as ``"all"``. Without ``described`` nothing tells of the
    scene, which shows what can be guessed.
    """
    groups: dict[str, list[Reply]] = defaultdict(list)
    for indices in batched(number, batch):
        documents = [
            encode(index, seed, tokenizer, split="val", form=form, described=described)
            for index in indices
        ]
        for reply in _read(answer, model, documents, int(tokenizer.pad_token_id)):
            groups[reply.kind].append(reply)
    groups["all"] = [reply for group in groups.values() for reply in group]
    return {kind: _figures(group) for kind, group in sorted(groups.items())}


@torch.no_grad()
def _read(
    answer: Callable[[Any, Sequence[Item], int], Answered],
    model: Any,
    documents: Sequence[Item],
    pad: int,
) -> list[Reply]:
    with autocast(CPU):
        logits, goals, places = answer(model, documents, pad)
    losses = functional.cross_entropy(logits.float().transpose(1, 2), goals, reduction="none")
    hits = logits.argmax(dim=-1) == goals
    found = []
    for place in places:
        span = slice(place.first, place.end)
        exact = bool(hits[place.document, span].all())
        found.append(Reply(place.kind, exact, losses[place.document, span].tolist()))
    return found


def _figures(replies: list[Reply]) -> dict[str, float]:
    nats = [value for reply in replies for value in reply.nats]
    return {
        "exact": 100.0 * sum(reply.exact for reply in replies) / len(replies),
        "nats": sum(nats) / len(nats),
        "n": float(len(replies)),
    }


@torch.no_grad()
def start_as_search(
    query: nn.Linear,
    key: nn.Linear,
    value: nn.Linear,
    output: nn.Linear,
    *,
    heads: int,
    scale: float,
    generator: torch.Generator,
) -> None:
    """Start an attention as a search for equal tokens that copies what it finds, in place.

    Every other head has equal query and key weights of deviation ``scale``, and the output
    projection is the transpose of the value projection (mimetic initialization, Trockman and Kolter
    2023; which heads and how strong is ours). Reading, which consists of matching and copying, is
    then learnt sooner in one short trial (one seed); all weights stay free.
    """
    shape = (heads, -1, query.in_features)
    queries, keys = query.weight.view(shape), key.weight.view(shape)
    for head in range(0, heads, 2):
        queries[head].normal_(0.0, scale, generator=generator)
        keys[head].copy_(queries[head])
    output.weight.copy_(value.weight.T)
