"""Architecture families as data: what the weights that write the residual stream are called.

Everything is a path relative to one decoder layer. A path names a linear-like module (``self_attn.o_proj``) or a
parameter that a module holds itself (``mlp.experts.down_proj``). In a pattern ``*`` stands for any text within one
segment and ``**`` for any number of whole segments, none included.

`GENERIC` covers the names that most families share and is tried for a family nobody declared. A family of its own is
needed only where a name means something else. Nothing here is a guess about shapes: a weight that could write the
residual stream and that no declaration knows is reported by `models.layout`, never skipped.
"""

from dataclasses import dataclass

from heretic.edits.writer import ATTENTION, MLP, Orientation


@dataclass(frozen=True, slots=True)
class WriterRule:
    """Weights that write the residual stream.

    Attributes:
        component: ATTENTION or MLP.
        patterns: Their paths.
    """

    component: str
    patterns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PostNormRule:
    """Norms between a writer and the residual stream.

    Attributes:
        component: Component of the writers that the rule is for.
        norms: Paths of the norms from the writer outwards.
        requires: Modules that the layer has where the rule holds; a name alone does not tell, since
            ``post_attention_layernorm`` stands before the MLP in Llama and after the attention in Gemma 2.
        writers: Pattern of the writers' paths.
        layer_classes: Class names of the layers; empty for any.
    """

    component: str
    norms: tuple[str, ...]
    requires: tuple[str, ...]
    writers: str = "**"
    layer_classes: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Family:
    """What one architecture family declares.

    Attributes:
        name: Shown to the user.
        model_types: ``config.model_type`` of the models (or of their text configuration).
        writers: What writes the residual stream.
        inner: Weights that do not, although their output may have the hidden size.
        replaced: (writer, projection) pattern pairs: the writer is an inner weight in a layer that has the projection,
            because the projection stands between it and the residual stream.
        constants: Biases that are added to the residual stream and belong to no writer.
    """

    name: str
    model_types: frozenset[str] = frozenset()
    writers: tuple[WriterRule, ...] = ()
    inner: tuple[str, ...] = ()
    replaced: tuple[tuple[str, str], ...] = ()
    constants: tuple[WriterRule, ...] = ()


GENERIC = Family(
    name="generic",
    writers=(
        WriterRule(
            MLP,
            (
                "**.down_proj",
                "**.mlp.c_proj",
                "**.ffn.c_proj",
                "**.dense_4h_to_h",
                "**.w2",
                "**.fc2",
                "**.fc_out",
                "**.mlp.out_proj",
                "**.mlp.Wo",
                "**.mlp.wo",
                "**.mlp.dense",
                "**.mlp.output_linear",
                "**.shared_mlp.output_linear",
                "**.experts.output_linear.weight",
                "**.block_sparse_moe.output_linear.weight",
            ),
        ),
        WriterRule(
            ATTENTION,
            (
                "**.o_proj",
                # Moshi wraps its linear layers.
                "**.o_proj.linear",
                "**.out_proj",
                "**.attn.c_proj",
                "**.attention.c_proj",
                "**.self_attn.c_proj",
                "**.self_attention.dense",
                "**.attention.dense",
                "**.self_attn.dense",
                "**.attn.dense",
                "**.attention.wo",
                "**.attn.wo",
                "**.attn.Wo",
                "**.self_attn.wo",
                "**.temporal_block.linear_out",
            ),
        ),
    ),
    inner=(
        # Token mixers: queries, keys, values, their low-rank parts and gates.
        "**.q_proj",
        "**.k_proj",
        "**.v_proj",
        "**.qkv_proj",
        "**.qkv",
        "**.wqkv",
        "**.Wqkv",
        "**.W_pack",
        "**.wq",
        "**.wk",
        "**.wv",
        "**.query_key_value",
        "**.self.query",
        "**.self.key",
        "**.self.value",
        "**.attention.query",
        "**.attention.key",
        "**.attention.value",
        "**.c_attn",
        "**.q_a_proj",
        "**.q_b_proj",
        "**.kv_a_proj_with_mqa",
        "**.kv_b_proj",
        "**.g_proj",
        "**.gate_proj",
        "**.z_proj",
        "**.output_gate",
        "**.in_proj*",
        "**.x_proj",
        "**.dt_proj",
        "**.linear_x",
        "**.linear_y",
        "**.conv1d",
        "**.conv_1d",
        "**.*_conv1d",
        "**.conv.conv",
        "**.rg_lru.**",
        "**.indexer.**",
        "**.x_proj_weight",
        "**.dt_proj_weight",
        "**.A_log",
        "**.D",
        "**.*layernorm.**",
        # Channel mixers: the way up, the gates and the routers.
        "**.up_proj",
        "**.gate_up_proj",
        "**.w1",
        "**.w3",
        "**.v1",
        "**.fc1",
        "**.fc_in",
        "**.c_fc",
        "**.dense_h_to_4h",
        "**.input_linear",
        "**.Wi",
        "**.gate",
        "**.gate.weight",
        "**.router",
        "**.router.**",
        "**.shared_expert_gate",
    ),
)

