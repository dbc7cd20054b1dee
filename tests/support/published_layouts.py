"""Names of tensors in published checkpoints, beside those that the part of ours has for them.

One line stands for many names: ``{a,b}`` for each of a and b, ``{a=b}`` for a in the file and b in
the part, ``#`` for the number of a layer. After ``-`` come names that the part does not use.

Sources: the files' own indexes, and the conversion scripts in ``transformers`` that wrote them
(convert_vit_mae_to_pytorch, convert_dinov2_to_hf, convert_dinov3_vit_to_hf, convert_siglip_to_hf,
convert_detr_to_pytorch, convert_blip_2_original_to_pytorch,
convert_instructblip_original_to_pytorch, convert_llama_weights_to_hf,
convert_opt_original_pytorch_checkpoint_to_pytorch, convert_t5x_checkpoint_to_pytorch).
"""

from __future__ import annotations

import itertools
import re

_GROUP = re.compile(r"\{([^}]*)\}")

_BOTH = ".{weight,bias}"
_CLIP_LAYER = [
    "encoder.layers.#.self_attn.{k_proj,v_proj,q_proj,out_proj}" + _BOTH,
    "encoder.layers.#.{layer_norm1,layer_norm2,mlp.fc1,mlp.fc2}" + _BOTH,
]
_CLIP_TOWER = [
    "embeddings.class_embedding",
    "embeddings.{patch_embedding,position_embedding}.weight",
    "{pre_layrnorm,post_layernorm}" + _BOTH,
    *_CLIP_LAYER,
]
_CLIP_TEXT = [
    "- logit_scale",
    "- text_projection.weight",
    "- {text_model,vision_model}.embeddings.position_ids",
    "- text_model.embeddings.{token_embedding,position_embedding}.weight",
    "- text_model.final_layer_norm" + _BOTH,
    *(f"- text_model.{line}" for line in _CLIP_LAYER),
]
CLIP = [
    *(f"{{vision_model.=}}{line}" for line in _CLIP_TOWER),
    "- visual_projection.weight",
    *_CLIP_TEXT,
]
CLIP_PROJECTED = [
    *(f"vision_model.{line}" for line in _CLIP_TOWER),
    "visual_projection.weight",
    *_CLIP_TEXT,
]
SIGLIP = [
    "{vision_model.=}embeddings.patch_embedding" + _BOTH,
    "{vision_model.=}embeddings.position_embedding.weight",
    "{vision_model.=}post_layernorm" + _BOTH,
    *(f"{{vision_model.=}}{line}" for line in _CLIP_LAYER),
    "- {logit_scale,logit_bias}",
    "- vision_model.head.{probe,attention.in_proj_weight,attention.in_proj_bias}",
    "- vision_model.head.{attention.out_proj,layernorm,mlp.fc1,mlp.fc2}" + _BOTH,
    "- text_model.embeddings.{token_embedding,position_embedding}.weight",
    "- text_model.{final_layer_norm,head}" + _BOTH,
    *(f"- text_model.{line}" for line in _CLIP_LAYER),
]
_QKV = "{attention.query=q_proj,attention.key=k_proj,attention.value=v_proj}"
DINOV2 = [
    "embeddings.{cls_token,mask_token,position_embeddings}",
    "embeddings.patch_embeddings.projection" + _BOTH,
    f"encoder.layer.#.attention.{_QKV}" + _BOTH,
    "encoder.layer.#.attention.{output.dense=o_proj}" + _BOTH,
    "encoder.layer.#.{layer_scale1,layer_scale2}.lambda1",
    "encoder.layer.#.{norm1,norm2,mlp.fc1,mlp.fc2}" + _BOTH,
    "layernorm" + _BOTH,
]
DINOV2_REGISTERS = [*DINOV2, "embeddings.register_tokens"]
DINOV3 = [
    "embeddings.{cls_token,mask_token,register_tokens}",
    "embeddings.patch_embeddings" + _BOTH,
    "{=model.}layer.#.attention.{q_proj,v_proj,o_proj}" + _BOTH,
    "{=model.}layer.#.attention.k_proj.weight",
    "{=model.}layer.#.{layer_scale1,layer_scale2}.lambda1",
    "{=model.}layer.#.{norm1,norm2,mlp.up_proj,mlp.down_proj}" + _BOTH,
    "norm" + _BOTH,
]
_MAE_BLOCK = [
    f"attention.{_QKV}" + _BOTH,
    "attention.{output.dense=o_proj}" + _BOTH,
    "{intermediate.dense=mlp.fc1,output.dense=mlp.fc2,layernorm_before,layernorm_after}" + _BOTH,
]
_MAE_ENCODER = [
    "embeddings.{cls_token,position_embeddings}",
    "embeddings.patch_embeddings.projection" + _BOTH,
    *(f"{{encoder.layer=layers}}.#.{line}" for line in _MAE_BLOCK),
    "layernorm" + _BOTH,
]
_MAE_DECODER = [
    "decoder.{mask_token,decoder_pos_embed}",
    "decoder.{decoder_embed,decoder_norm,decoder_pred}" + _BOTH,
    *(f"decoder.decoder_layers.#.{line}" for line in _MAE_BLOCK),
]
MAE = [*(f"{{vit.=}}{line}" for line in _MAE_ENCODER), *(f"- {line}" for line in _MAE_DECODER)]
MAE_WITH_DECODER = [*(f"{{vit.=}}{line}" for line in _MAE_ENCODER), *_MAE_DECODER]
_QFORMER_BLOCK = [
    "attention.attention.{query,key,value}" + _BOTH,
    "attention.output.{dense,LayerNorm}" + _BOTH,
    "{intermediate_query.dense,output_query.dense,output_query.LayerNorm}" + _BOTH,
]
_CROSS = "qformer.encoder.layer.0.crossattention."  # of every second layer
_QFORMER_CROSS = [_CROSS + "attention.{query,key,value}" + _BOTH,
                  _CROSS + "output.{dense,LayerNorm}" + _BOTH]  # fmt: skip
