"""Language models in GGUF: what llama.cpp's layout holds arrives, and what it is not is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from gguf import GGUFWriter
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from cli_runs import invoke, the_object
from manyeyes.convert.gguf import Taken, convert
from manyeyes.errors import CheckpointError

TOKENS = ["<|endoftext|>", "<s>", "</s>", *"abcdefghijklmnopqrstuvwxyz", "Ġ", "ab", "abc"]
TEMPLATE = "{% for m in messages %}<s>{{ m['content'] }}</s>{% endfor %}"
NAMES = {  # Hugging Face's name in a block -> llama.cpp's
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}  # fmt: skip


def model() -> LlamaForCausalLM:
    """A random Llama whose weights bfloat16 holds exactly."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(TOKENS), hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=64,
        rms_norm_eps=1e-5, tie_word_embeddings=False,
    )  # fmt: skip
    return LlamaForCausalLM(config).to(torch.bfloat16).float().eval()


def rotated(weight: torch.Tensor, heads: int) -> torch.Tensor:
    """Order a query or key weight as llama.cpp does: the pairs that rotate stand together."""
    rows, columns = weight.shape
    parts = weight.reshape(heads, 2, rows // heads // 2, columns)
    return parts.transpose(1, 2).reshape(rows, columns)


def write(path: Path, network: LlamaForCausalLM) -> Path:
    """Write ``network`` with a byte-level tokenizer in llama.cpp's layout, float32."""
    config = network.config
    writer = GGUFWriter(path, "llama")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(10_000.0)
    writer.add_vocab_size(len(TOKENS))
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(TOKENS)
    writer.add_token_types([3, 3, 3, *[1] * (len(TOKENS) - 3)])
    writer.add_token_merges(["a b", "ab c"])
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_chat_template(TEMPLATE)
    state = network.state_dict()
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    tensors = {
        "token_embd.weight": state["model.embed_tokens.weight"],
        "output_norm.weight": state["model.norm.weight"],
        "output.weight": state["lm_head.weight"],
    }
    for block in range(config.num_hidden_layers):
        for theirs, short in NAMES.items():
            weight = state[f"model.layers.{block}.{theirs}.weight"]
            turned = heads.get(theirs.rpartition(".")[2])
            tensors[f"blk.{block}.{short}.weight"] = (
                weight if turned is None else rotated(weight, turned)
            )
    for name, tensor in tensors.items():
        writer.add_tensor(name, tensor.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@torch.no_grad()
def test_weights_tokens_and_template_arrive(tmp_path: Path) -> None:
    network = model()
    file = write(tmp_path / "tiny.gguf", network)
    taken = convert(file, tmp_path / "tiny")
    count = sum(p.numel() for p in network.parameters())
    assert taken == Taken("llama", count, len(TOKENS), chat_template=True)
    found = AutoModelForCausalLM.from_pretrained(tmp_path / "tiny", dtype=torch.float32).eval()
    ids = torch.tensor([[1, 5, 9, 30, 31, 2]])
    torch.testing.assert_close(found(ids).logits, network(ids).logits, rtol=1e-5, atol=1e-5)
    assert not hasattr(found.config, "quantization_config")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "tiny")
    chat = tokenizer.apply_chat_template([{"role": "user", "content": "abc z"}], tokenize=False)
    assert chat == "<s>abc z</s>"
    ids = tokenizer(chat, add_special_tokens=False)["input_ids"]
    assert tokenizer.convert_ids_to_tokens(ids) == ["<s>", "abc", "Ġ", "z", "</s>"]


def test_the_command_tells_what_it_took(tmp_path: Path) -> None:
    file = write(tmp_path / "tiny.gguf", model())
    done = the_object(invoke("convert", "gguf", file, "--out", tmp_path / "tiny", "--json"))
    assert done["model_type"] == "llama" and done["vocabulary"] == len(TOKENS)


def test_what_is_no_language_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such file"):
        convert(tmp_path / "none.gguf", tmp_path / "out")
    (tmp_path / "text.gguf").write_text("no weights here")
    with pytest.raises(CheckpointError, match="not a GGUF file"):
        convert(tmp_path / "text.gguf", tmp_path / "out")
    whole = write(tmp_path / "tiny.gguf", model()).read_bytes()
    for kept in (4, 200, len(whole) - 3000):
        (tmp_path / "cut.gguf").write_bytes(whole[:kept])
        with pytest.raises(CheckpointError, match="cannot be read as a language model"):
            convert(tmp_path / "cut.gguf", tmp_path / "out")
    assert not (tmp_path / "out").exists()
