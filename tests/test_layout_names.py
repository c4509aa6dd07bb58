"""What the names in real models tell: each leaf of a model with its role, or the axes it has.

The paths and shapes are those of the models that are named, in small; layers that repeat are left
out. `ASK` marks what no name can tell: gradsmith asks, and names every such leaf at once.
"""

import jax
import jax.numpy as jnp
import pytest

import gradsmith as gs
from gradsmith import MatrixAxes
from gradsmith.layout.conventions import LAYOUTS, ROLES, Layout, Naming
from gradsmith.layout.decision_log import record_decisions

ASK = "ask"
IN_OUT, OUT_IN = MatrixAxes(0, 1), MatrixAxes(1, 0)
ATTENTION_IN, ATTENTION_OUT = MatrixAxes(0, (1, 2)), MatrixAxes((0, 1), 2)
CONV, CONV_OUT_IN = MatrixAxes((0, 1, 2), 3), MatrixAxes((1, 2, 3), 0)
L, D, H, K, F, V = 3, 8, 2, 4, 32, 96  # layers, width, heads, head width, hidden width, vocabulary

MODELS = {
    # --- Flax Linen and NNX ---
    "google/flax examples/lm1b/models.py": {
        "decoder/Embed_0/embedding": ((V, D), "embedding"),
        "decoder/posembed_output/pos_embedding": ((1, 16, D), "embedding"),
        "decoder/encoderdecoderblock_0/LayerNorm_0/scale": ((D,), "vector"),
        "decoder/encoderdecoderblock_0/MultiHeadDotProductAttention_0/query/kernel": (
            (D, H, K),
            ATTENTION_IN,
        ),
        "decoder/encoderdecoderblock_0/MultiHeadDotProductAttention_0/query/bias": (
            (H, K),
            "vector",
        ),
        "decoder/encoderdecoderblock_0/MultiHeadDotProductAttention_0/out/kernel": (
            (H, K, D),
            ATTENTION_OUT,
        ),
        "decoder/encoderdecoderblock_0/MlpBlock_0/Dense_0/kernel": ((D, F), IN_OUT),
        "decoder/encoderdecoder_norm/scale": ((D,), "vector"),
        "decoder/logitdense/kernel": ((D, V), "head"),
    },
    "google/flax examples/ppo/models.py": {
        "conv1/kernel": ((8, 8, 4, 32), CONV),
        "hidden/kernel": ((64, 512), IN_OUT),
        "logits/kernel": ((512, 6), "head"),
        "value/kernel": ((512, 1), IN_OUT),  # the head of the critic: no name tells it
    },
    "google/flax examples/sst2/models.py": {
        "embedder/embedding": ((V, D), "embedding"),
        "encoder/forward_lstm/OptimizedLSTMCell_0/hf/kernel": ((D, D), IN_OUT),
        "encoder/forward_lstm/OptimizedLSTMCell_0/hf/bias": ((D,), "vector"),
        "classifier/keys_only_mlp_attention/keys/kernel": ((D, D), IN_OUT),
        "classifier/mlp/intermediate_layer/kernel": ((D, F), IN_OUT),
    },
    "google/flax flax/nnx: MultiHeadAttention, GRUCell, ConvTranspose, LoRALinear": {
        "attention/query/kernel": ((D, H, K), ATTENTION_IN),
        "attention/key/kernel": ((D, 1, K), ATTENTION_IN),
        "attention/value/bias": ((1, K), "vector"),
        "attention/out/kernel": ((H, K, D), ATTENTION_OUT),
        "cell/dense_h/kernel": ((D, 3 * D), ASK),
        "cell/dense_i/kernel": ((K, 3 * D), ASK),
        "up/conv_transpose/kernel": ((3, 3, D, D), ASK),
        "adapted/kernel": ((D, F), IN_OUT),
        "adapted/lora/lora_a": ((D, 2), IN_OUT),
        "adapted/lora/lora_b": ((2, F), IN_OUT),
    },
    "google-research/big_vision models/vit.py": {
        "cls": ((1, 1, D), "embedding"),
        "pos_embedding": ((1, 16, D), "embedding"),
        "embedding/kernel": ((16, 16, 3, D), "embedding"),
        "Transformer/encoderblock_0/MlpBlock_0/Dense_0/kernel": ((D, F), IN_OUT),
        "Transformer/encoder_norm/scale": ((D,), "vector"),
        "MAPHead_0/probe": ((1, 1, D), "embedding"),
        "MAPHead_0/MlpBlock_0/Dense_0/kernel": ((D, F), IN_OUT),
        "MAPHead_0/LayerNorm_0/scale": ((D,), "vector"),
        "pre_logits/kernel": ((D, D), IN_OUT),
        "head/kernel": ((D, 10), "head"),
    },
    "google-research/big_vision models/vit.py, scanned": {
        "Transformer/encoderblock/LayerNorm_0/scale": ((L, D), "vector"),
        "Transformer/encoderblock/MultiHeadDotProductAttention_0/query/kernel": (
            (L, D, H, K),
            MatrixAxes(1, (2, 3), 0),
        ),
        "Transformer/encoderblock/MultiHeadDotProductAttention_0/query/bias": (
            (L, H, K),
            "vector",
        ),
        "Transformer/encoderblock/MultiHeadDotProductAttention_0/out/kernel": (
            (L, H, K, D),
            MatrixAxes((1, 2), 3, 0),
        ),
        "Transformer/encoderblock/MlpBlock_0/Dense_0/kernel": ((L, D, F), ASK),
        "Transformer/encoderblock/MlpBlock_0/Dense_0/bias": ((L, F), "vector"),
    },
    "google-research/big_vision models/mlp_mixer.py": {
        "stem/kernel": ((16, 16, 3, D), ASK),
        "MixerBlock_0/token_mixing/Dense_0/kernel": ((16, F), IN_OUT),
        "MixerBlock_0/channel_mixing/Dense_1/kernel": ((F, D), IN_OUT),
        "pre_head_layer_norm/scale": ((D,), "vector"),
        "head/kernel": ((D, 10), "head"),
    },
    "google-research/big_vision models/bit.py": {
        "conv_root/kernel": ((7, 7, 3, D), CONV),
        "gn_root/scale": ((D,), "vector"),
        "block1/unit1/conv1/kernel": ((1, 1, D, D), CONV),
        "block1/unit1/gn_proj/bias": ((F,), "vector"),
        "head/kernel": ((F, 10), "head"),
    },
    "google-research/big_vision models/proj/uvim/vtt.py": {
        "EmbedPatches/kernel": ((16, 16, 3, D), "embedding"),
        "EmbedTargets/embedding": ((V, D), "embedding"),
        "EncDecBlock0/SelfAttn/query/kernel": ((D, H, K), ATTENTION_IN),
        "EncDecBlock0/SelfAttn/out/kernel": ((H, K, D), ATTENTION_OUT),
        "EncDecBlock0/LayerNorm1/scale": ((D,), "vector"),
        "EncDecBlock0/MLP/Dense_0/kernel": ((D, F), IN_OUT),
        "LogitsDense/kernel": ((D, V), "head"),
    },
    "google-research/big_vision models/ppp/gemma.py": {
        "embedder/input_embedding": ((V, D), "embedding"),
        "layers/pre_attention_norm/scale": ((L, D), "vector"),
        "layers/attn/q_einsum/w": ((L, H, D, K), ASK),
        "layers/attn/kv_einsum/w": ((L, 2, 1, D, K), ASK),
        "layers/attn/attn_vec_einsum/w": ((L, H, K, D), ASK),
        "layers/mlp/gating_einsum": ((L, 2, D, F), ASK),
        "layers/mlp/linear": ((L, F, D), ASK),
        "final_norm/scale": ((D,), "vector"),
    },
    "google-deepmind/gemma gm/nn, with peft/_lora.py": {
        "embedder/mm_input_projection/w": ((F, D), IN_OUT),
        "embedder/mm_soft_embedding_norm/scale": ((F,), "vector"),
        "layer_0/attn/_query_norm/scale": ((K,), "vector"),
        "layer_0/attn/q_einsum/w": ((H, D, K), ASK),
        "layer_0/attn/q_einsum/lora/a": ((D, 2), IN_OUT),
        "layer_0/attn/q_einsum/lora/b": ((2, H, K), ATTENTION_IN),
        "layer_0/attn/attn_vec_einsum/lora/a": ((H, K, 2), ATTENTION_OUT),
        "layer_0/attn/attn_vec_einsum/lora/b": ((2, D), IN_OUT),
        "layer_0/mlp/linear": ((F, D), IN_OUT),
    },
    "google/t5x examples/t5/network.py": {
        "token_embedder/embedding": ((V, D), "embedding"),
        "encoder/relpos_bias/rel_embedding": ((H, 32), "embedding"),
        "encoder/layers_0/pre_attention_layer_norm/scale": ((D,), "vector"),
        "encoder/layers_0/attention/query/kernel": ((D, H * K), IN_OUT),
        "encoder/layers_0/mlp/wi_0/kernel": ((D, F), IN_OUT),
        "encoder/encoder_norm/scale": ((D,), "vector"),
        "decoder/logits_dense/kernel": ((D, V), "head"),
    },
    "AI-Hypercomputer/maxtext models/llama2.py, scanned along axis 1": {
        "token_embedder/embedding": ((V, D), "embedding"),
        "decoder/layers/pre_self_attention_layer_norm/scale": ((D, L), "vector"),
        "decoder/layers/self_attention/query/kernel": ((D, L, H, K), ASK),
        "decoder/layers/self_attention/out/kernel": ((H, L, K, D), ASK),
        "decoder/layers/mlp/wi_0/kernel": ((D, L, F), ASK),
        "decoder/decoder_norm/scale": ((D,), "vector"),
        "decoder/logits_dense/kernel": ((D, V), "head"),
    },
    "AI-Hypercomputer/maxtext models/mixtral.py and models/gpt3.py": {
        "decoder/layers_0/self_attention/query/kernel": ((D, H, K), ATTENTION_IN),
        "decoder/layers_0/self_attention/key/kernel": ((D, 1, K), ATTENTION_IN),
        "decoder/layers_0/self_attention/out/kernel": ((H, K, D), ATTENTION_OUT),
        "decoder/layers_0/MoeBlock_0/gate/kernel": ((D, 4), "head"),
        "decoder/layers_0/MoeBlock_0/wi_0": ((4, D, F), ASK),
        "decoder/layers_0/MoeBlock_0/wi_0_bias": ((4, F), "vector"),
        "decoder/layers_0/MoeBlock_0/wo": ((4, F, D), ASK),
        "decoder/layers_1/self_attention/qkv_proj/kernel": ((D, 3, H, K), ASK),
    },
    "young-geng/EasyLM models/llama/llama_model.py": {
        "transformer/wte/embedding": ((V, D), "embedding"),
        "transformer/h/0/attention/wq/kernel": ((D, D), IN_OUT),
        "transformer/h/0/feed_forward/w1/kernel": ((D, F), IN_OUT),
        "transformer/h/0/attention_norm/kernel": ((D,), "vector"),
        "transformer/ln_f/kernel": ((D,), "vector"),
        "lm_head/kernel": ((D, V), "head"),
    },
    "kvfrans/jax-diffusion-transformer diffusion_transformer.py": {
        "pos_embed": ((1, 16, D), "embedding"),
        "PatchEmbed_0/Conv_0/kernel": ((2, 2, 4, D), "embedding"),
        "TimestepEmbedder_0/Dense_0/kernel": ((F, D), IN_OUT),
        "LabelEmbedder_0/Embed_0/embedding": ((11, D), "embedding"),
        "DiTBlock_0/Dense_0/kernel": ((D, 6 * D), IN_OUT),
        "DiTBlock_0/MlpBlock_0/Dense_0/kernel": ((D, F), IN_OUT),
        "FinalLayer_0/Dense_1/kernel": ((D, 16), IN_OUT),  # no name tells that it is the last
    },
    "jax-ml/bonsai models/qwen3/modeling.py": {
        "embedder/embedding": ((V, D), "embedding"),
        "layers/0/attn/q_proj/kernel": ((D, H, K), ASK),
        "layers/0/attn/q_norm/scale": ((K,), "vector"),
        "layers/0/mlp/gate_proj/kernel": ((D, F), IN_OUT),
        "lm_head/kernel": ((D, V), "head"),
    },
    "jax-ml/bonsai models/dinov3, vjepa2, gemma3 and mamba2": {
        "embeddings/register_tokens": ((1, 4, D), "embedding"),
        "embeddings/mask_token": ((1, 1, D), "embedding"),
        "layer/0/layer_scale1/lambda1": ((D,), "vector"),
        "pooler/query_tokens": ((1, 1, D), "embedding"),
        "predictor/proj/kernel": ((D, F), IN_OUT),
        "classifier/kernel": ((D, 10), "head"),
        "vision_tower/head/probe": ((1, 1, D), "embedding"),
        "vision_tower/head/mlp/fc1/kernel": ((D, F), IN_OUT),
        "multi_modal_projector/mm_input_projection_weight": ((D, F), IN_OUT),
        "embed_tokens/weight/embedding": ((V, D), "embedding"),
        "layers/0/mixer/dt_bias": ((H,), "vector"),
        "layers/0/mixer/conv1d/conv/kernel": ((4, 1, D), ASK),
    },
    "google/brax training/networks.py": {
        "hidden_0/kernel": ((D, F), IN_OUT),
        "MLPHead_0/Dense_0/kernel": ((D, F), IN_OUT),
        "std_param/kernel": ((K,), "vector"),
    },
    # --- Hugging Face, Flax and Torch names ---
    "huggingface/transformers modeling_flax_bert.py": {
        "bert/embeddings/LayerNorm/scale": ((D,), "vector"),
        "bert/embeddings/token_type_embeddings/embedding": ((2, D), "embedding"),
        "bert/embeddings/word_embeddings/embedding": ((V, D), "embedding"),
        "bert/encoder/layer/0/attention/self/query/kernel": ((D, D), IN_OUT),
        "bert/encoder/layer/0/attention/output/dense/kernel": ((D, D), IN_OUT),
        "bert/pooler/dense/kernel": ((D, D), IN_OUT),
        "cls/predictions/transform/dense/kernel": ((D, D), IN_OUT),
        "classifier/kernel": ((D, 2), "head"),
    },
    "huggingface/transformers modeling_flax_albert, _electra, _roberta and _distilbert.py": {
        "albert/encoder/embedding_hidden_mapping_in/kernel": ((K, D), IN_OUT),
        "electra/embeddings_project/kernel": ((K, D), IN_OUT),
        "roberta/classifier/dense/kernel": ((D, D), IN_OUT),
        "pre_classifier/kernel": ((D, D), IN_OUT),
        "qa_outputs/kernel": ((D, 2), "head"),
    },
    "huggingface/transformers modeling_flax_gpt2.py": {
        "transformer/wpe/embedding": ((16, D), "embedding"),
        "transformer/h/0/ln_1/scale": ((D,), "vector"),
        "transformer/h/0/attn/c_attn/kernel": ((3 * D, D), ASK),
        "transformer/h/0/mlp/c_fc/kernel": ((F, D), IN_OUT),  # (out, in) in truth: docs/models.md
        "lm_head/kernel": ((D, V), "head"),
    },
    "huggingface/transformers modeling_flax_t5.py": {
        "shared/embedding": ((V, D), "embedding"),
        "decoder/block/0/layer/0/SelfAttention/q/kernel": ((D, D), IN_OUT),
        "decoder/block/0/layer/0/SelfAttention/relative_attention_bias/embedding": (
            (32, H),
            "embedding",
        ),
        "decoder/block/0/layer/2/DenseReluDense/wi_0/kernel": ((D, F), IN_OUT),
        "decoder/final_layer_norm/weight": ((D,), "vector"),
    },
    "huggingface/transformers modeling_flax_bart.py and modeling_flax_bloom.py": {
        "final_logits_bias": ((1, V), "vector"),
        "model/shared/embedding": ((V, D), "embedding"),
        "model/decoder/embed_positions/embedding": ((16, D), "embedding"),
        "model/decoder/layernorm_embedding/scale": ((D,), "vector"),
        "model/decoder/layers/0/encoder_attn/k_proj/kernel": ((D, D), IN_OUT),
        "transformer/h/0/self_attention/query_key_value/kernel": ((D, 3 * D), ASK),
        "transformer/h/0/mlp/dense_h_to_4h/kernel": ((D, F), IN_OUT),
    },
    "huggingface/transformers modeling_flax_vit.py and modeling_flax_beit.py": {
        "vit/embeddings/cls_token": ((1, 1, D), "embedding"),
        "vit/embeddings/position_embeddings": ((1, 17, D), "embedding"),
        "vit/embeddings/patch_embeddings/projection/kernel": ((8, 8, 3, D), "embedding"),
        "vit/encoder/layer/0/layernorm_before/scale": ((D,), "vector"),
        "vit/encoder/layer/0/intermediate/dense/kernel": ((D, F), IN_OUT),
        "beit/encoder/layer/0/lambda_1": ((D,), "vector"),
        "beit/relative_position_bias/relative_position_bias_table": ((52, H), "embedding"),
        "classifier/kernel": ((D, 2), "head"),
    },
    "huggingface/transformers modeling_flax_clip.py and modeling_flax_whisper.py": {
        "logit_scale": ((), "vector"),
        "text_projection/kernel": ((D, K), IN_OUT),
        "vision_model/embeddings/class_embedding": ((D,), "vector"),
        "vision_model/embeddings/patch_embedding/kernel": ((8, 8, 3, D), "embedding"),
        "vision_model/pre_layrnorm/scale": ((D,), "vector"),
        "model/encoder/conv1/kernel": ((3, 80, D), ASK),
        "model/encoder/embed_positions/embedding": ((16, D), "embedding"),
    },
    "huggingface/transformers modeling_flax_resnet.py and modeling_flax_wav2vec2.py": {
        "resnet/embedder/embedder/convolution/kernel": ((7, 7, 3, D), CONV),
        "resnet/embedder/embedder/normalization/scale": ((D,), "vector"),
        "classifier/1/kernel": ((D, 2), "head"),
        "wav2vec2/encoder/pos_conv_embed/conv/weight_g": ((1, 1, 16), "vector"),
        "wav2vec2/encoder/pos_conv_embed/conv/weight_v": ((D, K, 16), ASK),
    },
    "huggingface/transformers modeling_llama.py and modeling_mixtral.py, Torch names": {
        "model/embed_tokens/weight": ((V, D), "embedding"),
        "model/layers/0/self_attn/q_proj/weight": ((D, D), OUT_IN),
        "model/layers/0/self_attn/qkv_proj/weight": ((3 * D, D), ASK),
        "model/layers/0/mlp/gate_up_proj/weight": ((2 * F, D), ASK),
        "model/layers/0/input_layernorm/weight": ((D,), "vector"),
        "model/layers/0/block_sparse_moe/gate/weight": ((4, D), "head"),
        "lm_head/weight": ((V, D), "head"),
    },
    "huggingface/peft tuners/lora, Torch names": {
        "layers/0/q_proj/base_layer/weight": ((D, D), OUT_IN),
        "layers/0/q_proj/lora_A/default/weight": ((2, D), OUT_IN),
        "layers/0/q_proj/lora_B/default/weight": ((D, 2), OUT_IN),
        "layers/0/c_attn/lora_A/default/weight": ((2, D), OUT_IN),
        "layers/0/c_attn/lora_B/default/weight": ((3 * D, 2), OUT_IN),
    },
    # --- Equinox ---
    "patrick-kidger/equinox docs/examples/vision_transformer.ipynb": {
        "patch_embedding/linear/weight": ((D, 48), OUT_IN),
        "positional_embedding": ((17, D), "embedding"),
        "cls_token": ((1, D), "embedding"),
        "attention_blocks/0/layer_norm1/weight": ((D,), "vector"),
        "attention_blocks/0/attention/query_proj/weight": ((D, D), OUT_IN),
        "attention_blocks/0/linear1/weight": ((F, D), OUT_IN),
        "mlp/layers/1/weight": ((10, D), OUT_IN),  # the head, in a module called mlp
    },
    "patrick-kidger/equinox docs/examples/bert.ipynb": {
        "encoder/embedder_block/token_embedder/weight": ((V, D), "embedding"),
        "encoder/embedder_block/layernorm/weight": ((D,), "vector"),
        "encoder/layers/0/ff_block/mlp/weight": ((F, D), OUT_IN),
        "encoder/pooler/weight": ((D, D), OUT_IN),
        "classifier_head/weight": ((2, D), "head"),
    },
    "patrick-kidger/equinox equinox/nn: GRUCell, Conv2d, layers under vmap": {
        "gru/weight_ih": ((3 * D, K), ASK),
        "gru/weight_hh": ((3 * D, D), ASK),
        "gru/bias_n": ((D,), "vector"),
        "conv1/weight": ((D, 3, 3, 3), CONV_OUT_IN),
        "conv1/bias": ((D, 1, 1), "vector"),
        "blocks/norm1/weight": ((L, D), "vector"),
        "blocks/linear/bias": ((L, D), "vector"),
        "blocks/linear/weight": ((L, F, D), ASK),
    },
    "paganpasta/eqxvision models/classification/vit.py and swin.py": {
        "cls_token": ((1, D), "embedding"),
        "pos_embed": ((17, D), "embedding"),
        "patch_embed/proj/weight": ((D, 3, 16, 16), "embedding"),
        "blocks/0/attn/qkv/weight": ((3 * D, D), ASK),
        "blocks/0/attn/proj/weight": ((D, D), OUT_IN),
        "blocks/0/attn/relative_position_bias_table": ((49, H), "embedding"),
        "head/weight": ((10, D), "head"),
    },
    # --- Haliax ---
    "stanford-crfm/levanter models/gpt2.py and lora.py": {
        "embeddings/token_embeddings/weight/0": ((V, D), "embedding"),
        "transformer/blocks/stacked/ln_1/weight/0": ((L, D), "vector"),
        "transformer/blocks/stacked/attn/c_attn/weight/0": ((L, D, 3, H, K), ASK),
        "transformer/blocks/stacked/attn/c_attn/bias/0": ((L, 3, H, K), "vector"),
        "transformer/blocks/stacked/mlp/c_fc/weight/0": ((L, D, F), ASK),
        "transformer/blocks/stacked/mlp/c_fc/lora/lora_A/weight/0": (
            (L, 2, D),
            MatrixAxes(2, 1, 0),
        ),
        "transformer/blocks/stacked/mlp/c_fc/lora/lora_B/weight/0": (
            (L, F, 2),
            MatrixAxes(2, 1, 0),
        ),
    },
    # --- Penzai, by the labels of its parameters ---
    "google-deepmind/penzai models/transformer, toolshed/lora.py": {
        "transformer/embedder/embeddings": ((V, D), "embedding"),
        "transformer/block_0/pre_attention_norm/scale/weights": ((D,), "vector"),
        "transformer/block_0/attention/key/weights": ((D, H, K), ASK),
        "transformer/block_0/mlp/gating_linear/weights": ((D, F), IN_OUT),
        "mlp/gating_linear/LoRA_A/weights": ((D, 2), IN_OUT),
        "mlp/gating_linear/LoRA_B/weights": ((2, F), IN_OUT),
        "transformer/lm_head/weights": ((D, V), "head"),
    },
    # --- Haiku ---
    "google-deepmind/dm-haiku examples/transformer/model.py": {
        "embed/embeddings": ((V, D), "embedding"),
        "~/positional_embeddings": ((16, D), "embedding"),
        "layer_norm/offset": ((D,), "vector"),
        "multi_head_attention/query/w": ((D, D), IN_OUT),
        "linear_1/w": ((F, D), IN_OUT),
        "linear_1/b": ((D,), "vector"),
    },
    "google-deepmind/dm-haiku haiku/_src/nets/resnet.py and recurrent.py": {
        "res_net50/~/initial_conv/w": ((7, 7, 3, D), CONV),
        "res_net50/~/block_group_0/~/block_0/~/shortcut_batchnorm/scale": ((1, 1, 1, D), "vector"),
        "res_net50/~/logits/w": ((D, 10), "head"),
        "conv2_d_transpose/w": ((3, 3, D, 3), ASK),
        "layer_stack/linear/w": ((L, D, F), ASK),
        "layer_stack/linear/b": ((L, F), "vector"),
        "gru/w_h": ((D, 3 * D), ASK),
        "lstm/linear/w": ((D, 4 * D), ASK),
    },
}

