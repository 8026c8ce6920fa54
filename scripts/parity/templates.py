"""Chat templates of real models, as transformers renders them: texts, generation spans, errors.

The templates are those of the package `trl` in the peers' environment: of the Llama 3, Qwen 2.5 to 3.8, Gemma, Phi 3, Cohere,
DeepSeek, GLM, LFM, Nemotron and GPT-OSS families, and TRL's variants of them with generation blocks.
"""

import pathlib
import sys

import trl
from transformers.utils import chat_template_utils as utils

from harness.command import Check
from harness.probe import probe, write_lines

FIXTURES = pathlib.Path(__file__).resolve().parents[1] / "fixtures"
sys.path.insert(0, str(FIXTURES / "templates"))
sys.path.insert(0, str(FIXTURES))
from chats import CONVERSATIONS, TOOLS  # noqa: E402


def kind_of(error):
    """The kind that the project's error has for an exception of Jinja2."""
    import jinja2

    if isinstance(error, jinja2.exceptions.SecurityError):
        return "forbidden"
    if isinstance(error, jinja2.UndefinedError):
        return "undefined"
    return "raised" if type(error) is jinja2.TemplateError else "other"


def rendered(source, case):
    """What transformers makes of a chat, spans in UTF-8 bytes."""
    try:
        texts, spans = utils.render_jinja_template(
            [case["messages"]], tools=case["tools"], chat_template=source, return_assistant_tokens_mask=True,
            add_generation_prompt=case["prompt"], **case["variables"])
        text = texts[0]
        return {"text": text, "spans": [[len(text[:a].encode()), len(text[:b].encode())] for a, b in spans[0]]}
    except Exception as error:
        return {"error": kind_of(error)}


def cases():
    """Every conversation of the fixtures, with and without tools and an opened answer."""
    for options in CONVERSATIONS.values():
        variables = {"bos_token": "<s>", "eos_token": "</s>", **{key: value for key, value in options.items() if key != "messages"}}
        for prompt in (False, True):
            for tools in (None, TOOLS):
                yield {"messages": options["messages"], "tools": tools, "prompt": prompt, "variables": variables}


def main():
    check = Check("templates", __doc__)
    chats = list(cases())
    lines = write_lines(check.work / "chats.jsonl", chats)
    templates = sorted((pathlib.Path(trl.__file__).parent / "chat_templates").glob("*.jinja"))
    check.at_least("templates", len(templates), 60)
    for template in templates:
        def compare(check, name):
            theirs = [rendered(template.read_text(), chat) for chat in chats]
            check.equal_each(name, chats, probe(check, "chats", template, lines), theirs)
        check.attempt(template.stem, compare)
    check.finish()


main()