_QFORMER_TEXT = ["{intermediate.dense,output.dense,output.LayerNorm}" + _BOTH]
EVA = [
    "{vision_model.=}embeddings.{class_embedding,position_embedding}",
    "{vision_model.=}embeddings.patch_embedding" + _BOTH,
    "{vision_model.=}encoder.layers.#.self_attn.{qkv,projection}" + _BOTH,
    "{vision_model.=}encoder.layers.#.{layer_norm1,layer_norm2,mlp.fc1,mlp.fc2}" + _BOTH,
    "{vision_model.=}post_layernorm" + _BOTH,
    "- query_tokens",
    "- language_projection" + _BOTH,
    "- qformer.layernorm" + _BOTH,
    *(f"- {line}" for line in _QFORMER_CROSS),
    *(f"- qformer.encoder.layer.#.{line}" for line in _QFORMER_BLOCK),
    "- language_model.model.decoder.{embed_tokens,embed_positions}.weight",
    "- language_model.model.decoder.layers.#.fc1.weight",
]
INSTRUCTBLIP_QFORMER = [
    "{=fusion.}query_tokens",
    "{vision_model.post_layernorm=fusion.ln_vision}" + _BOTH,
    "{language_projection=fusion.projector.0}" + _BOTH,
    "{qformer.embeddings.=fusion.text.}{word_embeddings,position_embeddings}.weight",
    "{qformer.embeddings.=fusion.qformer.}layernorm" + _BOTH,
    *(f"{{=fusion.}}{line}" for line in _QFORMER_CROSS),
    *(f"{{=fusion.}}qformer.encoder.layer.#.{line}" for line in (*_QFORMER_BLOCK, *_QFORMER_TEXT)),
    "- vision_model.embeddings.{class_embedding,position_embedding}",
    "- language_model.{shared,lm_head,encoder.embed_tokens}.weight",
]
BLIP2_QFORMER = [
    "{=fusion.}query_tokens",
    "{vision_model.post_layernorm=fusion.ln_vision}" + _BOTH,
    "{language_projection=fusion.projector.0}" + _BOTH,
    "{=fusion.}qformer.layernorm" + _BOTH,
    *(f"{{=fusion.}}{line}" for line in _QFORMER_CROSS),
    *(f"{{=fusion.}}qformer.encoder.layer.#.{line}" for line in _QFORMER_BLOCK),
    "- vision_model.embeddings.{class_embedding,position_embedding}",
    "- language_model.model.decoder.{embed_tokens,embed_positions}.weight",
]
_OLD_NORM = ".{gamma=weight,beta=bias}"
_BERT_LAYER = "{bert.=fusion.qformer.}encoder.layer.#."
BERT = [
    "{bert.embeddings=fusion.text}.{word_embeddings,position_embeddings}.weight",
    "{bert.embeddings.LayerNorm=fusion.qformer.layernorm}" + _OLD_NORM,
    _BERT_LAYER + "attention.{self=attention}.{query,key,value}" + _BOTH,
    _BERT_LAYER + "attention.output.dense" + _BOTH,
    _BERT_LAYER + "attention.output.LayerNorm" + _OLD_NORM,
    _BERT_LAYER + "{intermediate,output}.dense" + _BOTH,
    _BERT_LAYER + "output.LayerNorm" + _OLD_NORM,
    "{cls.predictions.bias=fusion.heads.lm_bias}",
    "{cls.predictions.transform.dense=fusion.heads.lm_dense}" + _BOTH,
    "{cls.predictions.transform.LayerNorm=fusion.heads.lm_norm}" + _OLD_NORM,
    "- bert.embeddings.{token_type_embeddings.weight,position_ids}",
    "- {bert.pooler.dense,cls.seq_relationship}" + _BOTH,
    "- cls.predictions.decoder.weight",
]
_NORM = (
    "{normalization.weight,normalization.bias,normalization.running_mean,normalization.running_var}"
)
_RESNET = "model.backbone.{conv_encoder.=}model."
_ATTENTION = "{k_proj,v_proj,q_proj,out_proj=o_proj}" + _BOTH
DETR = [
    *(
        _RESNET + place + "." + what
        for place in (
            "embedder.embedder",
            "encoder.stages.0.layers.0.shortcut",
            "encoder.stages.0.layers.0.layer.{0,1,2}",
        )
        for what in ("convolution.weight", _NORM)
    ),
    "model.input_projection" + _BOTH,
    "model.query_position_embeddings.weight",
    "model.{encoder,decoder}.layers.#.self_attn." + _ATTENTION,
    "model.{encoder,decoder}.layers.#.{fc1=mlp.fc1,fc2=mlp.fc2}" + _BOTH,
    "model.{encoder,decoder}.layers.#.{self_attn_layer_norm,final_layer_norm}" + _BOTH,
    "model.decoder.layers.#.encoder_attn." + _ATTENTION,
    "model.decoder.layers.#.encoder_attn_layer_norm" + _BOTH,
    "model.decoder.layernorm" + _BOTH,
    "class_labels_classifier" + _BOTH,
    "bbox_predictor.layers.{0,1,2}" + _BOTH,
]
_LLAMA = [
    "model.{embed_tokens,norm}.weight",
    "model.layers.#.self_attn.{q_proj,k_proj,v_proj,o_proj}.weight",
    "model.layers.#.mlp.{gate_proj,up_proj,down_proj}.weight",
    "model.layers.#.{input_layernorm,post_attention_layernorm}.weight",
]
LLAMA = [*_LLAMA, "lm_head.weight", "- model.layers.#.self_attn.rotary_emb.inv_freq"]
SMOLLM2 = _LLAMA  # the head is the embedding
QWEN2 = [*_LLAMA, "model.layers.#.self_attn.{q_proj,k_proj,v_proj}.bias"]
OPT = [
    "{=model.}decoder.{embed_tokens,embed_positions}.weight",
    "{=model.}decoder.final_layer_norm" + _BOTH,
    "{=model.}decoder.layers.#.self_attn.{k_proj,v_proj,q_proj,out_proj}" + _BOTH,
    "{=model.}decoder.layers.#.{fc1,fc2,self_attn_layer_norm,final_layer_norm}" + _BOTH,
]
OPT_WITH_HEAD = [line.replace("{=model.}", "model.") for line in OPT] + ["lm_head.weight"]
_FEED_FORWARD = "DenseReluDense.{wi_0,wi_1,wo}.weight"
T5 = [
    "shared.weight",
    "{encoder,decoder}.embed_tokens.weight",
    "lm_head.weight",
    "{encoder,decoder}.final_layer_norm.weight",
    "{encoder,decoder}.block.0.layer.0.SelfAttention.relative_attention_bias.weight",
    "{encoder,decoder}.block.#.layer.0.SelfAttention.{q,k,v,o}.weight",
    "{encoder,decoder}.block.#.layer.{0,1}.layer_norm.weight",
    "encoder.block.#.layer.1." + _FEED_FORWARD,
    "decoder.block.#.layer.1.EncDecAttention.{q,k,v,o}.weight",
    "decoder.block.#.layer.2." + _FEED_FORWARD,
    "decoder.block.#.layer.2.layer_norm.weight",
]


def names(layout: list[str], layers: int) -> dict[str, str | None]:
    """Return {name in the file: name in the part, None if it is not used}."""
    found: dict[str, str | None] = {}
    for line in layout:
        pairs = _expanded(line.removeprefix("- "))
        for number in range(layers) if "#" in line else (0,):
            for published, own in pairs:
                used = None if line.startswith("- ") else own.replace("#", str(number))
                found[published.replace("#", str(number))] = used
    return found


def _expanded(line: str) -> list[tuple[str, str]]:
    groups = [[item.partition("=") for item in group.split(",")] for group in _GROUP.findall(line)]
    pairs = []
    for chosen in itertools.product(*groups):
        published, own = line, line
        for old, equals, new in chosen:
            published = _GROUP.sub(old, published, count=1)
            own = _GROUP.sub(new if equals else old, own, count=1)
        pairs.append((published, own))
    return pairs
