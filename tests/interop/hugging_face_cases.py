"""The cases of make_hugging_face_fixtures.py: what differs between one folder and another.

`config` goes to transformers, which writes its spelling of today. `older` is the same model as
config files of 2023 and 2024 spell it, modelled on those that were published with Llama 3.2,
SmolLM2, Mistral, Qwen3 and GPT-2. `must_matter` are wrong readings of the config, each of which
must change the logits. Epsilons differ from every default and are large, so that one misread shows.
"""

DEFAULT_ROPE = {"rope_type": "default", "rope_theta": 10000.0}
LLAMA3_ROPE = {
    "rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    # Wavelengths below 8 positions stay, those above 32 turn 8 times slower: with head width 16, one
    # frequency of the eight stays, one is blended and six are divided.
    "original_max_position_embeddings": 32,
}
# The ids are set low, since transformers warns of those beyond the vocabulary.
IDS = {"bos_token_id": 1, "eos_token_id": 2}


def rope(theta, **others):
    return {"rope_parameters": {**DEFAULT_ROPE, "rope_theta": theta, **others}}


def llama(vocab, hidden, layers, heads, kv_heads, d_ff, eps, theta, tied, **others):
    """A config of the Llama family as transformers 5 takes it, without what the older spelling differs in."""
    return {
        "vocab_size": vocab, "hidden_size": hidden, "num_hidden_layers": layers, "num_attention_heads": heads,
        "num_key_value_heads": kv_heads, "intermediate_size": d_ff, "rms_norm_eps": eps,
        "max_position_embeddings": 128, "tie_word_embeddings": tied, **IDS, **rope(theta), **others,
    }


def older_llama(model_type, architecture, config, dtype="float32", **others):
    """The same config in the older spelling: `rope_theta` and `rope_scaling` apart, and `torch_dtype`."""
    config = {key: value for key, value in config.items() if key != "rope_parameters"} | {
        "architectures": [architecture], "model_type": model_type, "attention_dropout": 0.0, "hidden_act": "silu",
        "initializer_range": 0.02, "rope_scaling": None, "torch_dtype": dtype, "transformers_version": "4.43.0",
        "use_cache": True,
    } | others
    return dict(sorted(config.items()))


def case(model_type, architecture, seed, config, older, must_matter, dtype="float32", **others):
    theta = config["rope_parameters"]["rope_theta"]
    return {
        "model_type": model_type, "seed": seed, "config": config, "dtype": dtype,
        "older": older_llama(model_type, architecture, config, dtype, rope_theta=theta, **older),
        # RMSNorm's eps defaults to 1e-6 in transformers and to 1e-5 in gpu-tlm.
        "must_matter": [{"rms_norm_eps": 1e-6}, {"rms_norm_eps": 1e-5}, *must_matter], **others,
    }


def llama_grouped():
    config = llama(67, 64, 2, 4, 2, 40, 3e-3, 10000.0, False, rope_parameters=LLAMA3_ROPE)
    # Llama 3.2 spells its scaling like this; `rope_theta` lies beside it.
    scaling = {key: value for key, value in LLAMA3_ROPE.items() if key != "rope_theta"}
    wrong = [{"rope_parameters": DEFAULT_ROPE}]
    for key, value in (("factor", 4.0), ("low_freq_factor", 2.0), ("high_freq_factor", 8.0),
                       ("original_max_position_embeddings", 128), ("rope_theta", 500000.0)):
        wrong.append({"rope_parameters": LLAMA3_ROPE | {key: value}})
    older = {"rope_scaling": scaling, "attention_bias": False, "mlp_bias": False, "pretraining_tp": 1}
    return case("llama", "LlamaForCausalLM", 1, config, older, wrong)


def llama_tied_head_dim():
    config = llama(61, 48, 2, 3, 1, 40, 2e-3, 500000.0, True, head_dim=24)
    older = {"attention_bias": False, "mlp_bias": False}
    return case("llama", "LlamaForCausalLM", 2, config, older, [rope(10000.0)])


def mistral():
    config = llama(89, 48, 2, 4, 2, 40, 1e-3, 1000000.0, False, sliding_window=None)
    # A window shorter than the text is what a reader must not take `null` for.
    wrong = [rope(10000.0), {"sliding_window": 32}]
    return case("mistral", "MistralForCausalLM", 3, config, {}, wrong)


def smollm2():
    config = llama(73, 48, 3, 3, 1, 40, 1e-3, 100000.0, True)
    # As in SmolLM2-135M's config.json, which names settings that transformers does not read.
    older = {"is_llama_config": True, "rope_interleaved": False, "pretraining_tp": 1, "attention_bias": False,
             "mlp_bias": False}
    return case("llama", "LlamaForCausalLM", 4, config, older, [rope(10000.0)], dtype="bfloat16")


def qwen3():
    config = llama(71, 48, 2, 4, 2, 40, 2e-3, 1000000.0, True, head_dim=16)
    older = {"sliding_window": None, "use_sliding_window": False, "max_window_layers": 2, "attention_bias": False}
    return case("qwen3", "Qwen3ForCausalLM", 5, config, older, [rope(10000.0)])


def llama_sharded():
    config = llama(61, 48, 2, 4, 4, 40, 1e-3, 10000.0, False)
    made = case("llama", "LlamaForCausalLM", 6, config, {}, [rope(500000.0)], max_shard_size="40KB")
    # Llama 2 names neither the head width nor the biases, and leaves the theta at its default.
    del made["older"]["rope_theta"]
    return made


def llama_f16():
    config = llama(61, 32, 2, 2, 2, 48, 1e-3, 10000.0, False)
    return case("llama", "LlamaForCausalLM", 7, config, {}, [rope(500000.0)], dtype="float16")


def gpt2():
    config = {"vocab_size": 79, "n_positions": 96, "n_embd": 32, "n_layer": 2, "n_head": 2, "n_inner": None,
              "activation_function": "gelu_new", "layer_norm_epsilon": 1e-3, **IDS}
    # OpenAI's config.json names `n_ctx` besides, and neither `n_inner` nor the tied head.
    older = {key: value for key, value in config.items() if key != "n_inner"} | {
        "architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "n_ctx": 96, "attn_pdrop": 0.1,
        "embd_pdrop": 0.1, "resid_pdrop": 0.1, "initializer_range": 0.02, "summary_activation": None,
        "summary_first_dropout": 0.1, "summary_proj_to_labels": True, "summary_type": "cls_index",
        "summary_use_proj": True, "task_specific_params": {"text-generation": {"do_sample": True, "max_length": 50}},
    }
    wrong = [{"layer_norm_epsilon": 1e-5}, {"activation_function": "relu"}, {"activation_function": "gelu"},
             {"scale_attn_weights": False}, {"scale_attn_by_inverse_layer_idx": True}]
    return {"model_type": "gpt2", "seed": 8, "config": config, "older": dict(sorted(older.items())),
            "must_matter": wrong}


CASES = {
    make.__name__: make()
    for make in (llama_grouped, llama_tied_head_dim, llama_sharded, llama_f16, smollm2, mistral, qwen3, gpt2)
}
