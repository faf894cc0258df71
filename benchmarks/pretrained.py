"""Record what the page on published weights is compared with: vectors of sentence-transformers, and random models of `transformers`.

    pip install -e '.[test]' sentence-transformers
    make record NAME=pretrained
"""
import random
import tempfile
from importlib.metadata import version

import torch
from torch import nn
from transformers import BertConfig, BertModel, GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from builder.records import record
from transformer_course.pretrained import encoder_folder, load_bert, load_gpt2, load_llama

SENTENCES = {
    "tired cat": "The cat sat on the mat because it was tired.",
    "sleepy kitten": "A sleepy kitten rested on the rug.",
    "wet dog": "The dog sat on the mat because it was wet.",
    "bank": "The bank raised its interest rates.",
    "loan": "Borrowing money became more expensive.",
}
MODELS, LENGTH = 20, 24                                              # of each family, and tokens that each reads
NO_SPECIAL = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}


def gpt2(pick):
    heads, width = pick([1, 2, 3, 5]), pick([4, 6, 7])
    return GPT2LMHeadModel(GPT2Config(vocab_size=pick([31, 64]), n_positions=pick([24, 33]), n_embd=heads * width, n_head=heads, n_layer=pick([1, 2, 4]),
                                      n_inner=pick([None, 13]), activation_function=pick(["gelu_new", "gelu", "relu"]),
                                      tie_word_embeddings=pick([True, False]), **NO_SPECIAL))


def bert(pick):
    heads, width = pick([1, 2, 3, 5]), pick([4, 6, 7])
    return BertModel(BertConfig(vocab_size=pick([31, 64]), max_position_embeddings=pick([24, 33]), hidden_size=heads * width, num_attention_heads=heads,
                                num_hidden_layers=pick([1, 2, 4]), intermediate_size=pick([13, 32]), hidden_act=pick(["gelu", "gelu_new", "relu"]),
                                type_vocab_size=pick([1, 2, 3]), **NO_SPECIAL))


def llama(pick):
    kv, group, width = pick([1, 2, 3]), pick([1, 2, 4]), pick([4, 6, 8])
    rope = pick([{"rope_type": "default"}, {"rope_type": "linear", "factor": 4.0},
                 {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 16}])
    bias = pick([True, False])
    return LlamaForCausalLM(LlamaConfig(vocab_size=pick([31, 64]), max_position_embeddings=64, hidden_size=kv * group * width, num_attention_heads=kv * group,
                                        num_key_value_heads=kv, num_hidden_layers=pick([1, 2, 4]), intermediate_size=pick([13, 32]), attention_bias=bias,
                                        mlp_bias=bias, rope_parameters=rope | {"rope_theta": 1000.0}, tie_word_embeddings=pick([True, False]), **NO_SPECIAL))


FAMILIES = {
    "GPT-2": (gpt2, load_gpt2, "logits", "sizes, activation, tied or not"),
    "BERT": (bert, load_bert, "vectors", "sizes, activation, segments, padding"),
    "LLaMA": (llama, load_llama, "logits", "sizes, shared heads, biases, scaled rotations, tied or not"),
}


def compared(family: str) -> dict:
    "The largest difference over random models of random sizes, and the standard deviation of what they return."
    make, load, returned, varied = FAMILIES[family]
    dice, differences, spreads = random.Random(0), [], []
    for seed in range(MODELS):
        torch.manual_seed(seed)
        theirs = make(dice.choice).eval()
        for name, parameter in theirs.named_parameters():
            nn.init.normal_(parameter, 1.0 if "norm" in name.lower() or "ln_" in name else 0.0, 0.3)
        theirs.tie_weights()
        tokens = torch.randint(0, 31, (3, LENGTH))
        mask = torch.arange(LENGTH) < torch.tensor([[LENGTH], [LENGTH // 2], [1]])
        with tempfile.TemporaryDirectory() as folder:
            theirs.save_pretrained(folder)
            ours = load(folder)
        if family == "BERT":
            found, expected = ours(tokens, mask), theirs(tokens, attention_mask=mask).last_hidden_state
        else:
            found, expected = ours(tokens), theirs(tokens).logits
        differences.append((found - expected).abs().max().item())
        spreads.append(expected.std().item())
    return {"family": family, "models": MODELS, "varied": varied, "returned": returned, "difference": max(differences), "spread": sum(spreads) / MODELS}


def measure() -> dict:
    from sentence_transformers import SentenceTransformer

    vectors = SentenceTransformer(str(encoder_folder()), device="cpu").encode(list(SENTENCES.values()))
    return {
        "libraries": {name: version(name) for name in ("transformers", "sentence-transformers")},
        "texts": list(SENTENCES.values()), "short": list(SENTENCES), "vectors": [[round(value, 7) for value in row] for row in vectors.tolist()],
        "parity": [compared(family) for family in FAMILIES],
    }


if __name__ == "__main__":
    with torch.no_grad():
        print(record("pretrained", measure(), __file__))
