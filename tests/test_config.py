"""A config is frozen, refuses what no model can have, and says what a model would ignore."""
import dataclasses

import pytest

from transformer_course.config import PRESETS, Config

SIZES = {"vocab_size": 11, "max_len": 9, "d_model": 24}
SKELETON = {"n_layers", "tie_embeddings"}
OTHER = {"n_layers": 3, "n_heads": 4, "n_kv_heads": 2, "d_ff": 7, "kind": "encoder", "positions": "rope", "rope_base": 77.0, "window": 5,
         "activation": "relu", "n_experts": 4, "n_active_experts": 2, "norm": "rms", "norm_first": False, "norm_eps": 1e-6, "bias": False,
         "tie_embeddings": True, "n_segments": 2, "dropout": 0.1}           # for every field with a default another value


def config(**changes) -> Config:
    "A config that only differs from the defaults where it must: groups need heads, and active experts need experts."
    needed = {"n_kv_heads": {"n_heads": 4}, "n_active_experts": {"n_experts": 4}}
    return Config(**SIZES | {key: value for name in changes for key, value in needed.get(name, {}).items()} | changes)


def test_the_defaults_are_the_plainest_model():
    plain = Config(**SIZES)
    assert (plain.n_layers, plain.n_heads, plain.n_kv_heads, plain.d_ff) == (1, 1, 1, 96)
    assert (plain.positions, plain.tie_embeddings, plain.dropout) == ("none", False, 0.0)
    assert (plain.d_head, plain.group_size) == (24, 1)


def test_replace_keeps_what_is_not_named():
    explicit = Config(**SIZES, n_heads=4, n_kv_heads=2, d_ff=96)                # 96 is the usual width, given on purpose
    wider = explicit.replace(d_model=48)
    assert (wider.d_ff, wider.n_kv_heads) == (96, 2) and wider == dataclasses.replace(explicit, d_model=48)
    followed = Config(**SIZES, n_heads=4).replace(n_heads=8)
    assert (followed.n_kv_heads, followed.group_size) == (4, 2)
    assert explicit.replace() == explicit and explicit.d_model == 24


def test_none_asks_for_the_usual_value_again():
    again = Config(**SIZES, n_heads=4, n_kv_heads=2, d_ff=7).replace(d_model=48, n_heads=8, n_kv_heads=None, d_ff=None)
    assert (again.n_kv_heads, again.d_ff) == (8, 192)


def test_the_list_of_other_values_knows_every_field():
    assert set(OTHER) == {field.name for field in dataclasses.fields(Config)} - set(SIZES)
    assert all(getattr(config(**{name: value}), name) != getattr(Config(**SIZES), name) for name, value in OTHER.items())


@pytest.mark.parametrize("name", OTHER)
def test_a_value_that_nothing_uses_is_refused_by_name(name):
    changed = config(**{name: OTHER[name]})
    different = {field for field in OTHER if getattr(changed, field) != getattr(Config(**SIZES), field)}
    changed.check_used(different)
    with pytest.raises(ValueError, match=f"^{name}={OTHER[name]!r} would be ignored"):
        changed.check_used(different - {name})


def test_defaults_followers_and_required_fields_are_never_refused():
    Config(**SIZES).check_used(())
    Config(**SIZES, n_heads=4).check_used(["n_heads"])                          # n_kv_heads follows
    Config(**SIZES, n_heads=4, n_kv_heads=4, d_ff=96).check_used({"n_heads"})   # the usual values, given on purpose


@pytest.mark.parametrize(("changes", "said"), [
    ({"n_heads": 5}, "d_model=24 is not divisible by n_heads=5"),
    ({"n_heads": 4, "n_kv_heads": 3}, "n_heads=4 is not divisible by n_kv_heads=3"),
    ({"n_active_experts": 3, "n_experts": 2}, "n_active_experts=3 is more than n_experts=2"),
    ({"positions": "rope", "n_heads": 8}, "24 / 8 = 3 is odd"),
    ({"dropout": 1.0}, "dropout=1.0 must be at least 0, below 1"),
    ({"dropout": -0.1}, "dropout=-0.1"),
    ({"dropout": float("nan")}, "dropout=nan"),
    ({"n_layers": 0}, "n_layers=0"),
    ({"window": 0}, "window=0"),
    ({"norm": "batch"}, "norm='batch' is not one of layer, rms"),
    ({"tie_embeddings": 1}, "tie_embeddings=1"),
])
@pytest.mark.refusal
def test_what_no_model_can_have_is_refused(changes, said):
    with pytest.raises(ValueError, match=said):
        Config(**SIZES | changes)


def test_presets_say_what_the_published_models_have():
    has = {name: (one.positions, one.tie_embeddings) for name, one in PRESETS.items()}
    for name in ("gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl", "gpt3", "bert-base"):
        assert has[name] == ("learned", True)
    assert has["transformer-base"] == ("sinusoidal", True)
    for name in ("llama-7b", "llama-2-70b", "llama-3-8b", "llama-3-70b", "mistral-7b", "mixtral-8x7b"):
        assert has[name] == ("rope", False)
    assert has["tiny"] == has["small"] == ("learned", False)
    assert {one.dropout for one in PRESETS.values()} == {0.0}