FAMILIES: tuple[Family, ...] = (
    Family(
        name="gemma with per-layer inputs",
        model_types=frozenset({"gemma3n", "gemma3n_text", "gemma4", "gemma4_text", "gemma4_unified_text"}),
        writers=(
            WriterRule(MLP, ("per_layer_projection",)),
            WriterRule(ATTENTION, ("laurel.linear_right",)),
        ),
        inner=("per_layer_input_gate", "altup.**", "laurel.linear_left"),
    ),
    Family(
        name="nemotron-h",
        model_types=frozenset({"nemotron_h"}),
        writers=(WriterRule(MLP, ("mixer.fc2_latent_proj",)),),
        inner=("mixer.fc1_latent_proj",),
        replaced=(("mixer.experts.down_proj", "mixer.fc2_latent_proj"),),
    ),
    Family(
        name="jetmoe",
        model_types=frozenset({"jetmoe"}),
        writers=(
            WriterRule(ATTENTION, ("self_attention.experts.output_linear.weight",)),
            WriterRule(MLP, ("mlp.output_linear.weight",)),
        ),
        inner=("self_attention.kv_proj", "**.input_linear.weight"),
        constants=(
            WriterRule(ATTENTION, ("self_attention.experts.bias",)),
            WriterRule(MLP, ("mlp.bias",)),
        ),
    ),
    Family(
        name="deepseek-v4",
        model_types=frozenset({"deepseek_v4"}),
        writers=(WriterRule(ATTENTION, ("self_attn.o_b_proj",)),),
        inner=("self_attn.o_a_proj", "self_attn.compressor.**", "attn_hc.**", "ffn_hc.**"),
    ),
    Family(
        name="rwkv",
        model_types=frozenset({"rwkv"}),
        # feed_forward.value is left out on purpose: a gate scales its output dimension by dimension, which no edit of
        # the weight can follow, so it is reported.
        writers=(WriterRule(ATTENTION, ("attention.output",)),),
        inner=("attention.receptance", "feed_forward.receptance", "feed_forward.key", "**.time_*"),
    ),
    Family(
        name="xlstm",
        model_types=frozenset({"xlstm"}),
        writers=(WriterRule(MLP, ("ffn.proj_down",)),),
        inner=("mlstm_layer.q", "mlstm_layer.k", "mlstm_layer.v", "mlstm_layer.*_preact", "ffn.proj_up*"),
    ),
    Family(
        name="zamba",
        model_types=frozenset({"zamba", "zamba2"}),
        # The shared transformer block feeds the state-space mixer of its layer, not the residual stream.
        inner=("shared_transf.**", "shared_transformer.**", "linear"),
    ),
)

