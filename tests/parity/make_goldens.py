#!/usr/bin/env python3
"""Make the parity goldens: tiny random checkpoints and reference logits.

Hugging Face transformers writes the checkpoints and computes the references
(float32, eager attention), so both the file format and the numbers are its own.
See README.md beside this file for what each folder holds.

    python3 -m venv venv && venv/bin/pip install torch transformers tokenizers safetensors numpy jinja2
    venv/bin/python make_goldens.py                # the random models
    venv/bin/python make_goldens.py qwen2          # only this one
    venv/bin/python make_goldens.py --tiny         # the goldens of models/tiny
    venv/bin/python make_goldens.py --check        # compare the committed files with a fresh computation

Everything is seeded; the same versions of torch and transformers give the
same files, other versions the same numbers up to float32 rounding.
"""
import argparse, copy, json, os, shutil

os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import (AutoConfig, AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, MixtralConfig,
                          MixtralForCausalLM, Qwen2Config, Qwen2ForCausalLM)

HERE = os.path.dirname(os.path.abspath(__file__))
TINY = os.path.join(HERE, "..", "..", "models", "tiny")
LENGTHS = (5, 17, 40, 100)     # teacher-forced sequences
BF16_LENGTHS = 3               # the first three of them are also stored for bf16 weights
GREEDY = 24                    # greedily decoded tokens after each of the first three

LLAMA3 = dict(rope_type="llama3", rope_theta=500000.0, low_freq_factor=1.0, high_freq_factor=4.0)
COMMON = dict(vocab_size=128, intermediate_size=96, num_hidden_layers=2, hidden_act="silu",
              bos_token_id=1, eos_token_id=2, pad_token_id=None)
MODELS = {
    # multi-head attention; older config keys
    "llama2": dict(hidden_size=32, num_attention_heads=2, num_key_value_heads=2, rms_norm_eps=1e-6,
                   max_position_embeddings=128, tie_word_embeddings=False,
                   rope_parameters=dict(rope_type="default", rope_theta=10000.0)),
    # grouped-query attention, theta 500000; two shards
    "llama3": dict(hidden_size=64, num_attention_heads=4, num_key_value_heads=2, rms_norm_eps=1e-5,
                   max_position_embeddings=128, tie_word_embeddings=False,
                   rope_parameters=dict(rope_type="default", rope_theta=500000.0)),
    # llama3 rope scaling; one kv head; older config keys
    "llama3_1": dict(hidden_size=64, num_attention_heads=4, num_key_value_heads=1, rms_norm_eps=1e-5,
                     max_position_embeddings=512, tie_word_embeddings=False,
                     rope_parameters=dict(LLAMA3, factor=8.0, original_max_position_embeddings=64)),
    # tied embeddings, llama3 rope scaling, head_dim 32 where hidden / heads is 16
    "llama3_2": dict(hidden_size=64, num_attention_heads=4, num_key_value_heads=2, head_dim=32,
                     rms_norm_eps=1e-5, max_position_embeddings=2048, tie_word_embeddings=True,
                     rope_parameters=dict(LLAMA3, factor=32.0, original_max_position_embeddings=64)),
    # a bias on queries, keys and values
    "qwen2": dict(hidden_size=64, num_attention_heads=4, num_key_value_heads=2, rms_norm_eps=1e-6,
                  max_position_embeddings=128, tie_word_embeddings=False, use_sliding_window=False,
                  rope_parameters=dict(rope_type="default", rope_theta=1000000.0)),
    # five experts, two per token; older config keys
    "mixtral": dict(hidden_size=32, num_attention_heads=2, num_key_value_heads=1, rms_norm_eps=1e-5,
                    intermediate_size=48, num_local_experts=5, num_experts_per_tok=2,
                    max_position_embeddings=128, tie_word_embeddings=False,
                    rope_parameters=dict(rope_type="default", rope_theta=1000000.0)),
}
CLASSES = {"qwen2": (Qwen2Config, Qwen2ForCausalLM), "mixtral": (MixtralConfig, MixtralForCausalLM)}
OLD_KEYS = ("llama2", "llama3_1", "mixtral")
SHARDED = ("llama3",)
BF16_CHECKPOINT = ("llama2", "llama3_2")


def build(name):
    torch.manual_seed(20 + list(MODELS).index(name))
    config_class, model_class = CLASSES.get(name, (LlamaConfig, LlamaForCausalLM))
    config = config_class(**{**COMMON, **MODELS[name]}, attn_implementation="eager")
    model = model_class(config).eval().float()
    with torch.no_grad():
        for n, p in model.named_parameters():
            if "norm" in n:
                p.uniform_(0.5, 1.5)
            elif "embed" in n or "lm_head" in n:
                p.normal_(std=0.3)
            elif n.endswith(".bias"):
                p.normal_(std=1.0)
            else:
                p.normal_(std=1.2 / p.shape[-1] ** 0.5)
    return model