NAMES = {
    # whole words: where the first ones stand, heads and embeddings were matrices
    "mlp_head/kernel": ((D, 10), "head"),
    "vit/mlp_head/layers/1/weight": ((10, D), "head"),
    "output_head/kernel": ((D, 10), "head"),
    "policy_head/~/linear_0/w": ((D, F), IN_OUT),  # not the last layer of that head
    "policy_head/kernel": ((D, 6), "head"),
    "valueHead/kernel": ((D, 1), "head"),
    "QHead_1/kernel": ((D, 1), "head"),
    "to_logits/kernel": ((D, V), "head"),
    "to_logits/layers/1/weight": ((V, D), "head"),
    "embed_out/weight": ((V, D), "head"),
    "unembedding/kernel": ((D, V), "head"),
    "moe/router/kernel": ((D, 4), "head"),
    "class_token": ((1, 1, D), "embedding"),
    "pos_embed": ((16, D), "embedding"),
    "tok_emb/weight": ((V, D), "embedding"),
    "transformer/wpe/weight": ((V, D), "embedding"),
    "shared/weight": ((V, D), "embedding"),
    # ... and these were vectors, embeddings or heads for a part of a word
    "pre_norm_ffn/w": ((D, F), IN_OUT),
    "adanorm_proj/kernel": ((D, F), IN_OUT),
    "norm/kernel": ((D, F), IN_OUT),
    "scale/kernel": ((D, F), IN_OUT),
    "pair_bias_proj/kernel": ((D, F), IN_OUT),
    "normal_linear/kernel": ((D, F), IN_OUT),
    "attention_head/kernel": ((D, F), IN_OUT),
    "multi_head_mixer/kernel": ((D, F), IN_OUT),
    "headed/kernel": ((D, F), IN_OUT),
    "head_proj/kernel": ((D, F), IN_OUT),
    "remember/kernel": ((D, F), IN_OUT),
    "embedding_model/layers/0/up/kernel": ((D, F), IN_OUT),
    "embed_proj/kernel": ((D, F), IN_OUT),
    "token_mixer/kernel": ((D, F), IN_OUT),
    "reclassifier_in/kernel": ((D, F), IN_OUT),
    "factors/b": ((2, D), IN_OUT),
    "final_layer/kernel": ((D, F), IN_OUT),
    # scanned norms, whose leaf is a weight
    "blocks/ln_f/weight": ((L, D), "vector"),
    "blocks/q_layernorm/weight": ((L, D), "vector"),
    "blocks/BatchNorm2d/weight": ((L, D), "vector"),
    "blocks/norm_q": ((L, D), "vector"),
    "blocks/LayerNorm_0/offset": ((L, D), "vector"),
    # rank alone
    "blocks/temperature": ((1, 1, D), "vector"),
}


