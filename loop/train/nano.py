"""The base model `nano`: a tokenizer and a small Llama, made and pretrained on this machine without a download.

Pretraining only, in a bare PyTorch loop; what people decide is learned in sft.py and dpo.py.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, Final

import numpy as np
import torch

from loop.errors import BadInputError
from loop.models import ANSWER, CONTEXT, NANO, Messages, Model, Progress, padded, threads
from loop.train.curve import Curve, Outcome
from loop.weights import new_folder

PAD: Final = "<|pad|>"
BEGIN: Final = "<|answer|>"
END: Final = "<|end|>"
CHAT_TEMPLATE: Final = (
    "{% for m in messages %}{% if m['role'] == 'assistant' %}<|answer|>{{ m['content'] }}<|end|>"
    "{% else %}{{ m['content'] }}{% endif %}{% if not loop.last %}{{ '\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|answer|>{% endif %}"
)
"""The text format: prompt, `<|answer|>`, answer, `<|end|>`."""


@dataclass(frozen=True)
class Shape:
    """Size of the network. The default has at most 0.87M parameters: 70 ms a step of 32 x 48 tokens on two cores."""

    vocabulary: int = 2048
    """At most; a small corpus yields fewer merges."""
    hidden: int = 128
    layers: int = 3
    heads: int = 4
    inner: int = 352


def build(  # noqa: PLR0913
    pairs: Sequence[tuple[Messages, str]],
    out: Path,
    *,
    seed: int,
    steps: int = 600,
    batch_size: int = 32,
    learning_rate: float = 3e-3,
    shape: Shape = Shape(),
    progress: Progress | None = None,
) -> Curve:
    """Make a tokenizer from the texts and a Llama (Touvron et al. 2023, arXiv:2302.13971); pretrain it on the pairs.

    Loss on the answers alone: with the prompts in it, a network this small spends itself on them and after as many
    steps has learned next to nothing of how answers depend on prompts. AdamW without decay (with it, answers break
    their form more often), learning rate up in a straight line and down a cosine to a tenth, fp32. The same pairs and
    seed give the same bytes on one kind of processor.

    Args:
        out: folder to write: config.json, generation_config.json, model.safetensors, tokenizer files.
        learning_rate: its peak.

    Raises:
        BadInputError: no pairs, or `out` exists.
    """
    if not pairs:
        raise BadInputError("a base model needs (prompt, answer) pairs to be pretrained on, got none")
    started = perf_counter()
    with new_folder(out) as folder, threads(2):
        model = _new(_tokenizer(pairs, shape.vocabulary), shape, seed)
        prompts = model.encode_prompts([prompt for prompt, _ in pairs])
        answers = [model.encode_answer(answer) for _, answer in pairs]
        network = model.network.train()
        optimizer = torch.optim.AdamW(network.parameters(), betas=(0.9, 0.95), weight_decay=0.0, fused=True)
        losses: list[float] = []
        tokens = 0
        for step, rows in zip(range(steps), _rows(len(pairs), batch_size, seed), strict=False):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate * _schedule(step, steps)
            ids, labels, mask = padded([prompts[i].ids for i in rows], [answers[i].ids for i in rows], model.pad)
            loss = _loss(network, ids, labels)
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.item())
            tokens += int(mask.sum())
            if progress:
                progress(step + 1, steps)
        network.eval()
        model.write(folder)
    cut = [encoded.cut for pair in zip(prompts, answers, strict=True) for encoded in pair if encoded.cut]
    return Curve(
        method="pretraining",
        outcome=Outcome.TRAINED,
        losses=tuple(losses),
        rows=len(pairs),
        tokens=tokens,
        cut_tokens=sum(cut),
        cut_texts=len(cut),
        seconds=perf_counter() - started,
    )


def _tokenizer(pairs: Sequence[tuple[Messages, str]], vocabulary: int) -> Any:
    """Byte-level BPE (Sennrich et al. 2016, arXiv:1508.07909): every text can be written and comes back unchanged."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    def texts() -> Iterator[str]:
        for messages, answer in pairs:
            yield from (message["content"] for message in messages)
            yield answer

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        texts(),
        trainers.BpeTrainer(
            vocab_size=vocabulary,
            min_frequency=2,
            special_tokens=[PAD, BEGIN, END],
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        ),
    )
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=END,
        additional_special_tokens=[BEGIN],
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
    )


def _new(tokenizer: Any, shape: Shape, seed: int) -> Model:
    """A network with random weights that depend on the seed alone; the caller's random state is left as it was."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config: Any = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=shape.hidden,
        intermediate_size=shape.inner,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.heads,
        max_position_embeddings=CONTEXT + ANSWER,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    config.loop_model = NANO
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Model(LlamaForCausalLM(config), tokenizer)


def _loss(network: Any, ids: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Mean negative log-likelihood of the labelled tokens.

    Only their positions go through the head, a fifth of the work; and no mask is needed, for padding stands to the
    right, where no real token looks.
    """
    hidden = network.base_model(input_ids=ids, use_cache=False).last_hidden_state[:, :-1]
    target = labels[:, 1:]
    known = target >= 0
    return torch.nn.functional.cross_entropy(network.get_output_embeddings()(hidden[known]), target[known])


def _rows(count: int, batch_size: int, seed: int) -> Iterator[list[int]]:
    """Batches without end: every row once in a shuffled pass, then the next pass."""
    generator = np.random.default_rng(seed)
    queue: list[int] = []
    while True:
        while len(queue) < batch_size:
            queue.extend(generator.permutation(count).tolist())
        yield queue[:batch_size]
        del queue[:batch_size]


def _schedule(step: int, steps: int) -> float:
    """Factor on the learning rate: linear over the first twentieth, then a cosine from 1 to 0.1."""
    warm = max(1, steps // 20)
    if step < warm:
        return (step + 1) / warm
    return 0.1 + 0.45 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))