POST_NORMS: tuple[PostNormRule, ...] = (
    PostNormRule(
        MLP,
        norms=("post_feedforward_layernorm_2", "post_feedforward_layernorm"),
        requires=("post_feedforward_layernorm_1", "post_feedforward_layernorm_2", "post_feedforward_layernorm"),
        writers="experts.**",
    ),
    PostNormRule(
        MLP,
        norms=("post_feedforward_layernorm_1", "post_feedforward_layernorm"),
        requires=("post_feedforward_layernorm_1", "post_feedforward_layernorm_2", "post_feedforward_layernorm"),
        writers="mlp.**",
    ),
    PostNormRule(
        MLP,
        norms=("post_per_layer_input_norm",),
        requires=("post_per_layer_input_norm",),
        writers="per_layer_projection",
    ),
    PostNormRule(ATTENTION, norms=("laurel.post_laurel_norm",), requires=("laurel",), writers="laurel.**"),
    # Muse Spark scales by a learned gate per dimension, Inkling convolves over tokens: no gain describes either, so
    # what stands before them is reported as uneditable.
    PostNormRule(ATTENTION, norms=("post_attention_residual_gate",), requires=("post_attention_residual_gate",)),
    PostNormRule(MLP, norms=("post_feedforward_residual_gate",), requires=("post_feedforward_residual_gate",)),
    PostNormRule(ATTENTION, norms=("attn_sconv",), requires=("attn_sconv",)),
    PostNormRule(MLP, norms=("mlp_sconv",), requires=("mlp_sconv",)),
    PostNormRule(ATTENTION, norms=("post_attention_convolution",), requires=("post_attention_convolution",)),
    PostNormRule(MLP, norms=("post_mlp_convolution",), requires=("post_mlp_convolution",)),
    # A.X K1 has one inside its mixture of experts.
    PostNormRule(MLP, norms=("mlp.post_mlp_layernorm",), requires=("mlp.post_mlp_layernorm",), writers="mlp.**"),
    # Gemma 2 and 3 and OLMo 2 and 3 alike: where both stand, both stand behind their block.
    PostNormRule(
        ATTENTION,
        norms=("post_attention_layernorm",),
        requires=("post_attention_layernorm", "post_feedforward_layernorm"),
    ),
    PostNormRule(
        MLP,
        norms=("post_feedforward_layernorm",),
        requires=("post_attention_layernorm", "post_feedforward_layernorm"),
    ),
    # GLM-4.
    PostNormRule(
        ATTENTION, norms=("post_self_attn_layernorm",), requires=("post_self_attn_layernorm", "post_mlp_layernorm")
    ),
    PostNormRule(MLP, norms=("post_mlp_layernorm",), requires=("post_self_attn_layernorm", "post_mlp_layernorm")),
    # AFMoE.
    PostNormRule(
        ATTENTION,
        norms=("post_attention_layernorm",),
        requires=("post_attention_layernorm", "pre_mlp_layernorm", "post_mlp_layernorm"),
    ),
    PostNormRule(
        MLP,
        norms=("post_mlp_layernorm",),
        requires=("post_attention_layernorm", "pre_mlp_layernorm", "post_mlp_layernorm"),
    ),
    # HyperCLOVA X (an identity where the option is off).
    PostNormRule(ATTENTION, norms=("post_norm1",), requires=("post_norm1", "post_norm2")),
    PostNormRule(MLP, norms=("post_norm2",), requires=("post_norm1", "post_norm2")),
    # LFM3 (likewise).
    PostNormRule(ATTENTION, norms=("post_operator_norm",), requires=("post_operator_norm", "post_ffn_norm")),
    PostNormRule(MLP, norms=("post_ffn_norm",), requires=("post_operator_norm", "post_ffn_norm")),
    # Chameleon 34B keeps Llama's names and moves both norms behind their block.
    PostNormRule(
        ATTENTION,
        norms=("input_layernorm",),
        requires=("input_layernorm",),
        layer_classes=frozenset({"ChameleonSwinDecoderLayer"}),
    ),
    PostNormRule(
        MLP,
        norms=("post_attention_layernorm",),
        requires=("post_attention_layernorm",),
        layer_classes=frozenset({"ChameleonSwinDecoderLayer"}),
    ),
)
"""Tried in order; a writer that no rule matches reaches the residual stream without a norm."""

DECODER_LAYER_PATHS: tuple[str, ...] = (
    "model.language_model.layers",
    "model.language_model.model.layers",
    "model.text_model.layers",
    "language_model.model.layers",
    "language_model.layers",
    "language_model.transformer.h",
    "thinker.model.layers",
    "model.language_model.decoder.layers",
    "model.layers",
    "model.decoder.layers",
    "transformer.h",
    "transformer.blocks",
    "transformer.layers",
    "transformer.encoder.layers",
    "gpt_neox.layers",
    "backbone.layers",
    "rwkv.blocks",
    "layers",
    "decoder.layers",
    "h",
    "blocks",
)
"""Where the decoder layers of text and vision-language models are, in the order in which they are tried."""

FUSED_EXPERT_ORIENTATIONS: dict[str, Orientation] = {
    "Llama4TextExperts": Orientation.IN_OUT,
    "LongcatFlashExperts": Orientation.OUT_IN,
    "JetMoeParallelExperts": Orientation.OUT_IN,
    "Step3p7Experts": Orientation.OUT_IN,
}
"""Axis order by class name, for expert modules whose class does not state it (``is_transposed``)."""

PACKED_EXPERTS: dict[str, str] = {"Mxfp4GptOssExperts": "down_proj"}
"""Expert modules that keep the named weight in packed form, not as a parameter."""
