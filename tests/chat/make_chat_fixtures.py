"""Writes `chats.json`: chats as text by `transformers`, which the program has to give byte for byte.

The templates are in the manner of those that models bring along (ChatML, Llama 3, Qwen3 with its thoughts, Zephyr,
Mistral), and use what those use: loops with their counters, namespaces, methods of Python's texts, filters, macros,
white space control, and what `transformers` adds to Jinja. It runs with transformers 5.24.
"""

import json
from pathlib import Path

import transformers
from transformers.utils.chat_template_utils import render_jinja_template

CHATML = (
    "{% for message in messages %}{% if loop.first and message['role'] != 'system' %}"
    "<|im_start|>system\nBe brief.<|im_end|>\n{% endif %}"
    "{{ '<|im_start|>' + message.role + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LLAMA = """{{- bos_token }}
{%- if not date is defined %}
    {%- if strftime_now is defined and false %}
        {%- set date = strftime_now("%d %b %Y") %}
    {%- else %}
        {%- set date = "26 Jul 2024" %}
    {%- endif %}
{%- endif %}
{%- if messages[0]['role'] == 'system' %}
    {%- set first = messages[0]['content']|trim %}
    {%- set rest = messages[1:] %}
{%- else %}
    {%- set first = "" %}
    {%- set rest = messages %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\nToday: " + date + "\\n" }}
{{- first }}
{{- "<|eot_id|>" }}
{%- for message in rest %}
    {%- if not (message.role == 'ipython' or 'tool_calls' in message) %}
        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' + message['content'] | trim + '<|eot_id|>' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
"""
QWEN = """{%- if messages[0].role == 'system' %}
    {{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}
{%- endif %}
{%- set ns = namespace(last=messages|length - 1, asked=false) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if not ns.asked and message.role == "user" and message.content is string and not(message.content.startswith('<tool>') and message.content.endswith('</tool>')) %}
        {%- set ns.asked = true %}
        {%- set ns.last = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- set content = message.content if message.content is string else '' %}
    {%- if message.role == "user" %}
        {{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>' + '\\n' }}
    {%- elif message.role == "assistant" %}
        {%- set thoughts = '' %}
        {%- if '</think>' in content %}
            {%- set thoughts = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
            {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
        {%- endif %}
        {%- if loop.index0 > ns.last and (loop.last or thoughts) %}
            {{- '<|im_start|>assistant\\n<think>\\n' + thoughts.strip('\\n') + '\\n</think>\\n\\n' + content.lstrip('\\n') }}
        {%- else %}
            {{- '<|im_start|>' + message.role + '\\n' + content }}
        {%- endif %}
        {{- '<|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- endif %}
{%- endif %}"""
ZEPHYR = (
    "{% for message in messages %}\n{% if message['role'] == 'user' %}\n{{ '<|user|>\n' + message['content'] + eos_token }}\n"
    "{% elif message['role'] == 'system' %}\n{{ '<|system|>\n' + message['content'] + eos_token }}\n"
    "{% elif message['role'] == 'assistant' %}\n{{ '<|assistant|>\n'  + message['content'] + eos_token }}\n{% endif %}\n"
    "{% if loop.last and add_generation_prompt %}\n{{ '<|assistant|>' }}\n{% endif %}\n{% endfor %}"
)
MISTRAL = """{%- if messages[0]["role"] == "system" %}{%- set system = messages[0]["content"] %}{%- set loop_messages = messages[1:] %}
{%- else %}{%- set loop_messages = messages %}{%- endif %}
{%- set ns = namespace() %}{%- set ns.index = 0 %}
{%- for message in loop_messages %}
    {%- if (message["role"] == "user") != (ns.index % 2 == 0) %}
        {{- raise_exception("After the optional system message, roles must alternate user and assistant") }}
    {%- endif %}
    {%- set ns.index = ns.index + 1 %}
{%- endfor %}
{{- bos_token }}
{%- for message in loop_messages %}
    {%- if message["role"] == "user" %}
        {%- if loop.last and system is defined %}{{- "[INST] " + system + "\\n\\n" + message["content"] + "[/INST]" }}
        {%- else %}{{- "[INST] " + message["content"] + "[/INST]" }}{%- endif %}
    {%- elif message["role"] == "assistant" %}{{- " " + message["content"]|trim + eos_token }}{%- endif %}
{%- endfor %}
"""
ODDS = """{%- macro tag(name, text='none') -%}<{{ name | upper }}>{{ text | trim | replace('a', 'A') }}</{{ name.title() }}>{%- endmacro %}
{% for message in messages if message.content %}
  {% if loop.index > 3 %}{% break %}{% endif %}
    {# what nobody sees #}
    {% generation %}{{ tag(message.role, message.content) }}{% endgeneration %}
{{ message | tojson }}
{{ message.content.split(' ') | list | tojson(indent=2) }} {{ messages | length }}/{{ loop.revindex }} {{ loop.previtem.role if loop.previtem is defined else 'first' }}
{{ message.items() | list | first | join('=') }}|{{ 7 // 2 }}|{{ 'x' * 3 }}|{{ none }}|{{ nothing }}|{{ message.content[:5] }}|{{ ['b', 'a'] | sort | join('') }}
{% endfor %}
{{ messages | map(attribute='role') | join(', ') }}{{ messages | selectattr('role', 'equalto', 'user') | list | length }}
"""
TEMPLATES = {"chatml": CHATML, "llama": LLAMA, "qwen": QWEN, "zephyr": ZEPHYR, "mistral": MISTRAL, "odds": ODDS}


def message(role, content):
    return {"role": role, "content": content}


CHATS = [
    [message("user", "What is 2 + 2?")],
    [message("user", "Hello <b>&'\"</b>\n"), message("assistant", "  Hi, é and 日本!  ")],
    [message("system", " Answer in rhymes. "), message("user", "A cat?"), message("assistant", "<think>\na hat\n</think>\n\nA hat."), message("user", "And then?")],
    [message("user", "one"), message("assistant", "two"), message("user", "three\n\nlines"), message("assistant", "<think>x</think>four")],
]


def main():
    cases = []
    for name, template in TEMPLATES.items():
        for number, chat in enumerate(CHATS):
            for prompts in (False, True):
                rendered, _ = render_jinja_template(
                    [chat], chat_template=template, add_generation_prompt=prompts, bos_token="<s>", eos_token="</s>",
                )
                cases.append({"template": name, "chat": number, "prompts": prompts, "text": rendered[0]})
    content = {"templates": TEMPLATES, "chats": CHATS, "cases": cases, "transformers": transformers.__version__}
    path = Path(__file__).parent / "chats.json"
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
