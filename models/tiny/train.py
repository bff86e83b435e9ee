#!/usr/bin/env python3
"""Train the small story model that ships with Trefoil.

A Llama-architecture language model of about 5.5 million parameters, trained
from scratch on public-domain English prose which Debian packages install.
The script does everything itself:

  1. `apt-get download` the packages and unpack them (no root, no install),
  2. clean the texts: one document per chapter, paragraphs unwrapped,
  3. train a byte-level BPE tokenizer (4096 entries, Llama-3 splitting rule),
  4. train the model for a fixed wall time (the learning rate reaches zero at
     the end of it), saving a complete checkpoint every few minutes,
  5. evaluate on held-out chapters and print sample continuations.

The result loads in `transformers.LlamaForCausalLM`; `--check` compares logits.

    python3 -m venv venv && venv/bin/pip install torch transformers tokenizers safetensors numpy
    venv/bin/python train.py --minutes 90 --out .

No corpus is kept: the texts stay in the scratch folder (`--work`).
"""
import argparse, json, math, os, re, struct, subprocess, sys, tempfile, time, zlib
import numpy as np
import torch
import torch.distributed as dist
import torch.nn as nn
import torch.nn.functional as F

PACKAGES = {  # Debian package -> what is taken from it
    "r-cran-janeaustenr": "the six novels of Jane Austen",
    "r-cran-tokenizers": "Moby Dick, Herman Melville",
    "golang-github-klauspost-compress-dev": "The Adventures of Tom Sawyer, Mark Twain",
    "sword-text-web": "narrative books of a public-domain modern English Bible",
}
NARRATIVE = set("Gen Exod Josh Judg Ruth 1Sam 2Sam 1Kgs 2Kgs Neh Esth Dan Jonah Tob Jdt "
                "1Macc 2Macc Matt Mark Luke John Acts".split())
BOS, EOS = "<|begin_of_text|>", "<|end_of_text|>"
SPLIT = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
         r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
CHAT_TEMPLATE = (
    "{{- bos_token }}"
    "{%- for message in messages %}"
    "{%- if message['role'] == 'assistant' %}{{- message['content'] }}"
    "{%- else %}"
    "{%- if not loop.first %}{{- '\\n\\n' }}{%- endif %}"
    "{{- message['content'] | trim }}"
    "{%- endif %}"
    "{%- endfor %}"
    "{%- if not add_generation_prompt %}{{- eos_token }}{%- endif %}")

CONFIG = dict(vocab_size=4096, hidden_size=256, intermediate_size=704, num_hidden_layers=6,
              num_attention_heads=8, num_key_value_heads=4, head_dim=32,
              max_position_embeddings=1024, rope_theta=10000.0, rms_norm_eps=1e-5)


# --------------------------------------------------------------------- texts
def fetch(work):
    """Download and unpack the packages; returns {package: version} and the root."""
    debs, root = os.path.join(work, "debs"), os.path.join(work, "root")
    os.makedirs(debs, exist_ok=True)
    if not os.path.isdir(root):
        subprocess.run(["apt-get", "download", *PACKAGES], cwd=debs, check=True)
        for f in sorted(os.listdir(debs)):
            if f.endswith(".deb"):
                subprocess.run(["dpkg-deb", "-x", os.path.join(debs, f), root], check=True)
    versions = {f.split("_")[0]: f.split("_")[1].replace("%3a", ":")
                for f in sorted(os.listdir(debs)) if f.endswith(".deb")}
    return root, versions