def tree_of(leaves):
    return {path: jax.ShapeDtypeStruct(leaf[0], jnp.float32) for path, leaf in leaves.items()}


def told(leaves):
    """Return `{path: role or axes}`, with `ASK` for those that the error names."""
    tree, asked = tree_of(leaves), {}
    try:
        decided = gs.roles(tree)
    except ValueError as error:
        lines = str(error).split("axes={\n")[1].split("\n}")[0].splitlines()
        asked = {line.strip().split("'")[1]: ASK for line in lines}
        decided = gs.roles(tree, overrides={path: gs.Role("frozen", "asked") for path in asked})
    says = {path: role.axes or role.name for path, role in decided.items()}
    return says | asked


@pytest.mark.parametrize("model", MODELS)
def test_names_tell_what_the_leaves_of_a_real_model_are(model):
    leaves = MODELS[model]
    assert told(leaves) == {path: expected for path, (_, expected) in leaves.items()}


def test_names_are_read_by_whole_words_and_by_rank():
    assert told(NAMES) == {path: expected for path, (_, expected) in NAMES.items()}


def test_an_optimizer_reads_every_name_as_roles_does():
    """Inside a partition a rule sees the matrices alone, and must find the same axes."""
    for leaves in MODELS.values():
        asked = {path: gs.Role("frozen", "") for path, leaf in leaves.items() if leaf[1] == ASK}
        optimizer = gs.muon(0.1, roles=asked)
        with record_decisions() as log:
            jax.eval_shape(optimizer.init, tree_of(leaves))
        matrices = {
            path: axes for path, (_, axes) in leaves.items() if isinstance(axes, MatrixAxes)
        }
        assert log.axes == matrices
        assert {path for path, role in log.roles.items() if role.name == "matrix"} == set(matrices)


def test_a_naming_convention_is_one_line(monkeypatch):
    leaves = {"abtastung/kernel": (4, 8), "kopf/kernel": (3, 4, 8)}
    tree = {path: jax.ShapeDtypeStruct(shape, jnp.float32) for path, shape in leaves.items()}
    conventions = "gradsmith.layout.conventions"
    monkeypatch.setattr(f"{conventions}.ROLES", (Naming("kopf", "head"), *ROLES))
    line = Layout("abtastung/", MatrixAxes(1, 0), "sampled")
    monkeypatch.setattr(f"{conventions}.LAYOUTS", (line, *LAYOUTS))
    decided = gs.roles(tree)
    assert decided["kopf/kernel"].name == "head"
    assert decided["abtastung/kernel"] == gs.Role("matrix", "rank 2, sampled", MatrixAxes(1, 0))
