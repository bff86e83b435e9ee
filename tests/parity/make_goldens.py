#!/usr/bin/env python3
"""Make the parity goldens: tiny random checkpoints and reference logits.

Hugging Face transformers writes the checkpoints and computes the references
(float32, eager attention), so both the file format and the numbers are its own.
See README.md beside this file for what each folder holds, and families.py for
the models: a family is a row there.

    python3 -m venv venv && venv/bin/pip install torch transformers tokenizers safetensors numpy jinja2
    venv/bin/python make_goldens.py                # the random models
    venv/bin/python make_goldens.py qwen2          # only this one
    venv/bin/python make_goldens.py --tiny         # the goldens of models/tiny
    venv/bin/python make_goldens.py --check        # compare the committed files with a fresh computation

Everything is seeded; the same versions of torch and transformers give the
same files, other versions the same numbers up to float32 rounding.
"""
import argparse, collections, copy, json, os, shutil, zlib

os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from families import MODELS

HERE = os.path.dirname(os.path.abspath(__file__))
TINY = os.path.join(HERE, "..", "..", "models", "tiny")
FULL = (5, 17, 40, 100)        # teacher-forced sequences of a full row
SHORT = (5, 40)                # and of the others
BF16_LONGEST = 40              # sequences up to this length are also stored for bf16 weights
GREEDY = 24                    # greedily decoded tokens after each of those, for a full row
GREEDY_GAP = 0.03              # the least distance between the best two logits of a greedy step
CLEAR = 0.3                    # the same for a sequence that is stored for bf16 weights: all its choices are clear
ROUTED = 0.15                  # the least distance between the worst expert chosen and the best not chosen
FIRST = ["llama2", "llama3", "llama3_1", "llama3_2", "qwen2", "mixtral"]    # made first, with seeds 20 to 25


def seed(name):
    return 20 + FIRST.index(name) if name in FIRST else zlib.crc32(name.encode())


def classes(name):
    return [getattr(transformers, c) for c in MODELS[name]["classes"]]


# ------------------------------------------------------------------- the model
def fill(n, p, module):
    """Random values with which every weight matters, and activations keep their size."""
    if n.endswith("sinks"):
        p.normal_(std=1.0)
    elif n.endswith("correction_bias"):
        p.normal_(std=0.2)
    elif n.endswith("bias"):
        p.normal_(std=1.0 if p.ndim == 1 and "norm" not in type(module).__name__.lower() else 0.5)
    elif p.ndim == 1 or "norm" in n.rsplit(".", 2)[-2]:
        low = p.mean().item() - 0.5         # some families store a norm's weights less one
        p.uniform_(low, low + 1.0)
    elif isinstance(module, torch.nn.Embedding) or "lm_head" in n or "embed_out" in n:
        p.normal_(std=0.3)
    else:
        inner = -2 if type(module).__name__ == "Conv1D" or getattr(module, "is_transposed", False) else -1
        p.normal_(std=1.2 / p.shape[inner] ** 0.5)


def build(name):
    torch.manual_seed(seed(name))
    config_class, model_class = classes(name)
    model = model_class(config_class(**MODELS[name]["config"], attn_implementation="eager")).eval().float()
    modules = dict(model.named_modules())
    own = list(model.named_parameters()) + [b for b in model.named_buffers() if b[0].endswith("correction_bias")]
    with torch.no_grad():
        for n, p in own:
            fill(n, p, modules[n.rpartition(".")[0]])
    return model


def older_keys(path, names, head_dim):
    """Rewrite config.json in the keys that transformers 4 used; `head_dim`: what the family takes without the key."""
    names = names if isinstance(names, dict) else {}
    with open(path) as f:
        c = json.load(f)
    rope = c.pop("rope_parameters", None)
    if rope and "full_attention" in rope:
        c["rope_local_base_freq"] = rope["sliding_attention"]["rope_theta"]
        rope = rope["full_attention"]
    if rope:
        c[names.get("theta", "rope_theta")] = rope.pop("rope_theta")
        if "partial_rotary_factor" in rope:
            c[names.get("rotary", "partial_rotary_factor")] = rope.pop("partial_rotary_factor")
        c["rope_scaling"] = None if rope["rope_type"] == "default" else rope
    c["torch_dtype"] = c.pop("dtype")
    if "head_dim" in c and head_dim is None and (c["head_dim"] or 0) * c["num_attention_heads"] in (0, c["hidden_size"]):
        c.pop("head_dim")
    c.pop("layer_types", None)
    c["transformers_version"] = "4.45.0"
    with open(path, "w") as f:
        json.dump(c, f, indent=2, sort_keys=True)
        f.write("\n")