def r_strings(path):
    """The strings of an R lazy-load database, one list per stored object.

    Each object is a big-endian length and a zlib stream of R's XDR
    serialisation; every string is a CHARSXP: flags (type 9), length, bytes."""
    raw, i = open(path, "rb").read(), 0
    while i < len(raw):
        d = zlib.decompressobj()
        o = d.decompress(raw[i + 4:])
        i = len(raw) - len(d.unused_data)
        out, k = [], 31                       # header, STRSXP flags and count
        k = next((p for p in range(14, 64) if o[p + 3:p + 4] == b"\x09"
                  and o[p:p + 2] == b"\0\4"), None) or o.index(b"\0\0\x80\x09")
        while k + 8 <= len(o) and o[k + 3] == 9:
            n = struct.unpack(">i", o[k + 4:k + 8])[0]
            out.append(o[k + 8:k + 8 + max(n, 0)].decode("utf-8", "replace"))
            k += 8 + max(n, 0)
        yield out


HEADING = re.compile(r"^\s*(chapter|volume)\s+([ivxlc]+|\d+)\b.{0,60}$|^\s*(conclusion|epilogue)\.?\s*$", re.I)
FINISH = re.compile(r"^\s*(finis|the end|end of (the )?(project|volume).*|\*vide a letter.*|\*\*\* ?end of.*)\.?\s*$", re.I)


def tidy(t):
    t = t.translate({0x2018: "'", 0x2019: "'", 0x201c: '"', 0x201d: '"', 0x2014: "--", 0x2013: "-",
                     0xa0: " ", 0xfeff: None, 0x2026: "..."})
    t = t.replace("_", "")
    t = re.sub(r"\[(Illustration|Footnote)[^\]]*\]", "", t)
    t = re.sub(r"\s+", " ", t)
    return re.sub(r" ([,.;:!?])", r"\1", t).strip()


def novel(lines):
    """Chapters (lists of paragraphs) of a line-wrapped book; front matter is dropped."""
    chapters, para, on = [], [], False
    for line in lines + [""]:
        if FINISH.match(line):
            on = False
        if HEADING.match(line):
            on, para = True, []
            chapters.append([])
        elif not on:
            continue
        elif line.strip():
            para.append(line)
        elif para:
            p = tidy(" ".join(para))
            if re.search("[a-z]", p):
                chapters[-1].append(p)
            para = []
    return [c for c in chapters if sum(map(len, c)) > 400]


def sword(root):
    """Chapters of the narrative books of a SWORD zText module."""
    base = os.path.join(root, "usr/share/sword/modules/texts/ztext/engWEB2015eb/")
    text = ""
    for part in ("ot", "nt"):
        index, data = (open(base + part + e, "rb").read() for e in (".bzs", ".bzz"))
        for off, size, _ in struct.iter_unpack("<III", index):
            if size:
                text += zlib.decompress(data[off:off + size]).decode("utf-8", "replace")
    chapters = []
    for m in re.finditer(r'<chapter[^>]*osisID="(\w+)\.\d+"[^>]*sID[^>]*>(.*?)(?=<chapter)', text, re.S):
        if m[1] not in NARRATIVE:
            continue
        t = re.sub(r"<note.*?</note>|<title.*?</title>", " ", m[2], flags=re.S)
        t = re.sub(r'<div [^>]*sID[^>]*type="x-p"[^>]*/>', "\n\n", t)
        t = re.sub(r"<[^>]*>", "", t)
        paras = [p for p in (tidy(p) for p in t.split("\n\n")) if len(p) > 1]
        if sum(map(len, paras)) > 400:
            chapters.append(paras)
    return chapters


def corpus(work):
    root, versions = fetch(work)
    lib = os.path.join(root, "usr/lib/R/site-library/%s/data/Rdata.rdb")
    books = {}
    for k, lines in enumerate(r_strings(lib % "janeaustenr")):
        books["austen-%d %s" % (k, lines[0].strip().title())] = novel(lines)
    books["Moby Dick"] = novel(next(r_strings(lib % "tokenizers"))[0].splitlines())
    with open(os.path.join(root, "usr/share/gocode/src/github.com/klauspost/compress/testdata/"
                                 "Mark.Twain-Tom.Sawyer.txt"), encoding="latin-1") as f:
        books["Tom Sawyer"] = novel(f.read().splitlines())
    books["Bible (narrative books)"] = sword(root)
    train, held = [], []
    for name, chapters in books.items():
        docs = ["\n\n".join(c) for c in chapters]
        print(f"{name:40s} {len(docs):4d} chapters {sum(map(len, docs)):9,d} characters", flush=True)
        for i, d in enumerate(docs):
            (held if i % 20 == 13 else train).append(d)
    print(f"train {sum(map(len, train)):,} held out {sum(map(len, held)):,} characters", versions, flush=True)
    return train, held, versions


