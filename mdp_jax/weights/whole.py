"""A file of weights as a network that can be used as it is."""

import dataclasses
import os
from typing import NamedTuple

from mdp_jax.configs import DecoderConfig, ModelConfig
from mdp_jax.errors import UserError
from mdp_jax.models.layers import AUXILIARY
from mdp_jax.weights import architecture, files, layouts
from mdp_jax.weights.torch_weights import from_torch


class WholeNetwork(NamedTuple):
    """A network of a file.

    Attributes:
      model: the network under the classifier.
      params: {"backbone"}, and "decoder" and "classifier" where the file has them.
      batch_stats: running statistics of these parts.
      classes: of the classifier; 0 without one.
      notes: lines that say what was changed or left out.
    """

    model: ModelConfig
    params: dict
    batch_stats: dict
    classes: int
    notes: tuple[str, ...] = ()


def read_network(path: str | os.PathLike, model: ModelConfig | None = None) -> WholeNetwork:
    """The network of a file with the names of torchvision or MMSegmentation.

    Args:
      path: .safetensors, .pth or .pt.
      model: what the weights do not tell, output stride and rates; None = those of the published networks.

    Returns:
      The network, its arrays float32 or as they are in the file.

    Raises:
      UserError: a file that cannot be read, of another architecture, or values that are not finite.
    """
    state, notes = files.read(path)
    found = layouts.find(state, str(path))
    told = architecture.model_of(found)
    if model is None:
        rates = DecoderConfig().rates
        if found.decoder and len(told.decoder.rates) != len(rates):
            raise UserError(
                f"{path}: its decoder has {len(told.decoder.rates)} rates, which its weights do not tell; "
                "expected a model that says them"
            )
        model = dataclasses.replace(told, decoder=dataclasses.replace(told.decoder, rates=rates))
    parts = [part for part in found.parts() if part != AUXILIARY]
    layouts.require_sound_parts(found, parts)
    layouts.require_same(found, parts, architecture.expected_shapes(found, model, parts), model.backbone)
    arrays = found.of_parts(parts)
    params, batch_stats = from_torch(arrays)
    classes = params["classifier"]["conv"]["kernel"].shape[-1] if "classifier" in params else 0
    return WholeNetwork(model, params, batch_stats, classes, (*notes, *found.notes))