def older_keys(path):
    """Rewrite config.json in the keys that transformers 4 used."""
    with open(path) as f:
        c = json.load(f)
    rope = c.pop("rope_parameters")
    c["rope_theta"] = rope.pop("rope_theta")
    c["rope_scaling"] = None if rope["rope_type"] == "default" else rope
    c["torch_dtype"] = c.pop("dtype")
    c.pop("head_dim", None)
    c["transformers_version"] = "4.45.0"
    with open(path, "w") as f:
        json.dump(c, f, indent=2, sort_keys=True)
        f.write("\n")


def write(model, name, folder, **kw):
    model.save_pretrained(folder, **kw)
    g = os.path.join(folder, "generation_config.json")
    if os.path.exists(g):
        os.remove(g)
    if name in OLD_KEYS:
        older_keys(os.path.join(folder, "config.json"))


@torch.no_grad()
def logits(model, ids):
    return model(ids[None]).logits[0]


@torch.no_grad()
def greedy(model, ids, n):
    """Greedy continuation without a cache; also the smallest gap between the best two logits."""
    gap, out = float("inf"), []
    for _ in range(n):
        top = logits(model, ids)[-1].topk(2)
        gap = min(gap, (top.values[0] - top.values[1]).item())
        out.append(top.indices[0])
        ids = torch.cat((ids, top.indices[:1]))
    return torch.stack(out), gap


def sequences(name, attempt=0):
    g = torch.Generator().manual_seed(100 + list(MODELS).index(name) + 1000 * attempt)
    return [torch.cat((torch.tensor([1]), torch.randint(3, COMMON["vocab_size"], (n - 1,), generator=g)))
            for n in LENGTHS]


def rounded(model):
    """A copy with bf16-rounded weights and float32 arithmetic."""
    m = copy.deepcopy(model)
    with torch.no_grad():
        for p in m.parameters():
            p.copy_(p.bfloat16().float())
    return m


def golden(model, name):
    """Tensors and metadata of golden.safetensors; the sequences are the first
    random ones whose greedy continuations have no near tie."""
    attempt = next(k for k in range(500) if min(
        greedy(model, ids, GREEDY)[1] for ids in sequences(name, k)[:BF16_LENGTHS]) > 0.03)
    out, low, plain = {}, rounded(model), load(os.path.join(HERE, name), torch.bfloat16)
    gaps = []
    for i, ids in enumerate(sequences(name, attempt)):
        out[f"tokens.{i}"] = ids.int()
        out[f"logits.{i}"] = logits(model, ids)
        if i < BF16_LENGTHS:
            out[f"logits_bf16_weights.{i}"] = logits(low, ids)
            out[f"logits_bf16.{i}"] = logits(plain, ids)
            toks, gap = greedy(model, ids, GREEDY)
            out[f"greedy.{i}"] = toks.int()
            gaps.append(gap)
    meta = {"sequences": str(len(LENGTHS)), "bf16_sequences": str(BF16_LENGTHS),
            "greedy_min_gap": " ".join(f"{g:.5f}" for g in gaps)}
    return out, meta


def load(folder, dtype=torch.float32):
    return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, attn_implementation="eager").eval()


def make(name):
    folder = os.path.join(HERE, name)
    shutil.rmtree(folder, ignore_errors=True)
    model = build(name)
    write(model, name, folder, **({"max_shard_size": "200KB"} if name in SHARDED else {}))
    if name in BF16_CHECKPOINT:
        write(copy.deepcopy(model).bfloat16(), name, os.path.join(folder, "bf16"))
    out, meta = golden(model, name)
    save_file({k: v.contiguous() for k, v in out.items()}, os.path.join(folder, "golden.safetensors"), metadata=meta)
    for d, _, files in os.walk(folder):
        for f in files:
            os.chmod(os.path.join(d, f), 0o644)
    # what is on disk must reproduce what is in the golden file
    again = load(folder)
    last = len(LENGTHS) - 1
    d = (logits(again, out[f"tokens.{last}"].long()) - out[f"logits.{last}"]).abs().max().item()
    assert d < 1e-5, (name, d)
    if name in BF16_CHECKPOINT:
        b = load(os.path.join(folder, "bf16"))
        assert (logits(b, out["tokens.2"].long()) - out["logits_bf16_weights.2"]).abs().max() < 1e-5
    line = f"{name}: {sum(p.numel() for p in model.parameters()):,} parameters, logits std {out[f'logits.{last}'].std():.2f}, " \
           f"max {out[f'logits.{last}'].abs().max():.2f}, reload difference {d:.1e}, greedy gaps {meta['greedy_min_gap']}"
    if MODELS[name]["rope_parameters"]["rope_type"] == "llama3":
        c = AutoConfig.from_pretrained(folder)
        c.rope_parameters = dict(rope_type="default", rope_theta=500000.0)
        c._attn_implementation = "eager"
        flat = LlamaForCausalLM(c).eval()
        flat.load_state_dict(again.state_dict())
        e = (logits(flat, out[f"tokens.{last}"].long()) - out[f"logits.{last}"]).abs().max(-1).values
        assert e[8:].min() > 0.02, e
        line += f"; without rope scaling the logits differ by {e[8:].min():.2f} to {e.max():.2f}"
    print(line)


