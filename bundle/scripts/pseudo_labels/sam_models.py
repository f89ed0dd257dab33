"""Segment Anything models behind one face, whichever library they come from: pixels, embeddings, masks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from PIL import __version__ as pillow_version
from torch import Tensor, nn

from scripts.pseudo_labels.promptable import SegmenterError
from scripts.pseudo_labels.sam_weights import FAMILIES, load_model

# Of RGB in 0..255, in all models of Segment Anything (those of ImageNet).
MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


class SamAdapter(ABC):
    """A network that segments what it is asked for, and how its library is spoken to.

    Attributes:
        network: in float32.
        title: of its family.
        kind: what it is called in its library.
        side: height and width of its input in pixels; prompts are in these pixels too.
        cells: height and width of the grid of rough masks.
        padded: whether pictures keep their proportions, padded at the right and the bottom, and so do rough masks;
            otherwise each side is scaled, and the network scales rough masks itself.
    """

    network: nn.Module
    title: str
    kind: str
    side: int
    cells: int
    padded: bool

    @property
    @abstractmethod
    def settings(self) -> Any:
        """What embeddings depend on apart from weights and device; printable as JSON."""

    @abstractmethod
    def preprocess(self, image: NDArray[np.uint8]) -> tuple[Tensor, tuple[int, int]]:
        """The network's input (1, 3, side, side) for a picture (H, W, 3), and the picture's height and width in it.

        Raises:
            ValueError: too elongated, a side would become 0.
        """

    @abstractmethod
    def encode(self, pixels: Tensor) -> list[Tensor]:
        """Embeddings of a preprocessed picture, each (1, ...); several where the decoder sees finer features."""

    @abstractmethod
    def decode(
        self,
        embeddings: list[Tensor],
        points: Tensor | None = None,
        labels: Tensor | None = None,
        boxes: Tensor | None = None,
        masks: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """One mask for each of P prompts, as logits (P, 1, h, w) over the input, and their predicted IoU (P,).

        Args:
            embeddings: of one picture.
            points: (P, N, 2) x, y; all rows hold N > 0 points.
            labels: (P, N) 1 of the object, 0 not of it.
            boxes: (P, 4) x0, y0, x1, y1.
            masks: (P, 1, h, w) logits; (P, 1, cells, cells) where `padded`.
        """


class TransformersSam(SamAdapter):
    """SAM, SAM-HQ, SAM 2 or EdgeTAM of the transformers library."""

    def __init__(self, weights: str | Path) -> None:
        """Load a folder or a name on the hub.

        Raises:
            SegmenterError: as load_model; an image processor that does not fit the model.
        """
        self.network, self._processor, self.kind = load_model(weights)
        self.title = FAMILIES[self.kind][0]
        self.padded = self.kind in ("sam", "sam_hq")
        self.side = int(self.network.prompt_encoder.input_image_size)
        self.cells = 4 * int(self.network.prompt_encoder.image_embedding_size[0])
        found = tuple(self.preprocess(np.zeros((2, 2, 3), np.uint8))[0].shape)
        if found != (1, 3, self.side, self.side):
            raise SegmenterError(
                f"{weights}: its image processor makes pictures of shape {found}, the model takes "
                f"{(1, 3, self.side, self.side)}; take config.json and preprocessor_config.json (or "
                "processor_config.json) from the same model."
            )

    @property
    def settings(self) -> Any:
        import transformers

        config = {key: value for key, value in self.network.config.to_dict().items() if key != "_name_or_path"}
        return [config, self._processor.to_dict(), transformers.__version__]

    def preprocess(self, image: NDArray[np.uint8]) -> tuple[Tensor, tuple[int, int]]:
        # Without the hint a picture of 1 or 3 rows is taken for one with the channels first.
        features = self._processor(image, return_tensors="pt", input_data_format="channels_last")
        pixels = features["pixel_values"].float()
        sizes = features.get("reshaped_input_sizes")
        height, width = pixels.shape[-2:] if sizes is None else sizes[0].tolist()
        return pixels, (height, width)

    def encode(self, pixels: Tensor) -> list[Tensor]:
        found = self.network.get_image_embeddings(pixels)
        if self.kind == "sam_hq":
            return [found[0], *found[1]]
        return list(found) if isinstance(found, (list, tuple)) else [found]

    def decode(
        self,
        embeddings: list[Tensor],
        points: Tensor | None = None,
        labels: Tensor | None = None,
        boxes: Tensor | None = None,
        masks: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        count = next(len(value) for value in (points, boxes, masks) if value is not None)
        # Prompts go along the batch axis with the picture's embeddings repeated: along the library's axis for the
        # prompts of one picture, each of them cannot have a rough mask of its own.
        many = [embedding.expand(count, *embedding.shape[1:]) for embedding in embeddings]
        if self.padded:
            inputs: dict[str, Any] = {"image_embeddings": many[0]}
            if len(many) > 1:
                inputs["intermediate_embeddings"] = many[1:]
        else:
            inputs = {"image_embeddings": many}
        given = {"input_points": points, "input_labels": labels, "input_boxes": boxes}
        inputs |= {name: value[:, None] for name, value in given.items() if value is not None}
        if masks is not None:
            inputs["input_masks"] = masks
        output = self.network(**inputs, multimask_output=False)
        return output.pred_masks[:, 0].float(), output.iou_scores[:, 0, 0].float()


class KorniaSam(SamAdapter):
    """SAM or MobileSAM as kornia has them, with the weights of the original releases."""

    padded = True

    def __init__(self, network: nn.Module, kind: str) -> None:
        """Take kornia.models.sam.Sam with its weights; kind as load_released gives it."""
        self.network, self.kind = network, kind
        self.title = "MobileSAM" if kind == "mobile_sam" else "SAM"
        self.side = network.prompt_encoder.input_image_size[0]
        self.cells = network.prompt_encoder.mask_input_size[0]

    @property
    def settings(self) -> Any:
        import kornia

        return ["kornia", kornia.__version__, pillow_version, self.kind, self.side, MEAN, STD]

    def preprocess(self, image: NDArray[np.uint8]) -> tuple[Tensor, tuple[int, int]]:
        scale = self.side / max(image.shape[:2])
        height, width = (int(size * scale + 0.5) for size in image.shape[:2])
        # Pillow, as in the releases: averages where it shrinks, and rounds to whole levels.
        resized = Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR)
        pixels = torch.from_numpy(np.array(resized)).permute(2, 0, 1).float()
        pixels = (pixels - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
        # Padding comes last: it is the mean colour, not black.
        return F.pad(pixels, (0, self.side - width, 0, self.side - height))[None], (height, width)

    def encode(self, pixels: Tensor) -> list[Tensor]:
        return [self.network.image_encoder(pixels)]

    def decode(
        self,
        embeddings: list[Tensor],
        points: Tensor | None = None,
        labels: Tensor | None = None,
        boxes: Tensor | None = None,
        masks: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        # To points without a box the prompt encoder adds the point of label -1 by itself, as the releases do.
        sparse, dense = self.network.prompt_encoder(
            points=None if points is None else (points, labels), boxes=boxes, masks=masks
        )
        logits, iou = self.network.mask_decoder(
            image_embeddings=embeddings[0],
            image_pe=self.network.prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=False,
        )
        return logits, iou[:, 0]


def open_sam(weights: str | Path) -> SamAdapter:
    """A file of an original release by kornia, anything else by the transformers library.

    Raises:
        SegmenterError: see load_released and TransformersSam.
    """
    path = Path(weights).expanduser()
    # A relative path to a file that is not there has the form of a hub name, but no model is called so there.
    if path.is_dir() or not (path.is_file() or path.suffix in (".pt", ".pth", ".safetensors")):
        return TransformersSam(weights)
    from scripts.pseudo_labels.sam_released import load_released

    return KorniaSam(*load_released(path))