# ----------------------------------------------------------------- tokenizer
def make_tokenizer(docs, out, config):
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    tk = Tokenizer(models.BPE())
    tk.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(SPLIT), behavior="isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tk.decoder = decoders.ByteLevel()
    tk.train_from_iterator(docs, trainers.BpeTrainer(
        vocab_size=config["vocab_size"], special_tokens=[BOS, EOS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    tk.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A {BOS}:1 $B:1", special_tokens=[(BOS, 0), (EOS, 1)])
    assert tk.get_vocab_size() == config["vocab_size"]
    tk.save(os.path.join(out, "tokenizer.json"))
    with open(os.path.join(out, "tokenizer_config.json"), "w") as f:
        json.dump({
            "add_bos_token": True, "add_eos_token": False,
            "added_tokens_decoder": {str(i): dict(content=t, lstrip=False, normalized=False, rstrip=False,
                                                  single_word=False, special=True)
                                     for i, t in enumerate((BOS, EOS))},
            "bos_token": BOS, "eos_token": EOS, "chat_template": CHAT_TEMPLATE,
            "clean_up_tokenization_spaces": False,
            "model_max_length": config["max_position_embeddings"],
            "tokenizer_class": "PreTrainedTokenizerFast"}, f, indent=2)
    return tk


# --------------------------------------------------------------------- model
class Norm(nn.Module):
    def __init__(self, n, eps):
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(n)), eps

    def forward(self, x):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps) * self.weight


class Layer(nn.Module):
    """One Llama block; the parameter names are those of the HF checkpoint."""
    def __init__(self, c, drop):
        super().__init__()
        h, d = c["hidden_size"], c["head_dim"]
        lin = lambda i, o: nn.Linear(i, o, bias=False)
        self.nh, self.nkv, self.d, self.drop = c["num_attention_heads"], c["num_key_value_heads"], d, drop
        self.input_layernorm = Norm(h, c["rms_norm_eps"])
        self.self_attn = nn.ModuleDict(dict(q_proj=lin(h, self.nh * d), k_proj=lin(h, self.nkv * d),
                                            v_proj=lin(h, self.nkv * d), o_proj=lin(self.nh * d, h)))
        self.post_attention_layernorm = Norm(h, c["rms_norm_eps"])
        m = c["intermediate_size"]
        self.mlp = nn.ModuleDict(dict(gate_proj=lin(h, m), up_proj=lin(h, m), down_proj=lin(m, h)))

    def forward(self, x, cos, sin):
        b, t, _ = x.shape
        a, y = self.self_attn, self.input_layernorm(x)
        q = a["q_proj"](y).view(b, t, self.nh, self.d).transpose(1, 2)
        k = a["k_proj"](y).view(b, t, self.nkv, self.d).transpose(1, 2)
        v = a["v_proj"](y).view(b, t, self.nkv, self.d).transpose(1, 2)
        rot = lambda z: z * cos + torch.cat((-z[..., self.d // 2:], z[..., :self.d // 2]), -1) * sin
        q, k = rot(q), rot(k)
        r = self.nh // self.nkv
        k, v = (z.repeat_interleave(r, dim=1) for z in (k, v))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        y = a["o_proj"](y.transpose(1, 2).reshape(b, t, self.nh * self.d))
        x = x + F.dropout(y, self.drop, self.training)
        m, y = self.mlp, self.post_attention_layernorm(x)
        y = m["down_proj"](F.silu(m["gate_proj"](y)) * m["up_proj"](y))
        return x + F.dropout(y, self.drop, self.training)


class Llama(nn.Module):
    def __init__(self, c, drop=0.0):
        super().__init__()
        self.c, self.drop = c, drop
        self.embed_tokens = nn.Embedding(c["vocab_size"], c["hidden_size"])
        self.layers = nn.ModuleList(Layer(c, drop) for _ in range(c["num_hidden_layers"]))
        self.norm = Norm(c["hidden_size"], c["rms_norm_eps"])
        for n, p in self.named_parameters():
            if p.dim() == 2:
                s = 0.02 if "embed" in n else 1 / math.sqrt(p.shape[1])
                if "o_proj" in n or "down_proj" in n:
                    s /= math.sqrt(2 * c["num_hidden_layers"])
                nn.init.normal_(p, std=s)
        d = c["head_dim"]
        f = c["rope_theta"] ** (-torch.arange(0, d, 2).float() / d)
        f = torch.outer(torch.arange(c["max_position_embeddings"]).float(), f)
        f = torch.cat((f, f), -1)
        self.register_buffer("cos", f.cos(), persistent=False)
        self.register_buffer("sin", f.sin(), persistent=False)

    def forward(self, ids):
        t = ids.shape[1]
        x = F.dropout(self.embed_tokens(ids), self.drop, self.training)
        for l in self.layers:
            x = l(x, self.cos[:t], self.sin[:t])
        return F.linear(self.norm(x), self.embed_tokens.weight)   # tied head


def save(model, out):
    """Write the checkpoint (bf16, HF names) with both old and new config keys."""
    from safetensors.torch import save_file
    c = model.c
    sd = {"model." + k: v.detach().to(torch.bfloat16).contiguous() for k, v in model.state_dict().items()}
    tmp = os.path.join(out, "model.safetensors.tmp")
    save_file(sd, tmp, metadata={"format": "pt"})
    os.replace(tmp, os.path.join(out, "model.safetensors"))
    cfg = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", **c,
           "attention_bias": False, "attention_dropout": 0.0, "mlp_bias": False, "hidden_act": "silu",
           "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": None, "initializer_range": 0.02,
           "pretraining_tp": 1, "rope_scaling": None,
           "rope_parameters": {"rope_theta": c["rope_theta"], "rope_type": "default"},
           "tie_word_embeddings": True, "torch_dtype": "bfloat16", "dtype": "bfloat16", "use_cache": True}
    gen = {"bos_token_id": 0, "eos_token_id": 1, "do_sample": True, "temperature": 0.8, "top_p": 0.95}
    for name, obj in (("config.json", cfg), ("generation_config.json", gen)):
        with open(os.path.join(out, name), "w") as f:
            json.dump(obj, f, indent=2)
            f.write("\n")


class Muon(torch.optim.Optimizer):
    """Momentum with orthogonalised updates for the weight matrices (Newton-Schulz, five steps).

    The processes share the work: each orthogonalises every world-th matrix."""
    def __init__(self, params, lr, wd, rank, world):
        super().__init__(params, dict(lr=lr, wd=wd))
        self.rank, self.world = rank, world

    @torch.no_grad()
    def step(self):
        (g,) = self.param_groups
        sizes = [p.numel() for p in g["params"]]
        flat = torch.zeros(sum(sizes))
        updates = [f.view_as(p) for f, p in zip(flat.split(sizes), g["params"])]
        for i, (p, out) in enumerate(zip(g["params"], updates)):
            if i % self.world != self.rank:
                continue
            m = self.state[p].setdefault("m", torch.zeros_like(p))
            m.lerp_(p.grad, 0.05)
            u = p.grad.lerp(m, 0.95)
            x = u.T if u.shape[0] > u.shape[1] else u
            x = x / (x.norm() + 1e-7)
            for _ in range(5):
                a = x @ x.T
                x = 3.4445 * x + torch.addmm(a, a, a, beta=-4.7750, alpha=2.0315) @ x
            out.copy_(x.T if u.shape[0] > u.shape[1] else x)
        if self.world > 1:
            dist.all_reduce(flat)
        for p, u in zip(g["params"], updates):
            p.mul_(1 - g["lr"] * g["wd"]).add_(u, alpha=-g["lr"] * 0.2 * math.sqrt(max(p.shape)))


# ------------------------------------------------------------------ training
def encode(tk, docs):
    ids = []
    for e in tk.encode_batch(docs, add_special_tokens=False):
        ids += [0] + e.ids + [1]
    return np.array(ids, dtype=np.int64)


def windows(ids, starts, n, rng):
    """Endless windows of n+1 tokens covering the stream evenly (a shifted grid per epoch).

    Half of them are moved back to the nearest paragraph start and given a
    leading bos, so that the model learns to begin anywhere after bos."""
    while True:
        grid = np.arange(rng.integers(n), len(ids) - n - 2, n)
        rng.shuffle(grid)
        for g in grid:
            if rng.random() < 0.5:
                s = starts[max(np.searchsorted(starts, g, "right") - 1, 0)]
                if g - s < n // 4:
                    yield np.concatenate(([0], ids[s:s + n])) if ids[s] != 0 else ids[s:s + n + 1]
                    continue
            yield ids[g:g + n + 1]


@torch.no_grad()
def evaluate(model, ids, rank=0, world=1, every=1, n=512):
    """Mean loss (nats per token) over the held-out stream in windows of n tokens
    (of which only every n-th is taken, if asked); the processes share the windows."""
    model.eval()
    t = torch.zeros(2, dtype=torch.float64)
    for j in range(0, len(ids) - 1, n * every)[rank::world]:
        w = torch.from_numpy(ids[j:j + n + 1])[None]
        t[0] += F.cross_entropy(model(w[:, :-1]).flatten(0, 1), w[0, 1:], reduction="sum").item()
        t[1] += w.shape[1] - 1
    if world > 1:
        dist.all_reduce(t)
    model.train()
    return (t[0] / t[1]).item()


@torch.no_grad()
def sample(model, tk, prompt, n=120, temp=0.8, top_p=0.95, seed=1):
    g = torch.Generator().manual_seed(seed)
    model.eval()
    ids = tk.encode(prompt).ids
    for _ in range(n):
        p = F.softmax(model(torch.tensor([ids]))[0, -1].float() / temp, -1)
        s, o = p.sort(descending=True)
        s[s.cumsum(-1) - s > top_p] = 0
        t = o[torch.multinomial(s, 1, generator=g)].item()
        if t == 1:
            break
        ids.append(t)
    model.train()
    return tk.decode(ids)


PROMPTS = ["It was a dark night, and the captain", "\"My dear,\" said Mrs. Bennet,",
           "Tom ran down to the river", "The young lady looked at him and said"]


def main():
    ap = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ap.add_argument("--minutes", type=float, default=90, help="wall time of the training loop")
    ap.add_argument("--end-at", help="instead of --minutes: end of training, HH:MM UTC, today")
    ap.add_argument("--out", default=os.path.dirname(os.path.abspath(__file__)))
    ap.add_argument("--work", default=os.path.join(tempfile.gettempdir(), "tiny-train"), help="scratch folder for packages and texts")
    ap.add_argument("--procs", type=int, default=2, help="processes of one thread each (data parallel)")
    ap.add_argument("--init", help="continue from this checkpoint folder (weights and tokenizer)")
    ap.add_argument("--seed", type=int, default=1234)
    ap.add_argument("--lr", type=float, default=4e-3)
    ap.add_argument("--dropout", type=float, default=0.0)
    ap.add_argument("--batch-tokens", type=int, default=4096)
    ap.add_argument("--length", type=int, default=512, help="tokens of a training window")
    ap.add_argument("--compile", action=argparse.BooleanOptionalAction, default=True)
    ap.add_argument("--check", action="store_true", help="only compare the saved model with transformers")
    a = ap.parse_args()
    if "GLIBC_TUNABLES" not in os.environ:
        # Keep freed memory in the process: page faults of the large activations
        # otherwise cost three times what the arithmetic does.
        os.environ["GLIBC_TUNABLES"] = ("glibc.malloc.hugetlb=1:glibc.malloc.mmap_max=0:"
                                        "glibc.malloc.trim_threshold=8589934592:glibc.malloc.top_pad=268435456")
        os.execv(sys.executable, [sys.executable, *sys.argv])
    os.makedirs(a.out, exist_ok=True)
    os.makedirs(a.work, exist_ok=True)
    if a.check:
        return check(a.out)
    train, held, versions = corpus(a.work)
    if a.init:
        from tokenizers import Tokenizer
        tk = Tokenizer.from_file(os.path.join(a.init, "tokenizer.json"))
    else:
        tk = make_tokenizer(train, a.out, CONFIG)
    ids, val = encode(tk, train), encode(tk, held)
    val_bytes = sum(len(d.encode()) for d in held)
    para = np.array(["ĊĊ" in (tk.id_to_token(i) or "") for i in range(CONFIG["vocab_size"])])
    starts = np.sort(np.concatenate((np.nonzero(ids == 0)[0], np.nonzero(para[ids])[0] + 1)))
    print(f"{len(ids):,} training tokens, {len(val):,} held out ({val_bytes / len(val):.2f} bytes per token), "
          f"{len(starts):,} paragraphs", flush=True)
    end = None                                # --minutes count from the first step
    if a.end_at:
        h, m = map(int, a.end_at.split(":"))
        g = time.gmtime()
        end = time.time() + (h * 3600 + m * 60) - (g.tm_hour * 3600 + g.tm_min * 60 + g.tm_sec)
    meet = os.path.join(a.work, f"meet-{os.getpid()}")
    torch.multiprocessing.spawn(train_loop, (a, meet, end, ids, val, val_bytes, starts, versions), nprocs=a.procs)
    torch.set_num_threads(a.procs)
    model = load(a.out)
    for p in PROMPTS:
        print("-----\n" + sample(model, tk, p), flush=True)
    check(a.out)


def train_loop(rank, a, meet, end, ids, val, val_bytes, starts, versions):
    """One data-parallel process: one thread, its share of every batch."""
    world = a.procs
    torch.set_num_threads(1)
    torch.manual_seed(a.seed + (rank if a.dropout else 0))
    if world > 1:
        dist.init_process_group("gloo", init_method="file://" + meet, rank=rank, world_size=world)
    model = load(a.init, a.dropout) if a.init else Llama(CONFIG, a.dropout)
    if world > 1:
        for p in model.parameters():
            dist.broadcast(p.data, 0)
    n_par = sum(p.numel() for p in model.parameters())
    mats = [p for n, p in model.named_parameters() if p.dim() == 2 and "embed" not in n]
    rest = [p for n, p in model.named_parameters() if p.dim() != 2]
    opts = [Muon(mats, a.lr, 0.1, rank, world),
            torch.optim.AdamW([{"params": [model.embed_tokens.weight], "weight_decay": 0.05},
                               {"params": rest, "weight_decay": 0.0}], lr=a.lr, betas=(0.9, 0.95))]
    step_model = torch.compile(model, dynamic=False) if a.compile else model
    rng = np.random.default_rng(a.seed + bool(a.init))
    n = a.length
    feed = windows(ids, starts, n, rng)
    t0 = last = time.time()
    end = max(end or t0 + a.minutes * 60, t0 + 1)
    params = list(model.parameters())
    sizes = [p.numel() for p in params]
    warm, seen, step, run, done = (30 if a.init else 100), 0, 0, None, 0.0
    log = open(os.path.join(a.work, "log.txt"), "a")
    if rank == 0:
        print(f"{n_par:,} parameters, {(end - t0) / 60:.1f} minutes", flush=True)
        save(model, a.out)
    while done < 1:
        batch = [next(feed) for _ in range(a.batch_tokens // n)][rank::world]
        w = torch.from_numpy(np.stack(batch))
        loss = F.cross_entropy(step_model(w[:, :-1]).flatten(0, 1), w[:, 1:].flatten())
        loss.backward()
        # one message: gradients, loss and the share of the time that has passed
        flat = torch.cat([p.grad.flatten() for p in params] +
                         [torch.tensor([loss.item(), (time.time() - t0) / (end - t0)])])
        if world > 1:
            dist.all_reduce(flat)
            flat /= world
        loss, done = flat[-2:].tolist()
        done = min(done, 1.0)
        for p, f in zip(params, flat[:-2].split(sizes)):
            p.grad.copy_(f.view_as(p))
        nn.utils.clip_grad_norm_(params, 1.0)
        # warm-up, then linear decay to zero at the end of the wall time
        lr = a.lr * min(1, (step + 1) / warm) * (1 - done)
        for o in opts:
            for g in o.param_groups:
                g["lr"] = lr
            o.step()
        model.zero_grad(set_to_none=True)
        seen, step = seen + a.batch_tokens // n * n, step + 1
        run = loss if run is None else 0.95 * run + 0.05 * loss
        if rank == 0 and step % 10 == 0:
            line = f"step {step} {100 * done:.1f}% lr {lr:.2e} loss {run:.3f} tokens {seen:,} {seen / (time.time() - t0):.0f}/s"
            print(line, file=log, flush=True)
            if step % 100 == 0 or step <= 30:
                print(line, flush=True)
        tick = torch.tensor([float(time.time() - last > 480)])
        if world > 1:
            dist.broadcast(tick, 0)
        if tick.item():
            last = time.time()
            v = evaluate(model, val, rank, world, every=5)
            if rank == 0:
                save(model, a.out)
                print(f"== {(last - t0) / 60:.1f} min, {seen / len(ids):.2f} epochs: held-out loss {v:.4f} (a fifth of the windows)",
                      flush=True)
    # what ships is the rounded checkpoint: evaluate that one
    with torch.no_grad():
        for p in params:
            p.copy_(p.to(torch.bfloat16).float())
    if rank == 0:
        save(model, a.out)
    v = evaluate(model, val, rank, world)
    if rank == 0:
        report = dict(parameters=n_par, train_tokens=len(ids), held_out_tokens=len(val), held_out_bytes=val_bytes,
                      steps=step, tokens_seen=seen, epochs=seen / len(ids), minutes=(time.time() - t0) / 60,
                      held_out_loss=v, bits_per_byte=v * len(val) / val_bytes / math.log(2), packages=versions)
        print(json.dumps(report, indent=1), flush=True)
        with open(os.path.join(a.work, "report.json"), "w") as f:
            json.dump(report, f, indent=1)
    if world > 1:
        dist.destroy_process_group()


def load(folder, drop=0.0):
    from safetensors.torch import load_file
    m = Llama(CONFIG, drop)
    m.load_state_dict({k.removeprefix("model."): v.float() for k, v in
                       load_file(os.path.join(folder, "model.safetensors")).items()})
    return m


def check(out):
    """The saved checkpoint in this script's model and in transformers: same logits, same tokens."""
    from transformers import AutoTokenizer, LlamaForCausalLM
    hf = LlamaForCausalLM.from_pretrained(out, dtype=torch.float32, attn_implementation="eager").eval()
    m = load(out).eval()
    tk = AutoTokenizer.from_pretrained(out)
    ids = tk("It is a truth universally acknowledged, that a single man\n\nmust 1234 be.", return_tensors="pt").input_ids
    with torch.no_grad():
        x, y = m(ids), hf(ids).logits
    print(f"logits, this script against transformers: max difference {(x - y).abs().max():.2e} "
          f"(max logit {y.abs().max():.2f}), tokens {ids.shape[1]}, bos first: {ids[0, 0].item() == 0}")
    assert torch.allclose(x, y, atol=2e-3)


if __name__ == "__main__":
    main()
