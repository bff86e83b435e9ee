"""Renders conversations with the chat templates of a folder by transformers, and writes the texts down.

    python make_chats.py                    # the templates in chat/, whose texts are committed
    python make_chats.py --folder FOLDER    # any other templates, *.jinja, to compare with ours

For each `NAME.jinja` of the folder it writes `NAME.json`: for every case of `chat/conversations.json`, without and
(` +`) with a generation prompt, its text; `{"refused": words}` where the template calls `raise_exception`; `null` where
it fails otherwise, or loses content parts or writes them down as data. `tests/tests/chats.rs` compares:

    TREFOIL_CHATS=FOLDER cargo test -p trefoil-tests --test chats
"""

import argparse
import json
from pathlib import Path

import jinja2
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

HERE = Path(__file__).parent / "chat"
TOKENS = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
# a template that knows text only prints the list of parts as Python does
PARTS_AS_DATA = ["'type': 'text'", '"type": "text"']


def tokenizer(template):
    empty = Tokenizer(models.BPE(vocab={}, merges=[]))
    return PreTrainedTokenizerFast(tokenizer_object=empty, chat_template=template, **TOKENS)


def text(owner, case, add_generation_prompt):
    try:
        found = owner.apply_chat_template(
            case["messages"],
            tools=case.get("tools"),
            documents=case.get("documents"),
            add_generation_prompt=add_generation_prompt,
            continue_final_message=case.get("continue", False),
            tokenize=False,
            **case.get("kwargs", {}),
        )
    except jinja2.exceptions.TemplateError as error:
        return {"refused": str(error)} if type(error) is jinja2.exceptions.TemplateError else None
    except Exception:  # whatever else a template does wrong, down to adding texts and lists
        return None
    parts = [part["text"] for message in case["messages"] if isinstance(message.get("content"), list)
             for part in message["content"]]
    is_read = all(part.strip() in found for part in parts) and not any(sign in found for sign in PARTS_AS_DATA)
    return found if is_read else None


def texts(template, cases):
    owner = tokenizer(template)
    found = {}
    for name, case in cases.items():
        found[name] = text(owner, case, False)
        if not case.get("continue"):
            found[name + " +"] = text(owner, case, True)
    return found


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--folder", type=Path, default=HERE)
    folder = arguments.parse_args().folder
    cases = json.loads((HERE / "conversations.json").read_text())
    for path in sorted(folder.glob("*.jinja")):
        found = texts(path.read_text(), cases)
        path.with_suffix(".json").write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
        print(f"{path.name}: {sum(isinstance(text, str) for text in found.values())} of {len(found)} cases have a text")


if __name__ == "__main__":
    main()
