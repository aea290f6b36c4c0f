"""The model itself: its prompts and answers as ids, what it answers, how likely an answer is."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from loop.errors import BadInputError
from loop.models.tokens import batches, draw, left_padded, padded, positions, uniforms
from loop.weights import find, new_folder, pickles

Messages = list[dict[str, str]]
"""A conversation: `[{"role": "user", "content": "..."}]`."""
Progress = Callable[[int, int], None]
"""Called with what is done and what there is to do."""

CONTEXT: Final = 128
"""Most prompt tokens that a model is shown; the rest is cut from the left, and counted."""
ANSWER: Final = 64
"""Most tokens of an answer that is trained on or scored, its end included."""
NANO: Final = "nano"
"""Value of `loop_model` in the config.json of a base that loop.train.nano made, and of all that descends from it."""

_LOGITS_BUDGET: Final = 2**25
"""Most logits in one scoring batch: 128 MiB in fp32."""


@dataclass(frozen=True)
class Encoded:
    """Token ids that fit, and how many were cut to make them fit."""

    ids: list[int]
    cut: int


@dataclass(frozen=True)
class Sample:
    """One sampled answer."""

    text: str
    logprob: float
    """Sum of the tokens' log-probabilities in nats, under what was sampled from: temperature and top-p applied."""
    tokens: int
    """Number of tokens drawn, the end token included."""
    finished: bool
    """Whether the model ended the answer itself; False if it ran into `max_new_tokens`."""


