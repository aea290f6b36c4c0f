"""The folders in which models lie: found, checked, named by their bytes, written all or nothing. No network runs here.

Weights are safetensors; nothing is ever unpickled.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from loop.errors import BadInputError

_PICKLED: Final = {".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle"}
_HUB_FILES: Final = ["*.safetensors", "*.json", "*.txt", "*.model", "*.jinja"]


def find(name: str | Path) -> Path:
    """The local folder of the model in a folder, or of that name on the Hugging Face hub.

    From the hub come only files that are data. They are kept in the hub's own cache (`HF_HOME`).

    Raises:
        BadInputError: there is nothing of that name, or no safetensors in it.
    """
    folder = Path(name)
    if not folder.is_dir():
        folder = _from_hub(str(name))
    if any(folder.glob("*.safetensors")):
        return folder
    if found := pickles(folder):
        raise BadInputError(
            f"{folder}: expected weights as safetensors, found pickled ones ({', '.join(found)}), which can run code "
            "when opened; save the model again as safetensors where you trust it"
        )
    raise BadInputError(f"{folder}: expected a model with weights as safetensors, found none")


def pickles(folder: Path) -> list[str]:
    """Names of the files that would have to be unpickled."""
    return sorted(file.name for file in folder.iterdir() if file.suffix in _PICKLED)


def weights_digest(folder: Path) -> str:
    """SHA-256 (hexadecimal) of a model's safetensors: of the one file's bytes, or over the shards in order of name."""
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise BadInputError(f"{folder}: expected weights as safetensors, found none")
    digests = []
    for path in files:
        with path.open("rb") as file:
            digests.append(hashlib.file_digest(file, "sha256").hexdigest())
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """A folder to write into that becomes `out` when all went well, and nothing otherwise.

    Raises:
        BadInputError: `out` exists already.
    """
    if out.exists():
        raise BadInputError(f"{out}: expected a path that does not exist yet; a model version is written once")
    partial = out.with_name(f".{out.name}.partial-{os.getpid()}")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        partial.rename(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _from_hub(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    try:
        return Path(snapshot_download(name, allow_patterns=_HUB_FILES))
    except (HFValidationError, OSError) as error:  # every error of the hub and of the network is an OSError
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise BadInputError(f"model {name!r}: expected a folder or a name on the Hugging Face hub; {reason}") from error