def write(model, name, folder):
    row = MODELS[name]
    model.save_pretrained(folder, **({"max_shard_size": "200KB"} if row["sharded"] else {}))
    g = os.path.join(folder, "generation_config.json")
    if os.path.exists(g):
        os.remove(g)
    if row["older"]:
        older_keys(os.path.join(folder, "config.json"), row["older"], getattr(classes(name)[0], "head_dim", None))
    if row["strip"] or row["buffers"]:
        path = os.path.join(folder, "model.safetensors")
        tensors = {k.removeprefix(row["strip"]): v for k, v in load_file(path).items()}
        tensors.update({k: torch.ones(shape).tril() for k, shape in row["buffers"].items()})
        save_file(tensors, path, metadata={"format": "pt"})


def load(folder, dtype=torch.float32):
    return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, attn_implementation="eager").eval()


def rounded(model):
    """A copy with bf16-rounded weights and float32 arithmetic."""
    m = copy.deepcopy(model)
    with torch.no_grad():
        for p in list(m.parameters()) + [b for n, b in m.named_buffers() if n.endswith("correction_bias")]:
            p.copy_(p.bfloat16().float())
    return m


# ----------------------------------------------------------------- what it says
@torch.no_grad()
def logits(model, ids):
    return model(ids[None], use_cache=False).logits[0]


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


class Routers:
    """The distance between the worst expert chosen and the best not chosen, at the last row of a forward pass."""

    def __init__(self, model):
        self.gaps = []
        for n, m in model.named_modules():
            if n.rsplit(".", 1)[-1] in ("gate", "router"):
                m.register_forward_hook(lambda m, given, out: self.gaps.append(self.gap(m, given, out)))

    @staticmethod
    def gap(module, given, out):
        if not isinstance(out, tuple):
            return float("inf")             # a gate of something else
        scores, chosen = out[0].reshape(-1, out[0].shape[-1])[-1], out[-1].reshape(-1, out[-1].shape[-1])[-1]
        bias = given[1] if len(given) > 1 else getattr(module, "e_score_correction_bias", None)
        if bias is not None:
            scores = 4 * (scores.sigmoid() + bias.flatten())
        groups, top = getattr(module, "num_group", None) or 1, getattr(module, "topk_group", None) or 1
        between = float("inf")
        if groups > top and getattr(module, "topk_method", None) != "greedy":
            # experts of the best groups only: of those with the best expert, or with the best two where a bias corrects
            split = scores.reshape(groups, -1)
            good, order = split.topk(1 if bias is None else 2)[0].sum(-1).sort(descending=True)
            between = (good[top - 1] - good[top]).item()
            scores = split.index_fill(0, order[top:], float("-inf")).flatten()
        rest = torch.ones_like(scores, dtype=torch.bool).index_fill(0, chosen, False)
        return min(between, (scores[chosen].min() - scores[rest].max()).item())

    def least(self):
        least, self.gaps = min(self.gaps, default=float("inf")), []
        return least


def sequence(models, plain, n, clear, generator):
    """n random tokens, each drawn again until what follows is clear: the margin of the best logit is more than `clear`
    in all the models, and, unless that is 0, more than twice what the arithmetic of `plain` changes."""
    routers, ids = [Routers(m) for m in models], torch.tensor([], dtype=torch.long)
    for position in range(n):
        why = collections.Counter()
        for attempt in range(1000):
            token = torch.randint(3, 128, (1,), generator=generator) if position or attempt else torch.tensor([1])
            longer, good = torch.cat((ids, token)), True
            for m, r in zip(models, routers):
                last = logits(m, longer)[-1]
                top = last.topk(2).values
                margin = (top[0] - top[1]).item()
                if good and not r.least() > ROUTED:
                    why["experts chosen narrowly"], good = why["experts chosen narrowly"] + 1, False
                if good and not margin > clear:
                    why["best two logits near"], good = why["best two logits near"] + 1, False
            if good and clear:
                good = margin > 2 * (logits(plain, longer)[-1] - last).abs().max().item()
                why["logits moved by bf16 arithmetic"] += not good
            if good:
                break
        else:
            raise SystemExit(f"no token is clear at position {position}: {dict(why)}")
        ids = longer
    return ids


