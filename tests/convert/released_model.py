"""A slow LLaMA-Adapter V2 after its equations, with the tensor names of the released files.

LLaMA-1 as first published: neighbouring pairs of a head turn together. Everything is in float32.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

QUERIES, WIDTH, HEADS, HIDDEN, BLOCKS = 4, 32, 2, 32, 2
LAYERS = 2
VISUAL_HEADS = 16


def trained(clip_width: int, seed: int = 0) -> dict[str, Tensor]:
    """Random tensors of everything the release trains, none at its starting value."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return 0.3 * torch.randn(shape, generator=generator)

    state = {
        "adapter_query.weight": draw((LAYERS - 1) * QUERIES, HIDDEN),
        "visual_query.weight": draw(QUERIES, WIDTH),
        "clip_proj.weight": draw(WIDTH, clip_width),
        "visual_proj.weight": draw(HIDDEN, WIDTH),
        "llama.norm.weight": 1 + draw(HIDDEN),
    }
    for name, size in (("clip_proj", WIDTH), ("visual_proj", HIDDEN)):
        state[f"{name}.bias"] = draw(size)
        state |= {f"{name}_norm.weight": 1 + draw(size), f"{name}_norm.bias": draw(size)}
    for block in range(BLOCKS):
        at = f"visual_blocks.{block}."
        layers = {"attn.qkv": 3 * WIDTH, "attn.proj": WIDTH, "mlp.fc1": 4 * WIDTH, "mlp.fc2": WIDTH}
        for name, out in layers.items():
            size = 4 * WIDTH if name == "mlp.fc2" else WIDTH
            state |= {f"{at}{name}.weight": draw(out, size), f"{at}{name}.bias": draw(out)}
        for name in ("norm1", "norm2"):
            state |= {f"{at}{name}.weight": 1 + draw(WIDTH), f"{at}{name}.bias": draw(WIDTH)}
    for layer in range(LAYERS):
        at = f"llama.layers.{layer}."
        state[f"{at}attention.gate"] = 3 * draw(1, HEADS, 1, 1)
        state |= {f"{at}attention.wq.bias": draw(HIDDEN), f"{at}attention.wo.bias": draw(HIDDEN)}
        for name, size in (("w1", 2 * HIDDEN), ("w2", HIDDEN), ("w3", 2 * HIDDEN)):
            state[f"{at}feed_forward.{name}.bias"] = draw(size)
        state |= {f"{at}{norm}.weight": 1 + draw(HIDDEN) for norm in ("attention_norm", "ffn_norm")}
    return state


def base(seed: int = 1, vocabulary: int = 300) -> dict[str, Tensor]:
    """Random matrices of a LLaMA-1 with plain key and value heads, in its own row order."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return 0.25 * torch.randn(shape, generator=generator)

    state = {"tok_embeddings.weight": draw(vocabulary, HIDDEN)}
    state["output.weight"] = draw(vocabulary, HIDDEN)
    for layer in range(LAYERS):
        at = f"layers.{layer}."
        state |= {f"{at}attention.w{x}.weight": draw(HIDDEN, HIDDEN) for x in "qkvo"}
        for name, out, size in (
            ("w1", 2 * HIDDEN, HIDDEN),
            ("w2", HIDDEN, 2 * HIDDEN),
            ("w3", 2 * HIDDEN, HIDDEN),
        ):
            state[f"{at}feed_forward.{name}.weight"] = draw(out, size)
    return state


def visual_query(state: dict[str, Tensor], clip_MD: Tensor) -> Tensor:
    """One image's visual prompts ``[K, H]``."""
    x = _linear(state, "clip_proj", clip_MD)
    x = _norm(state, "clip_proj_norm", x)
    x = torch.cat([state["visual_query.weight"], x])
    for block in range(BLOCKS):
        at = f"visual_blocks.{block}."
        joint = _linear(state, f"{at}attn.qkv", _norm(state, f"{at}norm1", x))
        query, key, value = joint.chunk(3, dim=-1)
        heads = []
        size = WIDTH // VISUAL_HEADS
        for head in range(VISUAL_HEADS):
            part = slice(head * size, (head + 1) * size)
            scores = (query[:, part] @ key[:, part].T / math.sqrt(size)).softmax(dim=-1)
            heads.append(scores @ value[:, part])
        x = x + _linear(state, f"{at}attn.proj", torch.cat(heads, dim=-1))
        hidden = F.gelu(_linear(state, f"{at}mlp.fc1", _norm(state, f"{at}norm2", x)))
        x = x + _linear(state, f"{at}mlp.fc2", hidden)
    return _norm(state, "visual_proj_norm", _linear(state, "visual_proj", x[:QUERIES]))


