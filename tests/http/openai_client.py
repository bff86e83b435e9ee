"""Drives a running server with OpenAI's own Python client.

Usage: openai_client.py BASE_URL, as in `openai_client.py http://127.0.0.1:8000`. The model is the first that
`/v1/models` lists; it may be any, so nothing here depends on what it says. Prints one line for each check that fails,
then `N passed, M failed`; exits 1 if one failed.
"""

import sys
import traceback

import openai

MESSAGES = [{"role": "user", "content": "Tell me a story."}]
GREEDY = {"temperature": 0, "max_tokens": 24, "extra_body": {"ignore_eos": True}}
CHECKS = []


def check(function):
    """Marks a function as a check; it gets the client and the model's name."""
    CHECKS.append(function)
    return function


def raises(kind, call):
    """The error of `kind` that `call` must raise."""
    try:
        call()
    except kind as error:
        return error
    raise AssertionError(f"no {kind.__name__}")


@check
def models_are_listed_and_found(client, model):
    listed = client.models.list().data
    assert [entry.id for entry in listed][0] == model
    assert listed[0].owned_by == "trefoil"
    assert client.models.retrieve(model).id == model


@check
def completion_in_events_is_the_whole(client, model):
    whole = client.completions.create(model=model, prompt="Once upon a time", **GREEDY)
    assert whole.object == "text_completion" and whole.choices[0].finish_reason == "length"
    assert whole.usage.completion_tokens == 24
    assert whole.usage.total_tokens == whole.usage.prompt_tokens + 24
    options = {"include_usage": True}
    events = list(client.completions.create(
        model=model, prompt="Once upon a time", stream=True, stream_options=options, **GREEDY))
    text = "".join(event.choices[0].text for event in events if event.choices)
    assert text == whole.choices[0].text
    assert events[-1].choices == [] and events[-1].usage == whole.usage
    assert all(event.usage is None for event in events[:-1])


@check
def chat_in_events_is_the_whole(client, model):
    whole = client.chat.completions.create(model=model, messages=MESSAGES, **GREEDY)
    assert whole.object == "chat.completion" and whole.choices[0].message.role == "assistant"
    options = {"include_usage": True}
    events = list(client.chat.completions.create(
        model=model, messages=MESSAGES, stream=True, stream_options=options, **GREEDY))
    assert events[0].choices[0].delta.role == "assistant" and events[0].choices[0].delta.content == ""
    text = "".join(event.choices[0].delta.content or "" for event in events if event.choices)
    assert text == whole.choices[0].message.content
    assert [event.choices[0].finish_reason for event in events if event.choices][-1] == "length"
    assert events[-1].usage == whole.usage


@check
def max_completion_tokens_and_text_parts_are_understood(client, model):
    parts = [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}]
    answer = client.chat.completions.create(
        model=model, messages=parts, max_completion_tokens=3, extra_body={"ignore_eos": True})
    assert answer.usage.completion_tokens == 3


@check
def completion_logprobs_are_parallel(client, model):
    answer = client.completions.create(model=model, prompt="Once", logprobs=3, **GREEDY)
    lists = answer.choices[0].logprobs
    assert len(lists.tokens) == len(lists.token_logprobs) == len(lists.top_logprobs) == len(lists.text_offset) == 24
    assert all(logprob <= 0 for logprob in lists.token_logprobs)
    assert all(token in top for token, top in zip(lists.tokens, lists.top_logprobs))


@check
def chat_logprobs_carry_bytes(client, model):
    answer = client.chat.completions.create(
        model=model, messages=MESSAGES, logprobs=True, top_logprobs=2, **GREEDY)
    content = answer.choices[0].logprobs.content
    assert len(content) == 24 and all(len(token.top_logprobs) == 2 for token in content)
    text = b"".join(bytes(token.bytes) for token in content).decode("utf-8", "replace")
    assert text == answer.choices[0].message.content


@check
def several_answers_are_numbered(client, model):
    sampled = {**GREEDY, "temperature": 1.0, "seed": 3, "n": 3}
    answer = client.chat.completions.create(model=model, messages=MESSAGES, **sampled)
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    again = client.chat.completions.create(model=model, messages=MESSAGES, **sampled)
    assert [c.message.content for c in answer.choices] == [c.message.content for c in again.choices]


@check
def prompts_may_be_token_ids(client, model):
    answer = client.completions.create(model=model, prompt=[[5, 6, 7], [8, 9]], **GREEDY)
    assert len(answer.choices) == 2 and answer.usage.prompt_tokens == 5


@check
def stop_strings_end_the_text(client, model):
    free = client.completions.create(model=model, prompt="Once", **GREEDY).choices[0].text
    stop = free[3:6]
    stopped = client.completions.create(model=model, prompt="Once", stop=[stop], **GREEDY).choices[0]
    assert stopped.finish_reason == "stop" and stopped.text == free[: free.index(stop)]
    events = client.completions.create(model=model, prompt="Once", stop=stop, stream=True, **GREEDY)
    assert "".join(event.choices[0].text for event in events) == stopped.text


@check
def bad_requests_name_the_field(client, model):
    error = raises(openai.BadRequestError, lambda: client.completions.create(
        model=model, prompt="Once", temperature=-1))
    assert error.param == "temperature" and error.code == "value_out_of_range"
    error = raises(openai.BadRequestError, lambda: client.completions.create(
        model=model, prompt="Once", max_tokens=10_000_000))
    assert error.code == "context_length_exceeded"
    raises(openai.BadRequestError, lambda: client.chat.completions.create(model=model, messages=[]))


@check
def unknown_models_are_not_found(client, model):
    error = raises(openai.NotFoundError, lambda: client.chat.completions.create(
        model="no-such-model", messages=MESSAGES))
    assert error.code == "model_not_found"
    raises(openai.NotFoundError, lambda: client.models.retrieve("no-such-model"))


@check
def embeddings_are_absent(client, model):
    raises(openai.NotFoundError, lambda: client.embeddings.create(model=model, input="x"))


@check
def a_stream_can_be_closed_early(client, model):
    stream = client.completions.create(model=model, prompt="Once", stream=True, **GREEDY)
    next(iter(stream))
    stream.close()
    assert client.completions.create(model=model, prompt="Once", **GREEDY).choices[0].text


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    client = openai.OpenAI(base_url=f"{sys.argv[1].rstrip('/')}/v1", api_key="unused", max_retries=0, timeout=60)
    model = client.models.list().data[0].id
    failed = 0
    for function in CHECKS:
        try:
            function(client, model)
        except Exception:  # any failure of a check is a result, and the next check shall run
            failed += 1
            print(f"FAILED {function.__name__}\n{traceback.format_exc()}", file=sys.stderr)
    print(f"{len(CHECKS) - failed} passed, {failed} failed")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