def golden(model, name, given=None):
    """Tensors and metadata of golden.safetensors; `given`: sequences, else such as have no near ties."""
    full, low, plain = MODELS[name]["full"], rounded(model), load(os.path.join(HERE, name), torch.bfloat16)
    generator, out, gaps = torch.Generator().manual_seed(80 + seed(name)), {}, []
    for i, n in enumerate(FULL if full else SHORT):
        of_bf16 = n <= BF16_LONGEST
        while True:
            ids = given[i] if given else sequence([copy.deepcopy(model), copy.deepcopy(low)], plain, n,
                                                  CLEAR if of_bf16 else 0.0, generator)
            toks, gap = greedy(model, ids, GREEDY) if full and of_bf16 else (None, 1.0)
            if given or gap > GREEDY_GAP:
                break
        out[f"tokens.{i}"], out[f"logits.{i}"] = ids.int(), logits(model, ids)
        if of_bf16:
            out[f"logits_bf16_weights.{i}"] = logits(low, ids)
        if toks is not None:
            out[f"logits_bf16.{i}"], out[f"greedy.{i}"] = logits(plain, ids), toks.int()
            gaps.append(gap)
    meta = {"sequences": str(len(FULL if full else SHORT)), "greedy_min_gap": " ".join(f"{g:.5f}" for g in gaps)}
    return out, meta


# ------------------------------------------------------ what must show in the logits
def least_effect(model, ids):
    """The tensor with the least effect on the logits when it is changed, and that effect. (A bias of keys that are not
    turned moves all scores of a row alike: it has none.)"""
    want, least = logits(model, ids), (float("inf"), "")
    for n, p in model.named_parameters():
        if n.endswith("k_proj.bias"):
            continue
        kept = p.data.clone()
        p.data = kept * 0.8 + 0.05
        least = min(least, ((logits(model, ids) - want).abs().max().item(), n))
        p.data = kept
    return least


def effects(model, name, ids):
    """For each change of the configuration, how much it moves the logits."""
    config_class, model_class = classes(name)
    for change in MODELS[name]["matters"]:
        other = model_class(config_class(**{**MODELS[name]["config"], **change}, attn_implementation="eager")).eval()
        other.load_state_dict(model.state_dict())
        yield ", ".join(change), (logits(other, ids) - logits(model, ids)).abs().max().item()


def make(name):
    folder, row = os.path.join(HERE, name), MODELS[name]
    shutil.rmtree(folder, ignore_errors=True)
    model = build(name)
    write(model, name, folder)
    if row["bf16"]:
        write(copy.deepcopy(model).bfloat16(), name, os.path.join(folder, "bf16"))
    out, meta = golden(model, name)
    save_file({k: v.contiguous() for k, v in out.items()}, os.path.join(folder, "golden.safetensors"), metadata=meta)
    size = 0
    for d, _, files in os.walk(folder):
        for f in files:
            os.chmod(os.path.join(d, f), 0o644)
            size += os.path.getsize(os.path.join(d, f))
    # what is on disk must reproduce what is in the golden file
    last = len(FULL if row["full"] else SHORT) - 1
    ids, want = out[f"tokens.{last}"].long(), out[f"logits.{last}"]
    d = (logits(load(folder), ids) - want).abs().max().item()
    assert d < 1e-5, (name, d)
    if row["bf16"]:
        b = load(os.path.join(folder, "bf16"))
        assert (logits(b, out["tokens.2"].long()) - out["logits_bf16_weights.2"]).abs().max() < 1e-5
    effect, tensor = least_effect(model, ids)
    assert effect > 3e-3, (tensor, effect)
    line = f"{name}: {size / 1e3:.0f} kB, logits std {want.std():.2f}, max {want.abs().max():.2f}, " \
           f"reload difference {d:.1e}, greedy gaps {meta['greedy_min_gap']}, least effect {effect:.3f} by {tensor}"
    for change, effect in effects(model, name, ids):
        assert effect > 2e-2, (change, effect)
        line += f"; {change} matters by {effect:.2f}"
    print(line, flush=True)


def check():
    for name in MODELS:
        folder = os.path.join(HERE, name)
        want, model = load_file(os.path.join(folder, "golden.safetensors")), load(folder)
        got, _ = golden(model, name, [want[f"tokens.{i}"].long() for i in range(4) if f"tokens.{i}" in want])
        for kind in ("logits", "logits_bf16_weights", "logits_bf16"):
            d = [(got[k].float() - want[k].float()).abs().max().item() for k in want if k.rsplit(".", 1)[0] == kind]
            if d:
                print(f"{name:13s} {kind:20s} max difference {max(d):.1e}")


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
