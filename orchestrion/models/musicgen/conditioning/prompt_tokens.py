"""A prompt's tokens, in which the name of a special token is text like any other.

Tokenizers take a typed "</s>" or "<pad>" for the token of that name, so words of a prompt could end it, be padding or
leave a gap. Hugging Face's and audiocraft's own code does; here such words are spelt out, the first letter apart.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import T5Tokenizer


def token_ids(tokenizer: T5Tokenizer, prompt: str) -> list[int]:
    """The ids of `prompt`, with those that the tokenizer puts after it."""
    encoding = tokenizer(prompt, split_special_tokens=True).encodings[0]
    special = {token.content for token in tokenizer.added_tokens_decoder.values()} | set(tokenizer.all_special_tokens)
    ids: list[int] = []
    # Not splitting them is not enough: the vocabulary itself has special tokens, for likeness to the training's ids.
    for token, number, was_added in zip(encoding.tokens, encoding.ids, encoding.special_tokens_mask, strict=True):
        if token in special and not was_added:
            spell = tokenizer.backend_tokenizer.model.tokenize
            ids += [letters.id for part in (token[:1], token[1:]) for letters in spell(part)]
        else:
            ids.append(number)
    return ids
