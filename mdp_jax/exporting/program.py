"""The function that is exported: photos in, label maps or logits out."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import export

from mdp_jax.checks import MOST_BATCH
from mdp_jax.configs import DataConfig, ModelConfig
from mdp_jax.errors import UserError
from mdp_jax.models import network
from mdp_jax.models.apply import apply_evaluation
from mdp_jax.models.normalisation import Normalise

OUTPUTS = ("labels", "logits")
MOST_SIDE = 65_500  # pixels, as of the photos that mdp predict takes

Program = Callable[[jax.Array], jax.Array]


@dataclasses.dataclass(frozen=True)
class Form:
    """What goes in and what comes out.

    Attributes:
      output: one of OUTPUTS. labels: int32 [B, H, W], ids of the classes. logits: float32 or wider [B, H, W, C].
      batch: number of photos; None: any.
      size: height and width of the photos; None: any.

    Raises:
      UserError: a value is impossible.
    """

    output: str = "labels"
    batch: int | None = None
    size: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if self.output not in OUTPUTS:
            raise UserError(f"--output {self.output}: expected one of {', '.join(OUTPUTS)}")
        if self.batch is not None and not 1 <= self.batch <= MOST_BATCH:
            raise UserError(
                f"--batch {self.batch}: expected a number of photos from 1 to {MOST_BATCH:,}, or no --batch for any "
                "number"
            )
        for side in self.size or ():
            if not 1 <= side <= MOST_SIDE:
                given = " ".join(map(str, self.size or ()))
                raise UserError(
                    f"--size {given}: expected height and width from 1 to {MOST_SIDE} pixels, or no --size for any size"
                )

    def image(self) -> jax.ShapeDtypeStruct:
        """The input: uint8 [B, H, W, 3]; what may be any number is symbolic."""
        names = [] if self.batch else ["batch"]
        names += [] if self.size else ["height", "width"]
        symbols = dict(zip(names, export.symbolic_shape(", ".join(names)), strict=True)) if names else {}
        batch = self.batch or symbols["batch"]
        height, width = self.size or (symbols["height"], symbols["width"])
        return jax.ShapeDtypeStruct((batch, height, width, 3), jnp.uint8)


def make(model: ModelConfig, data: DataConfig, variables: dict, classes: int, output: str, bands: bool) -> Program:
    """Makes the function.

    Args:
      model: the network under the classifier.
      data: how photos are normalised.
      variables: {"params", "batch_stats"}, which become constants of the program.
      classes: C.
      output: one of OUTPUTS.
      bands: whether the labels of a large photo of known size are found in bands of rows, one after another, as
        mdp predict does; otherwise the logits of all its pixels are in memory at one time.

    Returns:
      uint8 [B, H, W, 3], RGB at the size that the network sees, to the output at the same size. Pure.
    """
    segmenter = network.segmenter(model, classes)
    normalise = Normalise.of(data, model.compute_dtype)

    def program(image: jax.Array) -> jax.Array:
        logits = apply_evaluation(segmenter, variables, normalise(image))
        size = (image.shape[1], image.shape[2])
        if output == "logits":
            return network.upsample(logits, size)
        if bands and not any(export.is_symbolic_dim(side) for side in image.shape):
            return network.most_likely(logits, size)
        return jnp.argmax(network.upsample(logits, size), axis=-1).astype(jnp.int32)

    return program


def in_float32(model: ModelConfig, variables: dict) -> tuple[ModelConfig, dict]:
    """The same network in float32, with its weights on the host.

    Args:
      model: the network under the classifier.
      variables: {"params", "batch_stats"}.
    """
    weights = {name: variables[name] for name in ("params", "batch_stats")}
    cast = jax.tree.map(lambda leaf: np.asarray(leaf).astype(np.float32), weights)
    return dataclasses.replace(model, compute_dtype="float32", param_dtype="float32"), cast


def require_possible(program: Program, form: Form) -> None:
    """Checks, without computing, that a network takes what a form says.

    Args:
      program: the function.
      form: what goes in.

    Raises:
      UserError: it cannot be traced.
    """
    try:
        jax.eval_shape(program, form.image())
    except Exception as error:  # of any kind: a network may ask its size what a size that is not known cannot answer
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)[:200]
        if form.size and form.batch:
            given = " ".join(map(str, form.size))
            raise UserError(f"--size {given}: the network cannot have it ({reason}); expected another size") from None
        raise UserError(
            f"this network cannot be exported for photos of any number and size ({reason}); expected --size HEIGHT "
            "WIDTH and --batch NUMBER"
        ) from None
