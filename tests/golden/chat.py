#!/usr/bin/env python3
"""Goldens of the chat templates: what transformers' apply_chat_template makes of a few dialogues.

Writes tests/golden/chat/chat.json: each template's Jinja, its start and end tokens, and per dialogue the text. The Jinja texts
are SmolLM2's own and short forms of the others that keep what matters for dialogues without tools.
"""
import json
import pathlib

from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

OUT = pathlib.Path(__file__).resolve().parent / "chat"

CHATML = ("{%- for message in messages %}{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}"
          "{%- endfor %}{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}")
SMOLLM2 = ("{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
           "{{ '<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n' }}{% endif %}"
           "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
           "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}")
# With a branch for tools that opens the system message in pieces, as Qwen2.5's has.
QWEN25 = ("{%- if tools %}{{- '<|im_start|>system\\n' }}{{- messages[0].content }}{{- '<|im_end|>\\n' }}"
          "{%- elif messages[0].role == 'system' %}{{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}"
          "{%- else %}{{- '<|im_start|>system\\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\\n' }}"
          "{%- endif %}{%- for message in messages %}{%- if message.role != 'system' or not loop.first %}"
          "{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}{%- endif %}{%- endfor %}"
          "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}")
# The last answer after the last question says that there was no reasoning.
QWEN3 = ("{%- for message in messages %}{%- if message.role == 'assistant' %}{%- set reasoning_content = '' %}"
         "{%- if loop.last and messages[loop.index0 - 1].role == 'user' %}"
         "{{- '<|im_start|>assistant\\n<think>\\n' + reasoning_content + '\\n</think>\\n\\n' + message.content }}"
         "{%- else %}{{- '<|im_start|>assistant\\n' + message.content }}{%- endif %}{{- '<|im_end|>\\n' }}"
         "{%- else %}{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}{%- endif %}{%- endfor %}"
         "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}")
LLAMA3 = ("{% for message in messages %}{% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'+ "
          "message['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}"
          "{{ content }}{% endfor %}{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}")
LLAMA31 = ("{{- bos_token }}{%- if not date_string is defined %}{%- set date_string = '26 Jul 2024' %}{%- endif %}"
           "{%- if messages[0]['role'] == 'system' %}{%- set system_message = messages[0]['content'] | trim %}"
           "{%- set messages = messages[1:] %}{%- else %}{%- set system_message = '' %}{%- endif %}"
           "{{- '<|start_header_id|>system<|end_header_id|>\\n\\n' }}{{- 'Cutting Knowledge Date: December 2023\\n' }}"
           "{{- 'Today Date: ' + date_string + '\\n\\n' }}{{- system_message }}{{- '<|eot_id|>' }}"
           "{%- for message in messages %}{{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' + "
           "message['content'] | trim + '<|eot_id|>' }}{%- endfor %}"
           "{%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{%- endif %}")
LLAMA2 = ("{% if messages[0]['role'] == 'system' %}{% set rest = messages[1:] %}{% set system = messages[0]['content'] %}"
          "{% else %}{% set rest = messages %}{% set system = false %}{% endif %}{% for message in rest %}"
          "{% if loop.index0 == 0 and system != false %}"
          "{% set content = '<<SYS>>\\n' + system + '\\n<</SYS>>\\n\\n' + message['content'] %}"
          "{% else %}{% set content = message['content'] %}{% endif %}"
          "{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}"
          "{% elif message['role'] == 'assistant' %}{{ ' '  + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}")
MISTRAL = ("{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}"
           "{{ '[INST] ' + message['content'] + ' [/INST]' }}{% elif message['role'] == 'assistant' %}"
           "{{ message['content'] + eos_token}}{% endif %}{% endfor %}")
ZEPHYR = ("{% for message in messages %}\n{% if message['role'] == 'user' %}\n{{ '<|user|>\n' + message['content'] + eos_token }}\n"
          "{% elif message['role'] == 'system' %}\n{{ '<|system|>\n' + message['content'] + eos_token }}\n"
          "{% elif message['role'] == 'assistant' %}\n{{ '<|assistant|>\n'  + message['content'] + eos_token }}\n{% endif %}\n"
          "{% if loop.last and add_generation_prompt %}\n{{ '<|assistant|>' }}\n{% endif %}\n{% endfor %}")
ALPACA = ("{% if messages[0]['role'] == 'system' %}{% set rest = messages[1:] %}{{ messages[0]['content'] + '\n\n' }}"
          "{% else %}{% set rest = messages %}{{ 'Below is an instruction that describes a task. "
          "Write a response that appropriately completes the request.\n\n' }}{% endif %}"
          "{% for message in rest %}{% if message['role'] == 'user' %}{{ '### Instruction:\n' + message['content'] + '\n\n' }}"
          "{% else %}{{ '### Response:\n' + message['content'] + eos_token }}{% if not loop.last %}{{ '\n\n' }}{% endif %}"
          "{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '### Response:\n' }}{% endif %}")

# name of the case: Jinja, the template it is, start and end token
TEMPLATES = {
    "chatml": (CHATML, "chatml", "<|im_start|>", "<|im_end|>"),
    "smollm2": (SMOLLM2, "chatml", "<|im_start|>", "<|im_end|>"),
    "qwen2.5": (QWEN25, "chatml", "", "<|im_end|>"),
    "qwen3": (QWEN3, "chatml", "", "<|im_end|>"),
    "llama3": (LLAMA3, "llama3", "<|begin_of_text|>", "<|eot_id|>"),
    "llama3.1": (LLAMA31, "llama3", "<|begin_of_text|>", "<|eot_id|>"),
    "llama2": (LLAMA2, "llama2", "<s>", "</s>"),
    "mistral": (MISTRAL, "mistral", "<s>", "</s>"),
    "zephyr": (ZEPHYR, "zephyr", "<s>", "</s>"),
    "alpaca": (ALPACA, "alpaca", "<s>", "</s>"),
}


def say(role, content):
    return {"role": role, "content": content}


TURN = [say("user", "  What is 2 + 2?\n"), say("assistant", "4. It's \"four\".  ")]
DIALOGUES = [
    TURN,
    [say("system", " Answer in Čeština. ")] + TURN,
    TURN + [say("user", "And 3 + 3?"), say("assistant", "6")],
]


def make_tokenizer(jinja, bos, eos):
    tokens = {t: i for i, t in enumerate(dict.fromkeys(t for t in ("<unk>", bos, eos) if t))}
    inner = Tokenizer(models.WordLevel(tokens, unk_token="<unk>"))
    return PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="<unk>", bos_token=bos or None, eos_token=eos,
                                   chat_template=jinja)


def main():
    templates = []
    for case, (jinja, name, bos, eos) in TEMPLATES.items():
        tokenizer = make_tokenizer(jinja, bos, eos)
        texts = []
        for dialogue in DIALOGUES:
            if case == "mistral" and dialogue[0]["role"] == "system":
                continue
            for messages, prompt in ((dialogue, False), (dialogue[:-1], True)):
                texts.append({"messages": messages, "generation_prompt": prompt,
                              "text": tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=prompt)})
        templates.append({"case": case, "name": name, "jinja": jinja, "bos": bos, "eos": eos, "texts": texts})
    OUT.mkdir(exist_ok=True)
    (OUT / "chat.json").write_text(json.dumps(templates, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
