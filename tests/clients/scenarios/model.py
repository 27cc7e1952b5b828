"""model.py SDK BASE_URL whole|stream KEY: asks a model and prints what it says; retries and time limits are the SDK's."""

import sys


def explain(kind, error, traceback):
    """As programs log it: the body of an answer is an attribute of the SDKs' errors, beside their text."""
    print(f"{kind.__name__}: {error}: {getattr(error, 'body', None)}", file=sys.stderr)


sys.excepthook = explain
sdk, base_url, how, key = sys.argv[1:]
messages = [{"role": "user", "content": "count to three"}]
if sdk == "openai":
    import openai

    client = openai.OpenAI(base_url=base_url + "/v1", api_key=key)
    if how == "stream":
        for chunk in client.chat.completions.create(model="m", messages=messages, stream=True):
            print(chunk.choices[0].delta.content or "", end="", flush=True)
    else:
        print(client.chat.completions.create(model="m", messages=messages).choices[0].message.content)
else:
    import anthropic

    client = anthropic.Anthropic(base_url=base_url, api_key=key)
    if how == "stream":
        with client.messages.stream(model="m", max_tokens=9, messages=messages) as stream:
            for text in stream.text_stream:
                print(text, end="", flush=True)
    else:
        print(client.messages.create(model="m", max_tokens=9, messages=messages).content[0].text)