def check():
    for name in MODELS:
        folder = os.path.join(HERE, name)
        want, model = load_file(os.path.join(folder, "golden.safetensors")), load(folder)
        got, _ = golden(model, name)
        for kind in ("logits", "logits_bf16_weights", "logits_bf16"):
            d = max((got[k].float() - want[k].float()).abs().max().item() for k in want if k.rsplit(".", 1)[0] == kind)
            print(f"{name:9s} {kind:20s} max difference {d:.1e}")


# ------------------------------------------------------- goldens of models/tiny
PROMPTS = ["It was a dark night, and the captain stood upon the deck",
           "\"My dear,\" said Mrs. Bennet,"]
STRINGS = ["", " ", "Hello, world!", "hello world", "  two  spaces  ", "line one\nline two\n\nparagraph\r\n\ttab",
           "It's what we'd say; they'll DON'T.", "1234567 and 3.14", "naïve café Ünïcödé", "日本語の文章です。", "汉字测试",
           "😀 emoji 👩‍👩‍👧‍👦 family 🇩🇪", "mixed 中文 and English", "\n\n\n", "trailing space ", "don\u2019t\u2014\u201cquote\u201d",
           "<|begin_of_text|>special<|end_of_text|>", "e\u0301 combining", "\u0000nul", "Привет, мир"]
CHATS = [[{"role": "user", "content": "Once upon a time there was"}],
         [{"role": "system", "content": "A story of the sea. "}, {"role": "user", "content": "The captain said"}],
         [{"role": "user", "content": "Tom ran"}, {"role": "assistant", "content": " to the river."},
          {"role": "user", "content": " Then he "}]]
TOP = 20


def make_tiny():
    from transformers import AutoTokenizer
    out = os.path.join(HERE, "tiny")
    os.makedirs(out, exist_ok=True)
    tk = AutoTokenizer.from_pretrained(TINY)
    model = load(TINY)
    tensors = {}
    texts = []
    for i, p in enumerate(PROMPTS):
        ids = tk(p, return_tensors="pt").input_ids[0]
        top = logits(model, ids).topk(TOP)
        cont, gap = greedy(model, ids, GREEDY)
        tensors.update({f"tokens.{i}": ids.int(), f"top_tokens.{i}": top.indices.int(),
                        f"top_logits.{i}": top.values, f"greedy.{i}": cont.int()})
        texts.append({"prompt": p, "tokens": ids.tolist(), "greedy": cont.tolist(),
                      "greedy_text": tk.decode(cont), "greedy_min_gap": round(gap, 5)})
    golden_file = os.path.join(out, "golden.safetensors")
    save_file({k: v.contiguous() for k, v in tensors.items()}, golden_file)
    os.chmod(golden_file, 0o644)
    strings = []
    for s in STRINGS:
        ids = tk(s).input_ids
        bare = tk(s, add_special_tokens=False).input_ids
        strings.append({"text": s, "tokens": ids, "tokens_without_special": bare,
                        "decoded": tk.decode(bare), "decoded_skip_special": tk.decode(ids, skip_special_tokens=True)})
    chats = []
    for c in CHATS:
        for add in (True, False):
            text = tk.apply_chat_template(c, tokenize=False, add_generation_prompt=add)
            chats.append({"messages": c, "add_generation_prompt": add, "text": text,
                          "tokens": tk(text, add_special_tokens=False).input_ids})
    with open(os.path.join(out, "golden.json"), "w") as f:
        json.dump({"continuations": texts, "tokenizer": strings, "chat_template": chats}, f, indent=1)
        f.write("\n")
    for t in texts:
        print(t["prompt"], "=>", t["greedy_text"])


def main():
    ap = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ap.add_argument("--tiny", action="store_true", help="goldens of models/tiny only")
    ap.add_argument("--check", action="store_true")
    ap.add_argument("names", nargs="*", help="only these of the random models")
    a = ap.parse_args()
    torch.set_num_threads(1)
    transformers.logging.disable_progress_bar()
    if a.check:
        return check()
    if a.tiny:
        return make_tiny()
    for name in a.names or MODELS:
        make(name)


if __name__ == "__main__":
    main()