class Model:
    """A causal language model with its tokenizer.

    Example:
        >>> model = Model.load("models/base")
        >>> [[a, b]] = model.sample([[{"role": "user", "content": "Brief: ..."}]], n=2, max_new_tokens=32, seed=0)
    """

    def __init__(self, network: Any, tokenizer: Any, *, context: int = CONTEXT) -> None:
        self.network = network
        """A transformers `PreTrainedModel`, or a `PeftModel` around one."""
        self.tokenizer = tokenizer
        """A transformers `PreTrainedTokenizerBase`."""
        self.context = context
        self.end: int = tokenizer.eos_token_id
        self.pad: int = tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
        ends = network.generation_config.eos_token_id if network.generation_config is not None else None
        self._ends = torch.tensor(
            sorted({self.end, *(ends if isinstance(ends, list) else [] if ends is None else [ends])})
        )
        # A model may take only the last position's logits, which spares most of the prompt's cost.
        takes = inspect.signature(network.forward).parameters
        self._last_only: dict[str, Any] = {"logits_to_keep": 1} if "logits_to_keep" in takes else {}

    @classmethod
    def load(cls, name: str | Path, *, context: int = CONTEXT, trainable: bool = False) -> Model:
        """The model in a folder, or of that name on the Hugging Face hub, in fp32.

        A folder with a PEFT adapter loads its base too; the adapter is merged, or kept apart if `trainable`.

        Raises:
            BadInputError: nothing there, no safetensors (weights are never unpickled), or not a causal language model.
        """
        from transformers import AutoModelForCausalLM, AutoTokenizer

        _quiet()
        folder = find(name)
        adapter = folder / "adapter_config.json"
        try:
            if adapter.exists():
                from peft import PeftModel

                base = cls.load(json.loads(adapter.read_text())["base_model_name_or_path"], context=context)
                network: Any = PeftModel.from_pretrained(base.network, folder, is_trainable=trainable)
                if not trainable:
                    network = network.merge_and_unload()
            else:
                network = AutoModelForCausalLM.from_pretrained(
                    folder, use_safetensors=True, dtype=torch.float32, local_files_only=True
                )
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        except (OSError, ValueError, KeyError) as error:
            raise BadInputError(f"{name}: expected a causal language model with its tokenizer; {error}") from error
        if tokenizer.eos_token_id is None:
            raise BadInputError(f"{name}: expected a tokenizer with an end-of-sequence token, found none")
        return cls(network.eval(), tokenizer, context=context)

    def leave_files(self) -> None:
        """Hold the weights in memory of this process's own.

        A model is mapped from its files as it is loaded: whoever shortened one of them would end the process (SIGBUS),
        and whoever wrote into it would change the model.
        """
        for tensor in (*self.network.parameters(), *self.network.buffers()):
            tensor.data = tensor.data.clone()

    @property
    def is_nano(self) -> bool:
        """Whether it descends from a base made by loop.train.nano: small enough to train every parameter."""
        return getattr(self.network.config, "loop_model", None) == NANO

    # -- text to tokens ----------------------------------------------------------------------------------------------

    def encode_prompt(self, messages: Messages) -> Encoded:
        """The prompt as the model sees it, up to where its answer begins; at most `context` ids, cut from the left.

        Rendered by the tokenizer's chat template where it has one, else the contents by lines. Control tokens that
        stand in someone's text are encoded as text, so that no prompt can speak for the system or end itself.
        """
        return self.encode_prompts([messages])[0]

    def encode_prompts(self, prompts: Sequence[Messages]) -> list[Encoded]:
        """`encode_prompt` of each, in half the time."""
        if not prompts:
            return []
        if self.tokenizer.chat_template:
            encoded = self.tokenizer.apply_chat_template(
                list(prompts), add_generation_prompt=True, sanitize_control_tokens=True, return_dict=False
            )
        else:
            texts = ["".join(f"{message['content']}\n" for message in messages) for messages in prompts]
            encoded = self.tokenizer(texts, split_special_tokens=True)["input_ids"]
        return [Encoded(ids[-self.context :], max(0, len(ids) - self.context)) for ids in encoded]

    def encode_answer(self, text: str) -> Encoded:
        """The answer and its end token; what goes beyond `ANSWER` ids is cut, and the end with it."""
        ids = [*self.tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True), self.end]
        return Encoded(ids[:ANSWER], max(0, len(ids) - ANSWER))

    # -- sampling ----------------------------------------------------------------------------------------------------

    def sample(  # noqa: PLR0913
        self,
        prompts: Sequence[Messages],
        *,
        n: int,
        max_new_tokens: int,
        temperature: float = 1.0,
        top_p: float = 1.0,
        seed: int | Sequence[int],
        batch_size: int = 64,
        progress: Progress | None = None,
    ) -> list[list[Sample]]:
        """`n` answers to each prompt, independent given the seed.

        Each answer's randomness comes from the seed, the prompt, how often that prompt came before with that seed in
        this call, and the answer's number: what else is in the call or the batch changes nothing (but the last bits of
        a float). Nucleus sampling after Holtzman et al. 2020 (arXiv:1904.09751).

        Args:
            seed: one for all, or one for each prompt.
            batch_size: answers sampled at once.
        """
        return self.sample_encoded(
            [prompt.ids for prompt in self.encode_prompts(prompts)],
            n=n,
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            top_p=top_p,
            seed=seed,
            batch_size=batch_size,
            progress=progress,
        )

    def sample_encoded(  # noqa: PLR0913
        self,
        prompts: Sequence[list[int]],
        *,
        n: int,
        max_new_tokens: int,
        temperature: float = 1.0,
        top_p: float = 1.0,
        seed: int | Sequence[int],
        batch_size: int = 64,
        progress: Progress | None = None,
    ) -> list[list[Sample]]:
        """`sample` of prompts that have been encoded already."""
        if n < 1 or max_new_tokens < 1 or batch_size < 1:
            raise BadInputError(
                f"n, max_new_tokens and batch_size: expected at least 1, got {n}, {max_new_tokens}, {batch_size}"
            )
        if temperature <= 0 or not 0 < top_p <= 1:
            raise BadInputError(f"expected temperature > 0 and 0 < top_p <= 1, got {temperature} and {top_p}")
        seeds = [seed] * len(prompts) if isinstance(seed, int) else list(seed)
        if len(seeds) != len(prompts):
            raise BadInputError(f"seed: expected one, or one for each of {len(prompts)} prompts, got {len(seeds)}")
        draws = uniforms(prompts, seeds, n=n, length=max_new_tokens)
        answers: list[list[Sample]] = [[] for _ in prompts]
        done = 0
        for batch in batches([len(ids) for ids in prompts], max(1, batch_size // n)):
            rows = np.concatenate([draws[i] for i in batch])
            sampled = self._sample_batch([prompts[i] for i in batch], n, torch.from_numpy(rows), temperature, top_p)
            for place, i in enumerate(batch):
                answers[i] = sampled[place * n : (place + 1) * n]
            done += len(batch)
            if progress:
                progress(done, len(prompts))
        assert all(len(group) == n for group in answers)
        return answers

    @torch.inference_mode()
    def _sample_batch(
        self, prompts: list[list[int]], n: int, draws: torch.Tensor, temperature: float, top_p: float
    ) -> list[Sample]:
        """`n` answers to each of a few prompts; `draws` has a uniform number per answer (rows) and token (columns)."""
        ids, mask = left_padded(prompts, self.pad)
        out = self.network(
            input_ids=ids, attention_mask=mask, position_ids=positions(mask), use_cache=True, **self._last_only
        )
        cache = out.past_key_values
        cache.batch_repeat_interleave(n)
        logits, mask = (x.repeat_interleave(n, 0) for x in (out.logits[:, -1], mask))
        position = mask.sum(1, keepdim=True)
        total = len(draws)
        tokens = torch.full(draws.shape, -1)
        logprob = torch.zeros(total, dtype=torch.float64)
        finished = torch.zeros(total, dtype=torch.bool)
        alive = torch.arange(total)
        for step in range(draws.shape[1]):
            chosen, nats = draw(logits / temperature, draws[alive, step], top_p)
            tokens[alive, step] = chosen
            logprob[alive] += nats
            ended = torch.isin(chosen, self._ends)
            finished[alive[ended]] = True
            if ended.all() or step + 1 == draws.shape[1]:
                break
            if ended.any():
                keep = (~ended).nonzero()[:, 0]
                cache.batch_select_indices(keep)
                alive, chosen, mask, position = alive[keep], chosen[keep], mask[keep], position[keep]
            mask = torch.cat([mask, mask.new_ones(len(mask), 1)], 1)
            logits = self.network(
                input_ids=chosen[:, None], attention_mask=mask, position_ids=position, past_key_values=cache
            ).logits[:, -1]
            position = position + 1
        return [
            self._answer(row[row >= 0].tolist(), nats, end)
            for row, nats, end in zip(tokens, logprob.tolist(), finished.tolist(), strict=True)
        ]

    def _answer(self, ids: list[int], logprob: float, finished: bool) -> Sample:
        text = self.tokenizer.decode(ids[:-1] if finished else ids, skip_special_tokens=True)
        return Sample(text, logprob, len(ids), finished)

    # -- scoring -----------------------------------------------------------------------------------------------------

    @torch.inference_mode()
    def logprobs(
        self,
        prompts: Sequence[Messages],
        answers: Sequence[str],
        *,
        batch_size: int = 64,
        progress: Progress | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Log-probability in nats of each answer and its end given its prompt (float64), and tokens scored (int64)."""
        assert len(prompts) == len(answers), (len(prompts), len(answers))
        given = [prompt.ids for prompt in self.encode_prompts(prompts)]
        wanted = [self.encode_answer(answer).ids for answer in answers]
        return self.score(given, wanted, batch_size=batch_size, progress=progress)

    @torch.inference_mode()
    def score(
        self,
        prompts: Sequence[list[int]],
        answers: Sequence[list[int]],
        *,
        batch_size: int = 64,
        progress: Progress | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """`logprobs` of what has been encoded already."""
        lengths = [len(p) + len(a) for p, a in zip(prompts, answers, strict=True)]
        total = np.zeros(len(lengths), dtype=np.float64)
        vocabulary = self.network.get_output_embeddings().weight.shape[0]
        most = max(1, min(batch_size, _LOGITS_BUDGET // (max(lengths, default=1) * vocabulary)))
        done = 0
        for batch in batches(lengths, most):
            ids, labels, mask = padded([prompts[i] for i in batch], [answers[i] for i in batch], self.pad)
            logits = self.network(input_ids=ids, attention_mask=mask, use_cache=False).logits[:, :-1]
            target = labels[:, 1:]
            nats = torch.log_softmax(logits.float(), -1).gather(-1, target.clamp(min=0)[..., None])[..., 0]
            total[batch] = (nats.double() * (target >= 0)).sum(1).numpy()
            done += len(batch)
            if progress:
                progress(done, len(lengths))
        return total, np.array([len(a) for a in answers], dtype=np.int64)

    # -- writing -----------------------------------------------------------------------------------------------------

    def save(self, out: Path) -> Path:
        """Write weights, configuration and tokenizer into a new folder, all or nothing."""
        with new_folder(out) as folder:
            self.write(folder)
        return out

    def write(self, folder: Path) -> None:
        """Write into a folder: safetensors (of an adapter only its own weights), configuration, tokenizer."""
        _quiet()
        options = {"save_embedding_layers": False} if hasattr(self.network, "peft_config") else {}
        self.network.save_pretrained(folder, **options)
        self.tokenizer.save_pretrained(folder)
        assert not pickles(folder)


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Compute with that many threads: sums are split among them, so equal weights need equal counts."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _quiet() -> None:
    """No progress bars for files that are read and written in milliseconds."""
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
