"""timm's pretrained weights from its hub, within a stated time and without touching the random state."""

from __future__ import annotations

import logging
import queue
import socket
import threading
import time
import urllib.request
from urllib.parse import urlsplit

import timm
import torch
from torch import Tensor

from .checkpoints import read_file

logger = logging.getLogger(__name__)

# Outcome of each backbone asked for in this process: its tensors, or why there are none.
_FETCHED: dict[str, dict[str, Tensor] | str] = {}


def fetch_pretrained(backbone: str, timeout: float, retry: bool = False) -> dict[str, Tensor] | str:
    """timm's state dict of ``backbone``, or a sentence that says why it could not be had.

    A background thread does the work, because neither name resolution nor the hub's own retries (46 s without a
    network) can be bounded from outside; when the time is up it is left behind as a daemon. A backbone is tried once
    a process. No module is built here, so that a seed gives the same decoder whether the hub answers or not.

    Args:
        backbone: timm name.
        timeout: seconds.
        retry: try again although an earlier try in this process failed.
    """
    outcome = _FETCHED.get(backbone)
    if outcome is None or (retry and isinstance(outcome, str)):
        _FETCHED[backbone] = _fetch_bounded(backbone, timeout)
    return _FETCHED[backbone]


def _fetch_bounded(backbone: str, timeout: float) -> dict[str, Tensor] | str:
    answers: queue.Queue[dict[str, Tensor] | str] = queue.Queue()

    def work() -> None:
        try:
            answers.put(_fetch(backbone))
        except Exception as error:  # whatever the hub's client raises, the answer is the same: no weights
            text = str(error).strip() or type(error).__name__
            answers.put(f"{type(error).__name__}: {text.splitlines()[0]}")

    start = time.monotonic()
    threading.Thread(target=work, name=f"fetch-{backbone}", daemon=True).start()
    try:
        outcome = answers.get(timeout=timeout)
    except queue.Empty:
        outcome = f"no answer within {timeout:g} s"
    logger.info("pretrained weights of %s: %.1f s", backbone, time.monotonic() - start)
    return outcome


def _fetch(backbone: str) -> dict[str, Tensor]:
    """Read from the hub's cache or download; runs in the background thread."""
    config = timm.get_pretrained_cfg(backbone)
    if config is None or not (config.hf_hub_id or config.url):
        raise LookupError(f"timm has no pretrained weights for {backbone}")
    if not config.hf_hub_id:
        return torch.hub.load_state_dict_from_url(config.url, map_location="cpu", weights_only=True, progress=False)
    from huggingface_hub import constants, try_to_load_from_cache

    cached = try_to_load_from_cache(config.hf_hub_id, "model.safetensors")
    if isinstance(cached, str):
        return read_file(cached)[0]
    if not urllib.request.getproxies():  # with a proxy the name is resolved elsewhere
        parts = urlsplit(constants.ENDPOINT)
        try:
            socket.getaddrinfo(parts.hostname, parts.port or 443)
        except OSError as error:
            raise ConnectionError(f"{parts.hostname} cannot be resolved, no network? ({error})") from error
    return timm.models.load_state_dict_from_hf(config.hf_hub_id, weights_only=True)