def logits(
    matrices: dict[str, Tensor], state: dict[str, Tensor], ids_T: Tensor, visual_KH: Tensor
) -> Tensor:
    """One sample's logits ``[T, V]``: late fusion into all layers but the first."""
    own = {name.removeprefix("llama."): t for name, t in state.items() if name[:5] == "llama"}
    x = matrices["tok_embeddings.weight"][ids_T]
    adapters = state["adapter_query.weight"].view(LAYERS - 1, QUERIES, HIDDEN)
    for layer in range(LAYERS):
        at = f"layers.{layer}."
        prompts = adapters[layer - 1] + visual_KH if layer else None
        normed = _rms(x, own[f"{at}attention_norm.weight"])
        x = x + _attention(matrices, own, at, normed, prompts)
        normed = _rms(x, own[f"{at}ffn_norm.weight"])

        def project(name: str, y: Tensor, at: str = at) -> Tensor:
            full = f"{at}feed_forward.{name}"
            return y @ matrices[f"{full}.weight"].T + own[f"{full}.bias"]

        x = x + project("w2", F.silu(project("w1", normed)) * project("w3", normed))
    return _rms(x, own["norm.weight"]) @ matrices["output.weight"].T


def _attention(
    matrices: dict[str, Tensor],
    own: dict[str, Tensor],
    at: str,
    x: Tensor,
    prompts: Tensor | None,
) -> Tensor:
    weights = {name: matrices[f"{at}attention.w{name}.weight"] for name in "qkvo"}
    query = x @ weights["q"].T + own[f"{at}attention.wq.bias"]
    key, value = x @ weights["k"].T, x @ weights["v"].T
    size, length = HIDDEN // HEADS, len(x)
    causal = torch.ones(length, length).tril().bool()
    heads = []
    for head in range(HEADS):
        part = slice(head * size, (head + 1) * size)
        turned = _turn(query[:, part])
        scores = turned @ _turn(key[:, part]).T / math.sqrt(size)
        out = scores.masked_fill(~causal, -math.inf).softmax(dim=-1) @ value[:, part]
        if prompts is not None:
            keys, values = prompts @ weights["k"].T, prompts @ weights["v"].T
            read = (turned @ keys[:, part].T / math.sqrt(size)).softmax(dim=-1)
            gate = own[f"{at}attention.gate"][0, head].tanh()
            out = out + gate * (read @ values[:, part])
        heads.append(out)
    return torch.cat(heads, dim=-1) @ weights["o"].T + own[f"{at}attention.wo.bias"]


def _turn(x_TC: Tensor) -> Tensor:
    """Rotate neighbouring pairs by their position, as complex numbers."""
    length, size = x_TC.shape
    steps = 1.0 / 10000.0 ** (torch.arange(0, size, 2) / size)
    angles = torch.outer(torch.arange(length).float(), steps)
    pairs = torch.view_as_complex(x_TC.reshape(length, -1, 2).contiguous())
    return torch.view_as_real(pairs * torch.polar(torch.ones_like(angles), angles)).flatten(1)


def _rms(x: Tensor, weight: Tensor) -> Tensor:
    return x * (x.square().mean(dim=-1, keepdim=True) + 1e-6).rsqrt() * weight


def _linear(state: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]


def _norm(state: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"])
